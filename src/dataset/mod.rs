//! The labelled examples of the models, kept in the store.
//!
//! ```text
//! examples  e | uid       Extent: how far the examples reach
//!           x | uid | id  Example
//!           j | uid | n   Journal: what a correction changes
//!           a | uid | class | chunk  AssignedExamples: those that went to the class at a split
//! ```
//!
//! An example counts once the extent of its model reaches it.

mod add;
mod assign;
mod claim;
mod conflicts;
mod correct;
mod example;
mod features;
mod filter;
mod hold_out;
mod journal;
mod meanings;
mod salvage;
mod seen;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rayon::prelude::*;
use tracing::info;

pub use add::{AddSession, Added};
pub use conflicts::Conflicts;
pub use correct::{Correction, Deleted, Relabelled};
pub use example::{Example, Split};
pub use features::{EncoderId, FeatureCache, Features};
pub use filter::{Filter, NormalText};
pub use hold_out::{SideCounts, SmallClass, TRAIN_BEFORE_HOLD_OUT, hold_out};
pub use meanings::Meanings;
pub use salvage::{Dispensable, Kind};

use crate::{
    cancel::Cancellation,
    error::Result,
    proto::storage,
    registry::{
        key::{number, owned, owner, sweep_owners},
        record::decode,
    },
    store::{Batch, Store, Tree},
    taxonomy::{ClassId, ClassName},
};
use assign::ASSIGNED;
use claim::ModelState;
use hold_out::ClassCounts;
use journal::JOURNAL;
use seen::Seen;

/// Most examples of a model.
pub const MAX_EXAMPLES: u64 = 1_000_000;

/// Ids of which a thread reads the examples at a time.
const BLOCK: u64 = 2048;

const EXTENTS: u8 = b'e';
const EXAMPLES: u8 = b'x';

/// The examples of all models. Clones share it.
#[derive(Debug, Clone)]
pub struct Dataset {
    store: Store,
    states: Arc<Mutex<HashMap<u64, Arc<ModelState>>>>,
    /// What the models hold that were written last. Taken after the lock of a state, where both are.
    seen: Arc<Mutex<Seen>>,
    /// Most examples of a model.
    most: u64,
    /// Asked before each example that is read, and for the memory of what is kept.
    cancel: Cancellation,
}

/// Counts of a model's examples, by the side of the split that the hash gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Examples that train.
    pub train: u64,
    /// Examples that validate.
    pub validation: u64,
    /// The same by label.
    pub labels: BTreeMap<ClassName, SideCounts>,
    /// Names of the classes whose examples all train, whatever side they are counted on, in their order; the label where it is no class yet.
    pub small_classes: Vec<ClassName>,
}

/// How far the examples of a model reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Extent {
    /// Id of the newest.
    end: u64,
    /// How many there are.
    count: u64,
    /// Records of the journal that are to be applied still.
    journal: u64,
}

impl Dataset {
    /// Opens the examples of a store, removes those of models that are gone, which is what a crash left of a
    /// deletion, and those that were written and not committed, and ends corrections that a crash
    /// interrupted. Where the store takes no writes, all that stays, and none of it is visible.
    ///
    /// # Errors
    /// What the store says when it cannot be written.
    pub fn open(store: Store, live_uids: &BTreeSet<u64>) -> Result<Self> {
        let dataset = Self {
            store,
            states: Arc::default(),
            seen: Arc::default(),
            most: MAX_EXAMPLES,
            cancel: Cancellation::default(),
        };
        if !dataset.store.is_writable() {
            return Ok(dataset);
        }
        for kind in [EXTENTS, EXAMPLES, ASSIGNED, JOURNAL] {
            sweep_owners(&dataset.store, Tree::Examples, kind, live_uids)?;
        }
        for uid in live_uids {
            dataset.apply_journal(*uid)?;
            let removed = dataset.remove_behind(*uid, dataset.extent(*uid)?.end)?;
            if removed > 0 {
                info!(uid, removed, "removed examples that were written and not committed");
            }
        }
        Ok(dataset)
    }

    /// The same with a limit to the examples of a model, at most [`MAX_EXAMPLES`].
    #[must_use]
    pub fn with_limit(self, most: u64) -> Self {
        Self { most: most.min(MAX_EXAMPLES), ..self }
    }

    /// The same for one call: whatever reads examples ends with the error of the token once that is cancelled.
    #[must_use]
    pub fn until(&self, cancel: Cancellation) -> Self {
        Self { cancel, ..self.clone() }
    }

    /// How many examples a model has.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record.
    pub fn count(&self, uid: u64) -> Result<u64> {
        Ok(self.extent(uid)?.count)
    }

