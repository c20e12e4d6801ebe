//! The labelled examples of the models, kept in the store.
//!
//! ```text
//! examples  e | uid       Extent: how far the examples reach
//!           x | uid | id  Example
//!           a | uid | class | chunk  AssignedExamples: those that went to the class at a split
//! ```
//!
//! An example counts once the extent of its model reaches it.

mod add;
mod assign;
mod example;
mod features;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

pub use add::{AddSession, Added};
pub use example::{Example, Split};
pub use features::{EncoderId, FeatureCache, Features};

use crate::{
    error::Result,
    proto::storage,
    registry::{
        key::{number, owned, owner, sweep_owners},
        record::decode,
    },
    store::{Batch, Store, Tree},
    taxonomy::ClassName,
};
use add::lock;
use assign::ASSIGNED;
use example::Fingerprint;

/// Most examples of a model.
pub const MAX_EXAMPLES: u64 = 1_000_000;

const EXTENTS: u8 = b'e';
const EXAMPLES: u8 = b'x';

/// The examples of all models. Clones share it.
#[derive(Debug, Clone)]
pub struct Dataset {
    store: Store,
    states: Arc<Mutex<HashMap<u64, Arc<ModelState>>>>,
}

/// Counts of a model's examples.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Examples that train.
    pub train: u64,
    /// Examples that validate.
    pub validation: u64,
    /// The same by label.
    pub labels: BTreeMap<ClassName, LabelStats>,
}

/// Counts of one label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LabelStats {
    /// Examples that train.
    pub train: u64,
    /// Examples that validate.
    pub validation: u64,
}

/// How far the examples of a model reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Extent {
    /// Id of the newest.
    end: u64,
    /// How many there are.
    count: u64,
}

type ModelState = Mutex<State>;

/// What is known of a model beside what is stored.
#[derive(Debug, Default)]
struct State {
    /// A session adds to it.
    adding: bool,
    /// Its examples were removed, and uids are never reused.
    deleted: bool,
    /// What it holds, once a session needed to know; with the session while one adds.
    seen: Option<HashSet<Fingerprint>>,
}

impl Dataset {
    /// Opens the examples of a store and removes those of models that are gone: what a crash left of a deletion.
    ///
    /// # Errors
    /// What the store says when it cannot be written.
    pub fn open(store: Store, live_uids: &BTreeSet<u64>) -> Result<Self> {
        for kind in [EXTENTS, EXAMPLES, ASSIGNED] {
            sweep_owners(&store, Tree::Examples, kind, live_uids)?;
        }
        Ok(Self { store, states: Arc::default() })
    }

    /// How many examples a model has.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record.
    pub fn count(&self, uid: u64) -> Result<u64> {
        Ok(self.extent(uid)?.count)
    }

    /// Examples of a model with ids above `after`, all or those of a label, in the order they came.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record.
    pub fn list(
        &self,
        uid: u64,
        label: Option<&ClassName>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Example>> {
        self.examples(uid, after)?
            .filter(|example| match (example, label) {
                (Ok(example), Some(label)) => example.label == *label,
                _ => true,
            })
            .take(limit)
            .collect()
    }

    /// All examples of a model, in the order they came.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record.
    pub fn all(&self, uid: u64) -> Result<Vec<Example>> {
        self.examples(uid, 0)?.collect()
    }

    /// Counts by label and by side of the split. Reads all examples.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record.
    pub fn stats(&self, uid: u64) -> Result<Stats> {
        let mut stats = Stats::default();
        for example in self.examples(uid, 0)? {
            let example = example?;
            let label = stats.labels.entry(example.label).or_default();
            match example.split {
                Split::Train => {
                    stats.train += 1;
                    label.train += 1;
                }
                Split::Validation => {
                    stats.validation += 1;
                    label.validation += 1;
                }
            }
        }
        Ok(stats)
    }

    /// Removes the examples of a model that was deleted. A session that adds to it cannot commit any more.
    ///
    /// # Errors
    /// What the store says when it cannot be written; the next start removes the rest.
    pub fn delete_all(&self, uid: u64) -> Result<()> {
        let state = self.state(uid);
        {
            let mut state = lock(&state);
            state.deleted = true;
            state.seen = None;
        }
        let mut batch = Batch::new();
        batch.delete(Tree::Examples, extent_key(uid));
        self.store.commit(batch)?;
        for kind in [EXAMPLES, ASSIGNED] {
            self.store.delete_prefix(Tree::Examples, &owner(kind, uid))?;
        }
        Ok(())
    }

    fn state(&self, uid: u64) -> Arc<ModelState> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.entry(uid).or_default().clone()
    }

    fn extent(&self, uid: u64) -> Result<Extent> {
        let Some(bytes) = self.store.get(Tree::Examples, &extent_key(uid))? else {
            return Ok(Extent::default());
        };
        let record: storage::Extent = decode("the extent of the examples", &bytes)?;
        Ok(Extent { end: record.end, count: record.count })
    }

    /// The committed examples with ids above `after`.
    fn examples(&self, uid: u64, after: u64) -> Result<impl Iterator<Item = Result<Example>> + use<>> {
        let end = self.extent(uid)?.end;
        let mut assigned = self.assigned(uid)?;
        let scan = self.store.scan(Tree::Examples, &owner(EXAMPLES, uid), Some(&example_key(uid, after)));
        Ok(scan
            .map(|entry| entry.map(|(key, bytes)| (number(&key), bytes)))
            .take_while(move |entry| entry.as_ref().map_or(true, |(id, _)| *id <= end))
            .map(move |entry| {
                let (id, bytes) = entry?;
                let assigned = assigned.remove(&id).unwrap_or_default();
                Ok(Example { assigned, ..Example::from_record(id, &bytes)? })
            }))
    }
}

fn extent_key(uid: u64) -> Vec<u8> {
    owner(EXTENTS, uid)
}

fn example_key(uid: u64, id: u64) -> Vec<u8> {
    owned(EXAMPLES, uid, id)
}
