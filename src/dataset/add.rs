//! Adding examples: as many messages as it takes, visible all at once or not at all.

use std::{
    collections::HashSet,
    sync::{Arc, MutexGuard, PoisonError},
    time::SystemTime,
};

use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::{
    Dataset, Example, Extent, MAX_EXAMPLES, ModelState, State, example::Fingerprint, example_key, extent_key,
};
use crate::{
    error::{Error, Resource, Result},
    proto::storage,
    registry::{Model, ModelId, Receipt},
    store::{Batch, Tree},
    taxonomy::ClassName,
};

/// Adds examples to a model. What is pushed is written behind the end of the model's examples, where nobody sees it;
/// [`commit`](Self::commit) moves the end. Dropped without a commit, it leaves nothing that counts: the next session
/// overwrites it.
#[derive(Debug)]
pub struct AddSession {
    dataset: Dataset,
    model: ModelId,
    uid: u64,
    state: Arc<ModelState>,
    /// Where the examples end once this is committed.
    extent: Extent,
    added: u64,
    duplicates: u64,
    /// What the model held before. On loan from the state.
    seen: Option<HashSet<Fingerprint>>,
    fresh: HashSet<Fingerprint>,
    now: SystemTime,
}

/// What a session did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Examples stored.
    pub added: u64,
    /// Examples left out: the same text with the same label was there.
    pub duplicates: u64,
    /// Examples of the model now.
    pub total: u64,
}

impl Dataset {
    /// Begins to add examples to a model.
    ///
    /// # Errors
    /// [`Error::Conflict`] with reason `ADDING` while another session adds to it; [`Error::NotFound`] once it was
    /// deleted.
    pub fn add(&self, model: &Model) -> Result<AddSession> {
        let state = self.state(model.uid);
        let seen = {
            let mut state = lock(&state);
            check_deleted(&state, &model.id)?;
            if state.adding {
                return Err(Error::Conflict {
                    reason: "ADDING",
                    subject: model.id.name(),
                    description: format!(
                        "another call is adding examples to {}; repeat when it is done",
                        model.id.name()
                    ),
                });
            }
            state.adding = true;
            state.seen.take()
        };
        // From here on, dropping the session lets the next one in.
        let mut session = AddSession {
            dataset: self.clone(),
            model: model.id.clone(),
            uid: model.uid,
            state,
            extent: Extent::default(),
            added: 0,
            duplicates: 0,
            seen,
            fresh: HashSet::new(),
            now: SystemTime::now(),
        };
        session.extent = self.extent(model.uid)?;
        if session.seen.is_none() {
            let examples = self.examples(model.uid, 0)?;
            let seen = examples
                .map(|example| example.map(|e| Fingerprint::and_split(&e.text, &e.label).0))
                .collect::<Result<_>>()?;
            session.seen = Some(seen);
        }
        Ok(session)
    }
}

impl AddSession {
    /// Writes examples, except those that the model has already or that were pushed before.
    ///
    /// # Errors
    /// [`Error::Exhausted`] when the model would hold too many; what the store says. Drop the session then.
    pub fn push(&mut self, examples: Vec<(String, ClassName)>) -> Result<()> {
        check_deleted(&lock(&self.state), &self.model)?;
        let mut batch = Batch::new();
        for (text, label) in examples {
            let (fingerprint, split) = Fingerprint::and_split(&text, &label);
            let known = self.seen.as_ref().is_some_and(|seen| seen.contains(&fingerprint));
            if known || !self.fresh.insert(fingerprint) {
                self.duplicates += 1;
                continue;
            }
            if self.extent.count >= MAX_EXAMPLES {
                return Err(Error::Exhausted {
                    reason: "EXAMPLES",
                    description: format!(
                        "{} would hold more than {MAX_EXAMPLES} examples; none of this call was stored",
                        self.model.name()
                    ),
                    retry_after: None,
                });
            }
            self.extent.end += 1;
            self.extent.count += 1;
            self.added += 1;
            let (id, assigned, created) = (self.extent.end, Vec::new(), self.now);
            let example = Example { id, text, label, assigned, split, created };
            batch.put(Tree::Examples, example_key(self.uid, example.id), example.to_record());
        }
        self.dataset.store.append(batch)
    }

    /// Makes everything pushed visible and durable, with the receipt. An empty outcome of the receipt is filled with
    /// [`Added`] as JSON.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the model was deleted meanwhile; what the store says.
    pub fn commit(mut self, receipt: Option<Receipt>) -> Result<Added> {
        let added = Added { added: self.added, duplicates: self.duplicates, total: self.extent.count };
        let record = storage::Extent { end: self.extent.end, count: self.extent.count };
        let mut batch = Batch::new();
        batch.put(Tree::Examples, extent_key(self.uid), record.encode_to_vec());
        if let Some(mut receipt) = receipt {
            if receipt.outcome.is_empty() {
                receipt.outcome =
                    serde_json::to_string(&added).map_err(|error| Error::Internal(error.to_string()))?;
            }
            receipt.put(&mut batch);
        }
        {
            // Held over the commit, so that a deletion comes before it or finds all of it.
            let state = lock(&self.state);
            check_deleted(&state, &self.model)?;
            self.dataset.store.commit(batch)?;
        }
        if let Some(seen) = &mut self.seen {
            seen.extend(self.fresh.drain());
        }
        Ok(added)
    }
}

impl Drop for AddSession {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.adding = false;
        state.seen = self.seen.take().filter(|_| !state.deleted);
    }
}

pub(super) fn lock(state: &ModelState) -> MutexGuard<'_, State> {
    // Changed by single assignments only, so a panic left nothing half done.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_deleted(state: &State, model: &ModelId) -> Result<()> {
    if state.deleted { Err(Error::not_found(Resource::Model, model.name())) } else { Ok(()) }
}
