//! Publication: the one way a version comes into being.

use std::{sync::Arc, time::SystemTime};

use prost::Message as _;
use tracing::debug;

use super::{
    AliasName, JobId, JobRecord, Lineage, Mode, Model, ModelId, Origin, Receipt, Registry, Report, Version,
    checkpoint, key, manifest, receipt::Made,
};
use crate::{
    error::{Error, Result},
    model::Checkpoint,
    proto::storage,
    store::{Batch, Tree},
    taxonomy::{LeafGroups, LeafId, Manifest, Revision, VersionNumber},
};

/// A version to be stored, with everything that must appear together with it.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The model.
    pub model: ModelId,
    /// Its tensors.
    pub tensors: Tensors,
    /// The manifest it answers in.
    pub manifest: PublishedManifest,
    /// The version it was made from.
    pub parent: Option<VersionNumber>,
    /// How it came to be.
    pub origin: Origin,
    /// For a trained version: how.
    pub mode: Option<Mode>,
    /// Why that mode, or what the change was.
    pub reason: String,
    /// The job that made it.
    pub job: Option<JobId>,
    /// The order of a job that is accepted with it, in the same commit; the version names that job.
    pub new_job: Option<String>,
    /// What training measured.
    pub report: Option<Report>,
    /// For an imported version: what it has of those it was made from.
    pub lineage: Option<Lineage>,
    /// Leaves that come with it, at once, and whose rows were fitted to examples.
    pub fitted: Vec<LeafId>,
    /// Whether the `serving` alias shall point to it.
    pub promote: bool,
    /// If given, what the `serving` alias must still point to.
    pub expected_serving: Option<Option<VersionNumber>>,
    /// A job to store in the same commit, with the new version appended to its list.
    pub job_record: Option<JobRecord>,
    /// A receipt to store in the same commit.
    pub receipt: Option<Receipt>,
    /// What else to store in the same commit.
    pub also: Batch,
}

/// Where the tensors of a version come from.
#[derive(Debug, Clone)]
pub enum Tensors {
    /// They are new; those that are stored already, under whatever version, are not written again.
    New(Checkpoint),
    /// They are those of this version; nothing is written.
    Same(VersionNumber),
}

/// The manifest that a version answers in.
#[derive(Debug, Clone)]
pub enum PublishedManifest {
    /// A new one, whose revision is the model's next.
    New(Box<Manifest>),
    /// One that is stored already.
    Existing(Revision),
    /// That of an imported version: the first of the model, or one that is stored already.
    Imported(Box<Manifest>),
}

impl Registry {
    /// Stores a version: first what is new of its tensors, then, in one commit, the version, its manifest, the alias,
    /// the job and the receipt. All of that is durable on return, or nothing of it is visible.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the serving alias moved (`SERVING_MOVED`) or another manifest took the revision
    /// (`REVISION_TAKEN`); [`Error::Precondition`] when an imported manifest is not the model's (`MANIFEST_MISMATCH`);
    /// [`Error::NotFound`] for a model, version, manifest or job that is gone; [`Error::Internal`]
    /// when the tensors cannot answer in the manifest.
    pub fn publish(&self, publication: Publication) -> Result<Version> {
        let mut writer = self.writer();
        let mut model = self.model(&publication.model)?;
        check_serving(&model, publication.expected_serving)?;
        // A job goes with its model, so a model made again under the name never gets the old one's versions.
        let mut job = publication.job_record.map(|job| self.job(job.id).map(|_| job)).transpose()?;

        let mut batch = publication.also;
        let manifest = match publication.manifest {
            PublishedManifest::New(new) => {
                check_revision(&model, new.revision)?;
                put_manifest(&mut batch, &mut model, *new)
            }
            PublishedManifest::Existing(revision) => self.manifest_of(&model, revision)?,
            PublishedManifest::Imported(first) if (model.latest_version, model.latest_revision) == (0, 0) => {
                put_manifest(&mut batch, &mut model, *first)
            }
            PublishedManifest::Imported(same) => {
                self.check_same_manifest(&model, &same)?;
                Arc::new(*same)
            }
        };
        let tensors = self.tensors(&model, publication.tensors, publication.parent, &manifest)?;
        let accepted = publication.new_job.map(|order| self.accept_job(&mut batch, &model.id, order));
        let accepted = accepted.transpose()?.map(|job| job.id);

        model.latest_version += 1;
        let mut version = Version {
            model: model.id.clone(),
            number: VersionNumber(model.latest_version),
            parent: publication.parent,
            revision: manifest.revision,
            origin: publication.origin,
            mode: publication.mode,
            reason: publication.reason,
            job: accepted.or(publication.job),
            report: publication.report,
            lineage: publication.lineage,
            fitted: publication.fitted,
            size_bytes: checkpoint::size_bytes(&tensors),
            parameter_count: checkpoint::parameter_count(&tensors),
            created: SystemTime::now(),
            aged_from: self.service_time(),
        };
        version.lineage = self.lineage_to_store(&model, &version, &manifest)?;
        batch.put(
            Tree::Catalog,
            key::version(model.uid, version.number),
            version.to_record().encode_to_vec(),
        );
        batch.put(Tree::Catalog, key::version_in(model.uid, version.revision, version.number), Vec::new());
        batch.put(Tree::Catalog, key::checkpoint(model.uid, version.number), tensors.encode_to_vec());
        if publication.promote {
            model.aliases.insert(AliasName::serving(), version.number);
        }
        put_model(&mut batch, &mut model);
        if let Some(job) = &mut job {
            job.versions.push(version.number);
            job.put(&mut batch);
        }
        let made = || Made::within(&model, version.name());
        self.add_receipt(&mut writer, &mut batch, publication.receipt, made)?;
        self.commit(writer, batch)?;
        self.manifests.keep(model.uid, &manifest);
        Ok(version)
    }

