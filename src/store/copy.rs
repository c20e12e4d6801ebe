//! Copying all of the store while others read and write it.
//!
//! sled has no snapshots. So a copy first walks over everything, while each write notes what it touched; what was touched is
//! read again, until little is left; and the last of it is read while nobody writes, for a moment. Whoever applies the entries
//! in their order has the store as it was in that moment.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError, RwLockReadGuard},
};

use super::{BlobId, Store, Tree, blob, cell::split_key};
use crate::{
    error::{Error, Result},
    fair_lock::FairLock,
};

/// So few touched values may be read while writers wait.
const FEW: usize = 64;

/// Walks over what was touched before writers have to wait for however much there is: more is written than can be copied.
const WALKS: usize = 16;

/// A piece of a copy. A later one replaces what earlier ones said of the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// What stands under a key.
    Value {
        /// Where.
        tree: Tree,
        /// Under which key.
        key: Vec<u8>,
        /// What.
        value: Vec<u8>,
    },
    /// Nothing stands under a key.
    Removed {
        /// Where.
        tree: Tree,
        /// Which key.
        key: Vec<u8>,
    },
    /// Nothing stands under any key that begins so.
    RemovedAll {
        /// Where.
        tree: Tree,
        /// How the keys begin.
        prefix: Vec<u8>,
    },
}

/// Where writes pass, for a copy to see them or to keep them waiting.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Held shared by each write, and alone while a copy ends.
    pub(super) writing: FairLock,
    /// What was written since it was last looked at; none while nobody copies.
    touched: Mutex<Option<Touched>>,
}

#[derive(Debug, Default)]
struct Touched {
    keys: BTreeSet<(Tree, Vec<u8>)>,
    prefixes: BTreeSet<(Tree, Vec<u8>)>,
}

/// A copy that is being made. Dropping it ends the notes.
struct Copying<'a>(&'a Gate);

impl Gate {
    /// To be held during a write, and until it was noted.
    pub(super) fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.writing.read()
    }

    /// Notes keys that were written or removed, or may have been.
    pub(super) fn touch<'a>(&self, writes: impl Iterator<Item = (Tree, &'a [u8])>) {
        if let Some(touched) = &mut *self.lock() {
            touched.keys.extend(writes.map(|(tree, key)| (tree, key.to_vec())));
        }
    }

    /// Notes that what begins so was removed, or may have been.
    pub(super) fn touch_prefix(&self, tree: Tree, prefix: &[u8]) {
        if let Some(touched) = &mut *self.lock() {
            touched.prefixes.insert((tree, prefix.to_vec()));
        }
    }

    fn begin(&self) -> Result<Copying<'_>> {
        let mut touched = self.lock();
        if touched.is_some() {
            let description = "another backup of this daemon is being made; wait for it to end".to_owned();
            return Err(Error::Conflict {
                reason: "BACKUP_RUNNING",
                subject: "the data directory".to_owned(),
                description,
            });
        }
        *touched = Some(Touched::default());
        Ok(Copying(self))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Touched>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Copying<'_> {
    /// What was touched since this was last asked.
    fn take(&self) -> Touched {
        self.0.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

impl Store {
    /// Hands over all values, each of them checked, as they stand together when this returns. Writers wait only for the last of
    /// it; readers never.
    ///
    /// # Errors
    /// [`Error::Conflict`] with reason `BACKUP_RUNNING` while another copy is made; [`Error::Corrupt`] naming what is damaged;
    /// whatever `put` returns.
    pub fn copy(&self, mut put: impl FnMut(Entry) -> Result<()>) -> Result<()> {
        let gate = &self.inner.gate;
        let copying = gate.begin()?;
        let everything = Tree::ALL.into_iter().map(|tree| (tree, Vec::new())).collect();
        let mut touched = Touched { keys: BTreeSet::new(), prefixes: everything };
        let mut walks = 0;
        while walks < WALKS && !touched.is_few() {
            self.walk(&touched, &mut |tree, key, entry| match entry {
                Ok(entry) => put(entry),
                // A writer may have come between two cells of the value: it is read again.
                Err(Error::Corrupt { .. }) => {
                    gate.touch([(tree, key)].into_iter());
                    Ok(())
                }
                Err(error) => Err(error),
            })?;
            touched = copying.take();
            walks += 1;
        }
        let mut last = Vec::new();
        {
            let _alone = gate.writing.write();
            touched.extend(copying.take());
            self.walk(&touched, &mut |_, _, entry| {
                last.push(entry?);
                Ok(())
            })?;
        }
        last.into_iter().try_for_each(put)
    }

    /// Reads what was touched. Prefixes come first, as keys below them may have been written again.
    fn walk(
        &self,
        touched: &Touched,
        put: &mut impl FnMut(Tree, &[u8], Result<Entry>) -> Result<()>,
    ) -> Result<()> {
        for (tree, prefix) in &touched.prefixes {
            put(*tree, prefix, Ok(Entry::RemovedAll { tree: *tree, prefix: prefix.clone() }))?;
            for cell in self.sled(*tree).scan_prefix(prefix).keys() {
                let cell = cell.map_err(|error| self.read_error(error))?;
                let (key, number) = split_key(*tree, &cell)?;
                if number == 0 {
                    put(*tree, key, self.entry(*tree, key))?;
                }
            }
        }
        for (tree, key) in &touched.keys {
            put(*tree, key, self.entry(*tree, key))?;
        }
        Ok(())
    }

    /// What stands under a key now.
    pub(super) fn entry(&self, tree: Tree, key: &[u8]) -> Result<Entry> {
        let Some(value) = self.get(tree, key)? else { return Ok(Entry::Removed { tree, key: key.to_vec() }) };
        if let (Tree::Chunks, Ok(hash)) = (tree, key.try_into()) {
            blob::check(BlobId(hash), &value)?;
        }
        Ok(Entry::Value { tree, key: key.to_vec(), value })
    }
}

impl Touched {
    fn is_few(&self) -> bool {
        self.prefixes.is_empty() && self.keys.len() <= FEW
    }

    fn extend(&mut self, later: Self) {
        self.keys.extend(later.keys);
        self.prefixes.extend(later.prefixes);
    }
}
