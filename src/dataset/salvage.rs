//! What is done without when it is damaged: single examples, and what can be told from the others.

use super::{ASSIGNED, Dataset, EXAMPLES, EXTENTS, Extent, example_key, extent_key};
use crate::{
    error::Result,
    registry::key::{number, owner},
    store::{Batch, Store, Tree},
};

/// A record that can be done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispensable {
    /// The uid of its model.
    pub uid: u64,
    /// What it is.
    pub kind: Kind,
}

/// What a record that can be done without is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The example with an id.
    Example(u64),
    /// How far the examples reach: told from them by [`Dataset::rebuild_extent`].
    Extent,
    /// Which examples went to a class when it was split: they belong to it by their label then, or to none.
    Assigned,
}

impl Dispensable {
    /// What a record of the examples is; none where nothing can stand in for it.
    pub fn of(record: &[u8]) -> Option<Self> {
        let kind = match *record.first()? {
            EXAMPLES => Kind::Example(number(record)),
            EXTENTS => Kind::Extent,
            ASSIGNED => Kind::Assigned,
            _ => return None,
        };
        Some(Self { uid: number(record.get(1..9)?), kind })
    }
}

impl Dataset {
    /// Makes the extent of a model's examples anew, from the examples that are there: those of a call that never ended may be
    /// among them, and a correction that a crash interrupted stays half done.
    ///
    /// # Errors
    /// What the store says when it cannot be written.
    pub fn rebuild_extent(store: &Store, uid: u64) -> Result<()> {
        let ids: Vec<u64> = whole_ids(store, uid).collect();
        let extent = Extent { end: ids.last().copied().unwrap_or(0), count: ids.len() as u64, journal: 0 };
        let mut batch = Batch::freeing();
        batch.put(Tree::Examples, extent_key(uid), extent.to_record());
        store.commit(batch)
    }

    /// Removes those of a model's examples that cannot be read, of these ids, and counts the others. Returns the removed.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] where the extent cannot be read; what the store says when it cannot be written.
    pub fn give_up_damaged(&self, uid: u64, ids: &[u64]) -> Result<Vec<u64>> {
        let extent = self.whole_extent(uid)?;
        // Opening may have ended an interrupted correction, which writes examples anew.
        let damaged = |id: &u64| self.store.get(Tree::Examples, &example_key(uid, *id)).is_err();
        let lost: Vec<u64> = ids.iter().copied().filter(damaged).collect();
        let count = whole_ids(&self.store, uid).filter(|id| *id <= extent.end).count() as u64;
        let mut batch = Batch::freeing();
        lost.iter().for_each(|id| batch.delete(Tree::Examples, example_key(uid, *id)));
        if count != extent.count {
            batch.put(Tree::Examples, extent_key(uid), Extent { count, ..extent }.to_record());
        }
        if !batch.is_empty() {
            self.store.commit(batch)?;
        }
        Ok(lost)
    }
}

/// Ids of the examples that are whole, ascending, whether the extent reaches them or not.
fn whole_ids(store: &Store, uid: u64) -> impl Iterator<Item = u64> + use<> {
    store.scan(Tree::Examples, &owner(EXAMPLES, uid), None).flatten().map(|(key, _)| number(&key))
}
