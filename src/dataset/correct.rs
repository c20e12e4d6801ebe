//! Correcting stored examples: another label, or none at all; all that were chosen at once, or nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Dataset, Example, Extent, Filter, Meanings,
    claim::{Claim, Writing},
    example::Fingerprint,
    held,
};
use crate::{
    error::Result,
    proto::storage,
    registry::{Model, Receipt},
    taxonomy::ClassName,
};

/// A correction that is worked out and waits for [`commit`](Self::commit). Dropped without, it changes nothing. Nobody
/// else can write the examples meanwhile.
#[derive(Debug)]
pub struct Correction<T> {
    /// What it does.
    pub outcome: T,
    claim: Claim,
    extent: Extent,
    changes: Vec<storage::ExampleChange>,
    /// What the model holds no more.
    gone: Vec<Fingerprint>,
    /// What it holds instead.
    came: BTreeSet<Fingerprint>,
}

/// What a relabelling does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Relabelled {
    /// Examples that got the label.
    pub relabelled: u64,
    /// Examples that were removed instead: the same text with the label is there.
    pub duplicates: u64,
    /// Examples that had the label, and belong to the class that it means.
    pub unchanged: u64,
    /// Examples of the model afterwards.
    pub total: u64,
}

/// What a deletion does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Deleted {
    /// Examples that were removed.
    pub deleted: u64,
    /// Examples of the model afterwards.
    pub total: u64,
}

impl Dataset {
    /// Works out how the examples that a filter matches get a label. Ids and sides of the split stay. Of several with the
    /// same text the one that had the label stays, else the oldest. One that a split sent elsewhere than its label says now
    /// comes back by the same label.
    ///
    /// # Errors
    /// [`Error::Conflict`] with reason `ADDING` or `CORRECTING` while another call writes the examples;
    /// [`Error::NotFound`] for an id that no example has, and once the model was deleted.
    ///
    /// [`Error::Conflict`]: crate::error::Error::Conflict
    /// [`Error::NotFound`]: crate::error::Error::NotFound
    pub fn relabel(
        &self,
        model: &Model,
        filter: &Filter,
        meanings: &Meanings,
        to: &ClassName,
    ) -> Result<Correction<Relabelled>> {
        let mut correction = self.correction::<Relabelled>(model, filter)?;
        for example in self.matching(model.uid, filter, meanings, 0)? {
            let example = example?;
            // What is said now counts for more than what a split said before, where it says one class.
            let relabelled = match meanings.class(to) {
                Some(_) => example.settled_as(to),
                None => Example { label: to.clone(), ..example.clone() },
            };
            if example.label == *to {
                if meanings.class_id_of(&relabelled) == meanings.class_id_of(&example) {
                    correction.outcome.unchanged += 1;
                } else {
                    correction.change(&relabelled)?;
                }
                continue;
            }
            let (before, after) = (Fingerprint::of(&example), Fingerprint::of(&relabelled));
            if correction.claim.seen()?.contains(&after) || !correction.came.insert(after) {
                correction.remove(example.id, before)?;
                correction.outcome.duplicates += 1;
            } else {
                correction.change(&relabelled)?;
                correction.gone.push(before);
            }
        }
        correction.outcome.total = correction.extent.count;
        Ok(correction)
    }

    /// Works out the removal of the examples that a filter matches. Their ids are not given out again.
    ///
    /// # Errors
    /// As [`Dataset::relabel`].
    pub fn delete(&self, model: &Model, filter: &Filter, meanings: &Meanings) -> Result<Correction<Deleted>> {
        let mut correction = self.correction::<Deleted>(model, filter)?;
        for example in self.matching(model.uid, filter, meanings, 0)? {
            let example = example?;
            correction.remove(example.id, Fingerprint::of(&example))?;
            correction.outcome.deleted += 1;
        }
        correction.outcome.total = correction.extent.count;
        Ok(correction)
    }

    fn correction<T: Default>(&self, model: &Model, filter: &Filter) -> Result<Correction<T>> {
        let claim = self.claim(model, Writing::Correcting)?;
        self.check_ids(model.uid, &model.id, filter)?;
        Ok(Correction {
            outcome: T::default(),
            claim,
            extent: self.whole_extent(model.uid)?,
            changes: Vec::new(),
            gone: Vec::new(),
            came: BTreeSet::new(),
        })
    }
}

impl Correction<Relabelled> {
    fn change(&mut self, example: &Example) -> Result<()> {
        self.claim.dataset.cancel.take_memory(held(example))?;
        let (id, example) = (example.id, Some(example.record()));
        self.changes.push(storage::ExampleChange { id, example });
        self.outcome.relabelled += 1;
        Ok(())
    }
}

impl<T> Correction<T> {
    fn remove(&mut self, id: u64, fingerprint: Fingerprint) -> Result<()> {
        self.claim.dataset.cancel.take_memory(size_of::<storage::ExampleChange>() as u64)?;
        self.changes.push(storage::ExampleChange { id, example: None });
        self.extent.count -= 1;
        self.gone.push(fingerprint);
        Ok(())
    }
}

impl<T: Serialize> Correction<T> {
    /// Makes it so, durably and at once for all who read, with the receipt. An empty outcome of the receipt is filled with
    /// the outcome as JSON.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::error::Error::NotFound) when the model was deleted meanwhile; what the store says.
    pub fn commit(mut self, receipt: Option<Receipt>) -> Result<T> {
        let written = self.claim.dataset.write_journal(self.claim.uid, self.changes);
        self.extent.journal = written.inspect_err(|_| self.claim.dataset.clear_journal(self.claim.uid))?;
        self.claim.commit(self.extent, receipt, &self.outcome)?;
        if let Some(seen) = &mut self.claim.seen {
            for fingerprint in &self.gone {
                seen.remove(fingerprint);
            }
            seen.extend(self.came);
        }
        Ok(self.outcome)
    }
}