    /// The record of a version's tensors, whose blobs are durable.
    fn tensors(
        &self,
        model: &Model,
        tensors: Tensors,
        parent: Option<VersionNumber>,
        manifest: &Manifest,
    ) -> Result<storage::Checkpoint> {
        match tensors {
            Tensors::New(new) => {
                LeafGroups::new(manifest, &new.leaves)?;
                // One that was deleted names no blobs.
                let before = parent.and_then(|parent| self.checkpoint_record(model, parent).ok());
                let record = checkpoint::write(&self.store, &self.arrays, &new, before.as_ref())?;
                debug!("tensors durable");
                Ok(record)
            }
            Tensors::Same(number) => {
                let record = self.checkpoint_record(model, number)?;
                let leaves: Vec<LeafId> = record.leaves.iter().copied().map(LeafId).collect();
                LeafGroups::new(manifest, &leaves)?;
                Ok(record)
            }
        }
    }
}

/// Adds a manifest, which is the newest of the model from then on, to a batch, and returns it as it is once that is stored.
fn put_manifest(batch: &mut Batch, model: &mut Model, manifest: Manifest) -> Arc<Manifest> {
    model.latest_revision = manifest.revision.0;
    let (record, base) = manifest::to_shortest_record(model.uid, &manifest);
    batch.put(Tree::Catalog, key::manifest(model.uid, manifest.revision), record.encode_to_vec());
    Arc::new(Manifest { classes: manifest.classes.stored_as(base), ..manifest })
}

/// Adds a changed model to a batch, with a new sequence.
pub(super) fn put_model(batch: &mut Batch, model: &mut Model) {
    model.sequence += 1;
    batch.put(Tree::Catalog, key::model(&model.id), model.to_record().encode_to_vec());
}

fn check_serving(model: &Model, expected: Option<Option<VersionNumber>>) -> Result<()> {
    let serving = model.serving();
    if expected.is_none_or(|expected| expected == serving) {
        return Ok(());
    }
    let now = serving.map_or_else(|| "no version".to_owned(), |number| format!("version {number}"));
    Err(Error::Conflict {
        reason: "SERVING_MOVED",
        subject: model.id.name(),
        description: format!(
            "{} was changed meanwhile and serves {now} now; look at it and repeat",
            model.id.name()
        ),
    })
}

fn check_revision(model: &Model, revision: Revision) -> Result<()> {
    if revision.0 == model.latest_revision + 1 {
        return Ok(());
    }
    Err(Error::Conflict {
        reason: "REVISION_TAKEN",
        subject: model.id.manifest_name(revision),
        description: format!(
            "the classes of {} were changed meanwhile: its newest manifest has revision {}; look at it and repeat",
            model.id.name(),
            model.latest_revision
        ),
    })
}
