//! Changes of the classes on a living model: right at once through a version that shares the tensors, then a job that
//! learns.

use std::time::{Instant, SystemTime};

use tracing::info;

use super::{Jobs, TrainOptions, answered::Answered};
use crate::{
    error::{Error, Result},
    registry::{
        JobId, JobRecord, Model, ModelId, Origin, Publication, PublishedManifest, Receipt, Tensors, Version,
    },
    taxonomy::{Manifest, Provenance, Revision, VersionNumber},
};

/// A merge as asked for.
#[derive(Debug, Clone)]
pub struct MergeOrder {
    /// The model.
    pub model: ModelId,
    /// The classes to merge, by name or by `#` and id.
    pub classes: Vec<String>,
    /// Name of the merged class.
    pub into: String,
    /// Why.
    pub reason: String,
    /// The revision that the serving manifest must have, if given.
    pub expected_revision: Option<u64>,
}

/// A change that stands.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The new manifest.
    pub manifest: Manifest,
    /// The version that answers in it.
    pub version: Version,
    /// The job that learns.
    pub job: Option<JobRecord>,
}

/// What a change would do.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The manifest it would make.
    pub manifest: Manifest,
    /// Accuracy on the validation examples before and after; none without such examples.
    pub accuracy: Option<(f64, f64)>,
    /// Validation examples that counted.
    pub validation_examples: u64,
}

/// What answers now.
struct Serving {
    model: Model,
    number: VersionNumber,
    manifest: Manifest,
}

impl Jobs {
    /// Merges classes: publishes a version with the same tensors that answers in the new manifest and, with `learn`,
    /// queues a job that learns by transfer.
    ///
    /// # Errors
    /// As [`Manifest::merge`]; [`Error::Conflict`] where a training runs or the revision is not the expected one;
    /// [`Error::Precondition`] for a model without a version.
    pub fn merge(&self, order: &MergeOrder, learn: bool, receipt: Option<Receipt>) -> Result<Applied> {
        let started = Instant::now();
        let _changing = self.shared.lock_changes();
        let serving = self.serving(&order.model, order.expected_revision)?;
        let manifest = serving.merged(order)?;
        self.shared.make_way(&order.model)?;
        let learnable = manifest.active().count() >= 2 && self.shared.dataset.count(serving.model.uid)? > 0;
        let job = match learn && learnable {
            true => Some(self.shared.registry.new_job(&order.model, None)?),
            false => None,
        };
        let version = match self.publish(
            &serving,
            Origin::Instant,
            serving.number,
            &manifest,
            job.as_ref().map(|job| job.id),
            receipt,
        ) {
            Ok(version) => version,
            Err(cause) => {
                job.map(|job| self.shared.fail_unqueued(job, &cause)).transpose()?;
                return Err(cause);
            }
        };
        info!(
            model = %order.model,
            revision = %manifest.revision,
            version = %version.number,
            micros = started.elapsed().as_micros(),
            "classes merged"
        );
        let job = match job {
            Some(job) => Some(self.shared.enqueue(job, TrainOptions::default(), true)?),
            None => None,
        };
        Ok(Applied { manifest, version, job })
    }

    /// What [`Jobs::merge`] would do. The accuracies are exact: the merged probabilities are sums of those of today.
    ///
    /// # Errors
    /// As [`Jobs::merge`].
    pub fn preview_merge(&self, order: &MergeOrder) -> Result<Preview> {
        let serving = self.serving(&order.model, order.expected_revision)?;
        let manifest = serving.merged(order)?;
        let examples = self.shared.dataset.all(serving.model.uid)?;
        let answered = Answered::by(&self.shared, &order.model, serving.number, examples)?;
        let before = answered.score(&serving.manifest, &serving.manifest)?;
        let after = answered.score(&manifest, &manifest)?;
        let accuracy = before.accuracy().zip(after.accuracy());
        Ok(Preview { manifest, accuracy, validation_examples: after.counted })
    }

    /// Undoes the latest change of the classes: the classes, the tensors and so the answers are those from before it.
    ///
    /// # Errors
    /// [`Error::Precondition`] where there is nothing to undo; [`Error::Conflict`] as for [`Jobs::merge`].
    pub fn undo(
        &self,
        model: &ModelId,
        reason: String,
        expected_revision: Option<u64>,
        receipt: Option<Receipt>,
    ) -> Result<Applied> {
        let _changing = self.shared.lock_changes();
        let serving = self.serving(model, expected_revision)?;
        let Some(point) = serving.manifest.undo else {
            return Err(Error::Precondition {
                reason: "NOTHING_TO_UNDO",
                subject: model.manifest_name(serving.manifest.revision),
                description: format!(
                    "{} has no change of the classes to undo (revision {}: {})",
                    model.name(),
                    serving.manifest.revision,
                    serving.manifest.describe()
                ),
            });
        };
        self.shared.make_way(model)?;
        let target = self.shared.registry.manifest(model, point.revision)?;
        let revision = Revision(serving.model.latest_revision + 1);
        let manifest = serving.manifest.undo(&target, revision, reason, SystemTime::now());
        let version = self.publish(&serving, Origin::Undo, point.version, &manifest, None, receipt)?;
        info!(model = %model, revision = %manifest.revision, version = %version.number, "change undone");
        Ok(Applied { manifest, version, job: None })
    }

    /// Stores and promotes a version with the tensors of `tensors` that answers in `manifest`.
    fn publish(
        &self,
        serving: &Serving,
        origin: Origin,
        tensors: VersionNumber,
        manifest: &Manifest,
        job: Option<JobId>,
        receipt: Option<Receipt>,
    ) -> Result<Version> {
        let version = self.shared.registry.publish(Publication {
            model: serving.model.id.clone(),
            tensors: Tensors::Same(tensors),
            manifest: PublishedManifest::New(manifest.clone()),
            parent: Some(tensors),
            origin,
            mode: None,
            reason: manifest.describe(),
            job,
            report: None,
            promote: true,
            expected_serving: Some(Some(serving.number)),
            job_record: None,
            receipt,
        })?;
        (self.shared.promoted)(&version);
        Ok(version)
    }

    fn serving(&self, id: &ModelId, expected_revision: Option<u64>) -> Result<Serving> {
        let registry = &self.shared.registry;
        let number = registry.resolve(id, &crate::registry::Selector::Serving)?;
        let model = registry.model(id)?;
        let revision = registry.version(id, number)?.revision;
        if let Some(expected) = expected_revision.filter(|expected| *expected != revision.0) {
            return Err(Error::Conflict {
                reason: "REVISION_MISMATCH",
                subject: id.manifest_name(revision),
                description: format!(
                    "expected_revision is {expected}, but {} is at revision {revision}; read the manifest and repeat",
                    id.name()
                ),
            });
        }
        let manifest = registry.manifest_to_change(&model, revision)?;
        Ok(Serving { model, number, manifest })
    }
}

impl Serving {
    fn merged(&self, order: &MergeOrder) -> Result<Manifest> {
        let provenance = Provenance {
            revision: Revision(self.model.latest_revision + 1),
            serving: self.number,
            reason: order.reason.clone(),
            created: SystemTime::now(),
        };
        self.manifest.merge(&order.classes, &order.into, provenance)
    }
}
