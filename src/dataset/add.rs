//! Adding examples: as many messages as it takes, visible all at once or not at all.

use std::{collections::BTreeSet, time::SystemTime};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{
    Dataset, Example, Extent,
    claim::{Claim, Writing},
    example::Fingerprint,
    example_key,
};
use crate::{
    error::{Error, Result},
    registry::{Model, Receipt},
    store::{Batch, Tree},
    taxonomy::{ClassId, ClassName},
};

/// Adds examples to a model. What is pushed is written behind the end of the model's examples, where nobody
/// sees it; [`commit`](Self::commit) moves the end. Dropped without a commit, it removes what it wrote, which
/// takes about as long as writing did; what a crash leaves of it is removed by the next start.
#[derive(Debug)]
pub struct AddSession {
    claim: Claim,
    /// Where the examples end once this is committed.
    extent: Extent,
    added: u64,
    duplicates: u64,
    conflicts: u64,
    fresh: BTreeSet<Fingerprint>,
    now: SystemTime,
    /// Where the stored examples end while this is not committed; none once committing has begun.
    uncommitted: Option<u64>,
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
    /// Examples stored although the same text was there with another label.
    #[serde(default)]
    pub conflicts: u64,
}

impl Dataset {
    /// Begins to add examples to a model.
    ///
    /// # Errors
    /// [`Error::Conflict`] with reason `ADDING` or `CORRECTING` while another call writes its examples;
    /// [`Error::NotFound`] once it was deleted.
    pub fn add(&self, model: &Model) -> Result<AddSession> {
        let mut claim = self.claim(model, Writing::Adding)?;
        claim.seen()?;
        let extent = self.extent(model.uid)?;
        let (fresh, now, uncommitted) = (BTreeSet::new(), SystemTime::now(), Some(extent.end));
        Ok(AddSession { claim, extent, added: 0, duplicates: 0, conflicts: 0, fresh, now, uncommitted })
    }
}

impl AddSession {
    /// Writes examples, except those that the model has already or that were pushed before.
    ///
    /// # Errors
    /// [`Error::Exhausted`] when the model would hold too many; what the store says. Drop the session then.
    pub fn push(&mut self, examples: Vec<(String, ClassName)>) -> Result<()> {
        self.claim.check_deleted()?;
        let mut batch = Batch::new();
        for (text, label) in examples {
            let (fingerprint, split) = Fingerprint::and_split(&text, &label);
            if self.claim.seen()?.contains(&fingerprint) || !self.fresh.insert(fingerprint) {
                self.duplicates += 1;
                continue;
            }
            let most = self.claim.dataset.most;
            if self.extent.count >= most {
                return Err(Error::Exhausted {
                    reason: "EXAMPLES",
                    description: format!(
                        "{} would hold more than {most} examples (max_examples); none of this call was stored",
                        self.claim.model.name()
                    ),
                    retry_after: None,
                });
            }
            self.extent.end += 1;
            self.extent.count += 1;
            self.added += 1;
            let held = self.claim.seen()?;
            if fingerprint.conflicts_with(held) || fingerprint.conflicts_with(&self.fresh) {
                self.conflicts += 1;
            }
            let (id, assigned, settled) = (self.extent.end, Vec::new(), ClassId(0));
            let example = Example { id, text, label, assigned, settled, split, created: self.now };
            batch.put(Tree::Examples, example_key(self.claim.uid, example.id), example.to_record());
        }
        self.claim.dataset.store.append(batch)
    }

    /// Makes everything pushed visible and durable, with the receipt. An empty outcome of the receipt is filled with
    /// [`Added`] as JSON.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the model was deleted meanwhile; what the store says.
    pub fn commit(mut self, receipt: Option<Receipt>) -> Result<Added> {
        let added = Added {
            added: self.added,
            duplicates: self.duplicates,
            total: self.extent.count,
            conflicts: self.conflicts,
        };
        // Where a commit fails, it may be durable all the same: the next start knows whether it is.
        self.uncommitted = None;
        self.claim.commit(self.extent, receipt, &added)?;
        if let Some(seen) = &mut self.claim.seen {
            seen.extend(std::mem::take(&mut self.fresh));
        }
        Ok(added)
    }
}

impl Drop for AddSession {
    fn drop(&mut self) {
        let Some(end) = self.uncommitted.filter(|end| self.extent.end > *end) else { return };
        // Of a model that was deleted nothing is left to remove, and the lock of its state may be held.
        if self.claim.check_deleted().is_err() {
            return;
        }
        if let Err(cause) = self.claim.dataset.remove_behind(self.claim.uid, end) {
            warn!(%cause, model = %self.claim.model, "examples that were not committed stay until the next start");
        }
    }
}
