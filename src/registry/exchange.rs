//! Versions that go from one model to another, of this daemon or of another.

use std::sync::Arc;

use super::{
    Archive, Batch, Model, ModelId, Origin, Publication, PublishedManifest, Receipt, Registry, Scratch,
    Selector, Tensors, Version,
};
use crate::{
    error::{Error, Result},
    model::Checkpoint,
    taxonomy::Manifest,
};

impl Registry {
    /// A version as it can be imported elsewhere.
    ///
    /// # Errors
    /// As [`Registry::resolve`]; [`Error::Corrupt`] when it is damaged.
    pub fn export(&self, id: &ModelId, selector: &Selector) -> Result<Archive> {
        let version = self.version(id, self.resolve(id, selector)?)?;
        Ok(Archive {
            name: version.name(),
            checkpoint: self.checkpoint(id, version.number)?,
            manifest: self.manifest(id, version.revision)?.portable(),
            lineage: self.lineage(&version)?,
            mode: version.mode,
            report: version.report,
        })
    }

    /// An empty file on the disk of the store, for what is uploaded.
    ///
    /// # Errors
    /// As [`Store::scratch`](crate::store::Store::scratch).
    pub fn scratch(&self) -> Result<Scratch> {
        self.store.scratch()
    }

    /// Stores a version that was exported. No alias points to it.
    ///
    /// A model that never had a version takes over the manifest, under its revision, and goes on numbering classes and leaves
    /// where that ends. Another model must hold that revision with the same content.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the model; [`Error::Precondition`] with reason `PRESET_MISMATCH` for a network that the model
    /// does not train, or `MANIFEST_MISMATCH` for classes that are not the model's; [`Error::Exhausted`] with reason `CLASSES`.
    pub fn import(&self, id: &ModelId, archive: Archive, receipt: Option<Receipt>) -> Result<Version> {
        let Archive { name, checkpoint, manifest, mode, report, lineage } = archive;
        check_preset(&self.model(id)?, &checkpoint)?;
        self.check_classes(id, None, &manifest)?;
        self.publish(Publication {
            model: id.clone(),
            tensors: Tensors::New(checkpoint),
            manifest: PublishedManifest::Imported(Box::new(manifest)),
            parent: None,
            origin: Origin::Import,
            mode,
            reason: format!("imported from {name}"),
            job: None,
            new_job: None,
            report,
            lineage: Some(lineage),
            fitted: Vec::new(),
            promote: false,
            expected_serving: None,
            job_record: None,
            receipt,
            also: Batch::new(),
        })
    }

    /// Refuses a manifest that is not what a model holds under its revision.
    pub(super) fn check_same_manifest(&self, model: &Model, imported: &Manifest) -> Result<()> {
        let name = model.id.manifest_name(imported.revision);
        let fault = match self
            .manifest_of(model, imported.revision)
            .map(Arc::unwrap_or_clone)
            .map(Manifest::portable)
        {
            Ok(own) if own == *imported => return Ok(()),
            Ok(_) => format!("{name} is another one than that of the imported version"),
            Err(Error::NotFound { .. }) => {
                format!(
                    "{} does not have revision {}, in which the imported version answers",
                    model.id.name(),
                    imported.revision
                )
            }
            Err(error) => return Err(error),
        };
        Err(Error::Precondition {
            reason: "MANIFEST_MISMATCH",
            subject: name,
            description: format!("{fault}; import it into a new model, whose classes it then brings"),
        })
    }
}

fn check_preset(model: &Model, checkpoint: &Checkpoint) -> Result<()> {
    let preset = checkpoint.architecture.preset;
    if preset == model.preset {
        return Ok(());
    }
    let name = model.id.name();
    Err(Error::Precondition {
        reason: "PRESET_MISMATCH",
        description: format!(
            "{name} trains the preset {:?}, and the imported version is of the preset {preset:?}; import it into a model \
             of that preset",
            model.preset
        ),
        subject: name,
    })
}
