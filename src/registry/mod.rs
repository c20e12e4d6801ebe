//! Models with their versions, manifests, aliases, jobs and receipts, kept in the store.
//!
//! A version appears whole or not at all: [`Registry::publish`] is the one way it comes into being. What is stored of a
//! model hangs on its uid and counts only while the model's record is there; so deleting the record deletes all of it at
//! once, and the bytes go afterwards.

mod archive;
mod arrays;
mod backup;
mod catalog;
mod checkpoint;
mod columns;
mod delete;
mod exchange;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod job;
pub(crate) mod key;
mod lineage;
mod manifest;
mod manifest_reader;
mod manifests;
mod model;
mod page;
mod publish;
mod quotas;
mod receipt;
pub(crate) mod record;
mod report;
mod retention;
mod revisions;
mod salvage;
mod service_time;
mod vectors;
mod version;

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

pub use archive::{Archive, Encoded, MAX_ARCHIVE_BYTES, Source, check_size};
pub use checkpoint::CheckpointId;
pub use job::{JobId, JobRecord, JobState};
pub use lineage::Lineage;
pub use model::{AliasName, MAX_NAME_BYTES, Model, ModelId, Selector};
pub use publish::{Publication, PublishedManifest, Tensors};
pub use quotas::Quotas;
pub use receipt::{Kept, RECEIPT_LIFETIME, Receipt};
pub use report::{Epoch, LostClass, RejectionPoint, Report};
pub use retention::Retention;
pub use salvage::{Dispensable, GivenUp};
pub use vectors::{Design, FileName, PretrainedVectors};
pub use version::{Mode, Origin, Version};

use arrays::Arrays;
use manifests::Manifests;
use service_time::ServiceClock;

pub use crate::store::{Batch, Scratch};

use crate::{
    error::Result,
    proto::storage,
    store::{BlobId, Store, Tree},
};

/// The catalog of models. Share it through an `Arc`.
#[derive(Debug)]
pub struct Registry {
    store: Store,
    /// Held by whoever reads a record in order to change it, and while blobs are put or swept.
    writer: Mutex<Writer>,
    arrays: Arrays,
    manifests: Arc<Manifests>,
    quotas: Quotas,
    clock: ServiceClock,
}

/// What only the writer may touch.
#[derive(Debug)]
struct Writer {
    receipts_swept: Instant,
}

impl Registry {
    /// Opens the catalog of a store and tidies up after the last run: jobs it left unended are interrupted,
    /// receipts that expired are dropped, and what no model or version owns any more is removed. Where the
    /// store takes no writes, all that stays as it is.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record; what the store says when it cannot be written.
    pub fn open(store: Store) -> Result<Self> {
        let writer = Mutex::new(Writer { receipts_swept: Instant::now() });
        let (arrays, manifests, quotas, clock) = Default::default();
        let mut registry = Self { store, writer, arrays, manifests, quotas, clock };
        registry.start_clock()?;
        if !registry.store.is_writable() {
            return Ok(registry);
        }
        registry.interrupt_jobs()?;
        let mut batch = Batch::freeing();
        registry.drop_expired_receipts(&mut batch, registry.service_time())?;
        if !batch.is_empty() {
            registry.store.commit(batch)?;
        }
        let live = registry.uids()?;
        for kind in key::OWNED {
            key::sweep_owners(&registry.store, Tree::Catalog, kind, &live)?;
        }
        registry.index_versions()?;
        let removed = registry.sweep_blobs()?;
        if removed > 0 {
            tracing::info!(removed, "removed blobs that no version names");
        }
        Ok(registry)
    }

    /// The uids of all models.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record.
    pub fn uids(&self) -> Result<BTreeSet<u64>> {
        self.all_models().map(|model| model.map(|model| model.uid)).collect()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // What it guards is changed by single assignments, so a panic left nothing half done.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies what the writer has prepared, and returns when it is durable. The next writer need not wait for that: it sees what
    /// was applied, and where it is durable, so is that.
    fn commit(&self, writer: MutexGuard<'_, Writer>, batch: Batch) -> Result<()> {
        self.store.apply(batch)?;
        drop(writer);
        self.store.sync()
    }

    /// The numbers handed out so far.
    fn counters(&self) -> Result<storage::Counters> {
        let bytes = self.store.get(Tree::Catalog, key::COUNTERS)?;
        bytes.map_or_else(|| Ok(storage::Counters::default()), |bytes| record::decode("the counters", &bytes))
    }

    /// Removes the blobs that no checkpoint names. The writer must be held, except on opening.
    fn sweep_blobs(&self) -> Result<u64> {
        self.store.sweep_blobs(&self.live_blobs()?)
    }

    /// The blobs that checkpoints name.
    fn live_blobs(&self) -> Result<HashSet<BlobId>> {
        let mut live = HashSet::new();
        for entry in self.store.scan(Tree::Catalog, &[key::CHECKPOINTS], None) {
            let (_, bytes) = entry?;
            live.extend(checkpoint::blobs("a checkpoint", &record::decode("a checkpoint", &bytes)?)?);
        }
        Ok(live)
    }
}
