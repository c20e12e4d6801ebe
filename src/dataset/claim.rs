//! The right to write the examples of a model, which one call has at a time.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockReadGuard},
};

use serde::Serialize;

use super::{Dataset, Extent, example::Fingerprint, extent_key};
use crate::{
    error::{Error, Resource, Result},
    fair_lock::FairLock,
    registry::{Model, ModelId, Receipt},
    store::{Batch, Tree},
};

/// Bytes of a fingerprint in a set, about.
const FINGERPRINT_BYTES: u64 = 2 * size_of::<Fingerprint>() as u64;

/// What is known of a model beside what is stored.
#[derive(Debug, Default)]
pub(super) struct ModelState {
    state: Mutex<State>,
    /// Taken to read where examples are read and to write where stored ones change, so that who reads sees all of a
    /// change or nothing. Taken after the lock of the state, where both are.
    view: FairLock,
}

#[derive(Debug, Default)]
struct State {
    /// What writes to it now.
    writing: Option<Writing>,
    /// Its examples were removed, and uids are never reused.
    deleted: bool,
}

/// What a call writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// New examples.
    Adding,
    /// Other labels, or none, for stored ones.
    Correcting,
}

/// The right to write. Given back when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) dataset: Dataset,
    pub(super) model: ModelId,
    pub(super) uid: u64,
    state: Arc<ModelState>,
    /// What the model holds, where it is known. On loan from the data set.
    pub(super) seen: Option<BTreeSet<Fingerprint>>,
}

impl Dataset {
    /// Claims the examples of a model.
    ///
    /// # Errors
    /// [`Error::Conflict`] with reason `ADDING` or `CORRECTING` while another call writes them; [`Error::NotFound`] once
    /// the model was deleted.
    pub(super) fn claim(&self, model: &Model, writing: Writing) -> Result<Claim> {
        let state = self.state(model.uid);
        {
            let mut state = state.lock();
            state.check_deleted(&model.id)?;
            match state.writing {
                Some(other) => return Err(other.conflict(&model.id)),
                None => state.writing = Some(writing),
            }
        }
        let seen = self.seen().take(model.uid);
        Ok(Claim { dataset: self.clone(), model: model.id.clone(), uid: model.uid, state, seen })
    }
}

impl ModelState {
    /// Marks the model as deleted: no claim can commit any more.
    pub(super) fn delete(&self) {
        self.lock().deleted = true;
    }

    /// Keeps stored examples from changing while they are read.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, ()> {
        self.view.read()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed by single assignments only, so a panic left nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check_deleted(&self, model: &ModelId) -> Result<()> {
        if self.deleted { Err(Error::not_found(Resource::Model, model.name())) } else { Ok(()) }
    }
}

impl Writing {
    fn conflict(self, model: &ModelId) -> Error {
        let (reason, what) = match self {
            Self::Adding => ("ADDING", "adding examples to"),
            Self::Correcting => ("CORRECTING", "relabelling or deleting examples of"),
        };
        let name = model.name();
        let description = format!("another call is {what} {name}; repeat when it is done");
        Error::Conflict { reason, subject: name, description }
    }
}

impl Claim {
    /// What the model holds, read from the store where it is not known yet.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged record.
    pub(super) fn seen(&mut self) -> Result<&mut BTreeSet<Fingerprint>> {
        let seen = match self.seen.take() {
            Some(seen) => seen,
            None => {
                let count = self.dataset.count(self.uid)?;
                self.dataset.cancel.take_memory(count * FINGERPRINT_BYTES)?;
                let examples = self.dataset.examples(self.uid, 0)?;
                examples.map(|example| Ok(Fingerprint::of(&example?))).collect::<Result<_>>()?
            }
        };
        Ok(self.seen.insert(seen))
    }

    /// Refuses once the model was deleted.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(super) fn check_deleted(&self) -> Result<()> {
        self.state.lock().check_deleted(&self.model)
    }

    /// Makes durable how far the examples reach, and with it everything written for that, with the receipt, whose empty
    /// outcome is filled with the answer as JSON. Does what is in the journal.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the model was deleted meanwhile; what the store says.
    pub(super) fn commit<T: Serialize>(
        &self,
        extent: Extent,
        receipt: Option<Receipt>,
        answer: &T,
    ) -> Result<()> {
        // What comes in was refused before, where there is no room for it.
        let mut batch = Batch::freeing();
        batch.put(Tree::Examples, extent_key(self.uid), extent.to_record());
        if let Some(mut receipt) = receipt {
            if receipt.outcome.is_empty() {
                receipt.outcome =
                    serde_json::to_string(answer).map_err(|error| Error::Internal(error.to_string()))?;
            }
            receipt.put(&mut batch);
        }
        // Held over the commit, so that a deletion of the model comes before it or finds all of it.
        let state = self.state.lock();
        state.check_deleted(&self.model)?;
        if extent.journal == 0 {
            return self.dataset.store.commit(batch);
        }
        let _nobody_reads = self.state.view.write();
        self.dataset.store.commit(batch)?;
        self.dataset.apply_journal(self.uid)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Under the lock, so that nothing is kept of a model that is deleted meanwhile, and the next claim finds it.
        let mut state = self.state.lock();
        state.writing = None;
        if let Some(seen) = self.seen.take().filter(|_| !state.deleted) {
            self.dataset.seen().keep(self.uid, seen);
        }
    }
}