    /// Examples of a model that a filter matches, with ids above `after`, in the order they came.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record.
    pub fn list(
        &self,
        uid: u64,
        filter: &Filter,
        meanings: &Meanings,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Example>> {
        let state = self.state(uid);
        let _nothing_changes = state.read();
        let page = self.matching(uid, filter, meanings, after)?.take(limit);
        let taken = page.map(|example| {
            let example = example?;
            self.cancel.take_memory(held(&example))?;
            Ok(example)
        });
        taken.collect()
    }

    /// All examples of a model, in the order they came.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record; that of the memory which the call may take.
    pub fn all(&self, uid: u64) -> Result<Vec<Example>> {
        let state = self.state(uid);
        let _nothing_changes = state.read();
        let (end, assigned) = (self.whole_extent(uid)?.end, self.assigned(uid)?);
        let sent = |id| assigned.get(&id).cloned().unwrap_or_default();
        let blocks: Vec<Vec<Example>> = (0..end.div_ceil(BLOCK))
            .into_par_iter()
            .map(|block| {
                let examples = self.between(uid, block * BLOCK, end.min((block + 1) * BLOCK), sent);
                let examples = examples.collect::<Result<Vec<Example>>>()?;
                self.cancel.take_memory(examples.iter().map(held).sum())?;
                Ok(examples)
            })
            .collect::<Result<_>>()?;
        Ok(blocks.into_iter().flatten().collect())
    }

    /// Counts by label and by side of the split, and the small classes by what examples mean. Reads all examples.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record.
    pub fn stats(&self, uid: u64, meanings: &Meanings) -> Result<Stats> {
        let state = self.state(uid);
        let _nothing_changes = state.read();
        let (mut stats, mut all, mut classes) =
            (Stats::default(), SideCounts::default(), ClassCounts::default());
        for example in self.examples(uid, 0)? {
            let example = example?;
            classes.add(&example, meanings);
            all.add(example.split);
            stats.labels.entry(example.label).or_default().add(example.split);
        }
        (stats.train, stats.validation, stats.small_classes) = (all.train, all.validation, classes.small());
        Ok(stats)
    }

    /// Removes the examples of a model that was deleted. A call that writes them cannot commit any more.
    ///
    /// # Errors
    /// What the store says when it cannot be written; the next start removes the rest.
    pub fn delete_all(&self, uid: u64) -> Result<()> {
        self.state(uid).delete();
        self.seen().take(uid);
        let mut batch = Batch::freeing();
        batch.delete(Tree::Examples, extent_key(uid));
        self.store.commit(batch)?;
        for kind in [EXAMPLES, ASSIGNED, JOURNAL] {
            self.store.delete_prefix(Tree::Examples, &owner(kind, uid))?;
        }
        Ok(())
    }

    /// Removes the examples of a model with ids above `end`, which are not committed. Nobody may write
    /// examples of it meanwhile.
    fn remove_behind(&self, uid: u64, end: u64) -> Result<u64> {
        self.store.delete_after(Tree::Examples, &owner(EXAMPLES, uid), &example_key(uid, end))
    }

    fn state(&self, uid: u64) -> Arc<ModelState> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.entry(uid).or_default().clone()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extent(&self, uid: u64) -> Result<Extent> {
        let Some(bytes) = self.store.get(Tree::Examples, &extent_key(uid))? else {
            return Ok(Extent::default());
        };
        let record: storage::Extent = decode("the extent of the examples", &bytes)?;
        Ok(Extent { end: record.end, count: record.count, journal: record.journal })
    }

    /// The committed examples with these ids, in their order; those that are not there are left out.
    fn examples_of(&self, uid: u64, ids: Vec<u64>) -> Result<impl Iterator<Item = Result<Example>> + use<>> {
        let (dataset, end) = (self.clone(), self.whole_extent(uid)?.end);
        let mut assigned = self.assigned(uid)?;
        Ok(ids.into_iter().filter(move |id| *id <= end).filter_map(move |id| {
            if let Err(cancelled) = dataset.cancel.check() {
                return Some(Err(cancelled));
            }
            let record = dataset.store.get(Tree::Examples, &example_key(uid, id)).transpose()?;
            let assigned = assigned.remove(&id).unwrap_or_default();
            let example = record.and_then(|bytes| Example::from_record(id, &bytes));
            Some(example.map(|example| example.sent_to(assigned)))
        }))
    }

    /// The committed examples with ids above `after`.
    fn examples(&self, uid: u64, after: u64) -> Result<impl Iterator<Item = Result<Example>> + use<>> {
        let end = self.whole_extent(uid)?.end;
        let mut assigned = self.assigned(uid)?;
        Ok(self.between(uid, after, end, move |id| assigned.remove(&id).unwrap_or_default()))
    }

    /// The examples with ids above `after` and up to `end`; `sent` says where splits sent each.
    fn between<F: FnMut(u64) -> Vec<ClassId>>(
        &self,
        uid: u64,
        after: u64,
        end: u64,
        mut sent: F,
    ) -> impl Iterator<Item = Result<Example>> + use<F> {
        let scan = self.store.scan(Tree::Examples, &owner(EXAMPLES, uid), Some(&example_key(uid, after)));
        let cancel = self.cancel.clone();
        scan.map(|entry| entry.map(|(key, bytes)| (number(&key), bytes)))
            .take_while(move |entry| entry.as_ref().map_or(true, |(id, _)| *id <= end))
            .map(move |entry| {
                cancel.check()?;
                let (id, bytes) = entry?;
                Ok(Example::from_record(id, &bytes)?.sent_to(sent(id)))
            })
    }
}

/// Bytes that an example takes in memory, and again in what is made of it.
fn held(example: &Example) -> u64 {
    2 * (size_of::<Example>() + example.text.len()) as u64
}

fn extent_key(uid: u64) -> Vec<u8> {
    owner(EXTENTS, uid)
}

fn example_key(uid: u64, id: u64) -> Vec<u8> {
    owned(EXAMPLES, uid, id)
}
