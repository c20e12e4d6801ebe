//! Models, aliases, and reading what belongs to a model.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use prost::Message as _;

use super::{
    AliasName, CheckpointId, Design, Model, ModelId, Receipt, Registry, Selector, Version, checkpoint, key,
    manifest_reader::ManifestReader,
    publish::put_model,
    receipt::Made,
    record::{damaged, decode},
};
use crate::{
    error::{Error, Resource, Result, nearest},
    model::Checkpoint,
    proto::storage,
    store::{Batch, Tree},
    taxonomy::{Manifest, Revision, VersionNumber},
};

/// Aliases of a model at most: its record holds all of them, and every answer about it.
const MAX_ALIASES: usize = 1000;

impl Registry {
    /// Makes a model that has no version yet.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when the name is taken; [`Error::Exhausted`] with reason `MODELS`.
    pub fn create_model(
        &self,
        id: &ModelId,
        design: impl Into<Design>,
        receipt: Option<Receipt>,
    ) -> Result<Model> {
        let Design { preset, word_vectors } = design.into();
        let mut writer = self.writer();
        if self.store.contains(Tree::Catalog, &key::model(id))? {
            return Err(Error::AlreadyExists { resource: Resource::Model, name: id.name() });
        }
        self.check_models()?;
        let mut counters = self.counters()?;
        counters.model_uid += 1;
        let mut model = Model {
            id: id.clone(),
            uid: counters.model_uid,
            preset,
            word_vectors,
            aliases: BTreeMap::new(),
            latest_version: 0,
            latest_revision: 0,
            sequence: 0,
            created: SystemTime::now(),
        };
        let mut batch = Batch::new();
        batch.put(Tree::Catalog, key::COUNTERS, counters.encode_to_vec());
        put_model(&mut batch, &mut model);
        self.add_receipt(&mut writer, &mut batch, receipt, || Made::model(&model, id.name()))?;
        self.commit(writer, batch)?;
        Ok(model)
    }

    /// One model.
    ///
    /// # Errors
    /// [`Error::NotFound`], without the name of another one: who asks may not know of it.
    pub fn model(&self, id: &ModelId) -> Result<Model> {
        let Some(bytes) = self.store.get(Tree::Catalog, &key::model(id))? else {
            return Err(Error::not_found(Resource::Model, id.name()));
        };
        Model::from_record(id.clone(), decode(&id.name(), &bytes)?)
    }

    /// Models by name, from behind `after` on.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged record.
    pub fn models(&self, after: Option<&ModelId>, limit: usize) -> Result<Vec<Model>> {
        self.models_after(after).take(limit).collect()
    }

    /// Deletes a model with its versions, manifests and jobs and returns what it was. For everybody else it is gone at
    /// once. Its examples are the data set's to remove, by the uid.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when the sequence is another.
    pub fn delete_model(
        &self,
        id: &ModelId,
        expected_sequence: Option<u64>,
        receipt: Option<Receipt>,
    ) -> Result<Model> {
        let mut writer = self.writer();
        let model = self.model(id)?;
        model.expect_sequence(expected_sequence)?;
        let mut batch = Batch::freeing();
        batch.delete(Tree::Catalog, key::model(id));
        for job in self.jobs(Some(id), None, usize::MAX)? {
            batch.delete(Tree::Jobs, key::job(job.id));
        }
        self.add_receipt(&mut writer, &mut batch, receipt, || Made::unique(id.name()))?;
        self.store.commit(batch)?;
        if let Err(error) = self.remove_owned(model.uid) {
            tracing::warn!(model = %id, %error, "the bytes of a deleted model stay until the next start");
        }
        Ok(model)
    }

    /// Points an alias to a version.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a model or version that does not exist; [`Error::Conflict`] when the sequence is another;
    /// [`Error::Exhausted`] with reason `ALIASES`.
    pub fn set_alias(
        &self,
        id: &ModelId,
        alias: AliasName,
        number: VersionNumber,
        expected_sequence: Option<u64>,
        receipt: Option<Receipt>,
    ) -> Result<Model> {
        let mut writer = self.writer();
        let mut model = self.model(id)?;
        model.expect_sequence(expected_sequence)?;
        self.version_of(&model, number)?;
        let name = id.alias_name(&alias);
        if model.aliases.len() >= MAX_ALIASES && !model.aliases.contains_key(&alias) {
            return Err(Error::Exhausted {
                reason: "ALIASES",
                description: format!(
                    "{} has {} aliases, and a model may have {MAX_ALIASES}; point one of them to the version",
                    id.name(),
                    model.aliases.len()
                ),
                retry_after: None,
            });
        }
        model.aliases.insert(alias, number);
        let mut batch = Batch::new();
        put_model(&mut batch, &mut model);
        self.add_receipt(&mut writer, &mut batch, receipt, || Made::model(&model, name))?;
        self.commit(writer, batch)?;
        Ok(model)
    }

    /// The revision that the next manifest of a model must have.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn next_revision(&self, id: &ModelId) -> Result<Revision> {
        Ok(Revision(self.model(id)?.latest_revision + 1))
    }

    /// The version that is meant.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a model, alias or version that does not exist; [`Error::Precondition`] with reason
    /// `NO_VERSION` when the serving version of a model without one is meant, `NO_SERVING_VERSION` when none was
    /// promoted.
    pub fn resolve(&self, id: &ModelId, selector: &Selector) -> Result<VersionNumber> {
        self.locate(id, selector).map(|(_, number)| number)
    }

    /// The uid of a model, and the version of it that is meant.
    ///
    /// # Errors
    /// As [`Registry::resolve`].
    pub fn locate(&self, id: &ModelId, selector: &Selector) -> Result<(u64, VersionNumber)> {
        let model = self.model(id)?;
        let number = match selector {
            Selector::Serving => model.serving().ok_or_else(|| nothing_serves(&model)),
            Selector::Alias(alias) => match model.aliases.get(alias) {
                Some(number) => Ok(*number),
                None if *alias == AliasName::serving() => Err(nothing_serves(&model)),
                None => Err(Error::NotFound {
                    resource: Resource::Alias,
                    name: id.alias_name(alias),
                    suggestion: nearest(alias.as_str(), model.aliases.keys().map(AliasName::as_str))
                        .map(|other| format!("{}@{other}", id.name())),
                }),
            },
            Selector::Number(number) => self.version_of(&model, *number).map(|version| version.number),
        };
        Ok((model.uid, number?))
    }

    /// One version.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn version(&self, id: &ModelId, number: VersionNumber) -> Result<Version> {
        self.version_of(&self.model(id)?, number)
    }

    /// Versions of a model below a number, newest first.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a model that does not exist.
    pub fn versions(
        &self,
        id: &ModelId,
        before: Option<VersionNumber>,
        limit: usize,
    ) -> Result<Vec<Version>> {
        self.versions_before(&self.model(id)?, before).take(limit).collect()
    }

    /// Versions of a model below a number, newest first, each read when it is asked for.
    pub fn versions_before(
        &self,
        model: &Model,
        before: Option<VersionNumber>,
    ) -> impl Iterator<Item = Result<Version>> + use<> {
        let before = before.map(|number| key::version(model.uid, number));
        let prefix = key::owner(key::VERSIONS, model.uid);
        let id = model.id.clone();
        let versions = self.store.scan_back(Tree::Catalog, &prefix, before.as_deref()).map(move |entry| {
            let (key, bytes) = entry?;
            let number = VersionNumber(key::number(&key));
            let record: storage::Version = decode(&id.version_name(number), &bytes)?;
            (!record.deleted).then(|| Version::from_record(id.clone(), number, record)).transpose()
        });
        versions.filter_map(Result::transpose)
    }

    /// One manifest.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn manifest(&self, id: &ModelId, revision: Revision) -> Result<Manifest> {
        self.shared_manifest(id, revision).map(Arc::unwrap_or_clone)
    }

    /// One manifest, which the registry and others may hold too: it takes no copy of all the classes.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn shared_manifest(&self, id: &ModelId, revision: Revision) -> Result<Arc<Manifest>> {
        self.manifest_of(&self.model(id)?, revision)
    }

    /// A manifest to make the newest one from: its next ids come after all that were ever given out.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn manifest_to_change(&self, model: &Model, revision: Revision) -> Result<Manifest> {
        let newest = self.manifest_of(model, Revision(model.latest_revision))?;
        Ok(Manifest::clone(&*self.manifest_of(model, revision)?).numbered_after(&newest))
    }

    /// Manifests of a model below a revision, newest first.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a model that does not exist.
    pub fn manifests(&self, id: &ModelId, before: Option<Revision>, limit: usize) -> Result<Vec<Manifest>> {
        self.manifests_before(&self.model(id)?, before).take(limit).collect()
    }

    /// Manifests of a model below a revision, newest first, each read when it is asked for: a thousand of many classes would
    /// take a lot of memory at once.
    pub fn manifests_before(
        &self,
        model: &Model,
        before: Option<Revision>,
    ) -> impl Iterator<Item = Result<Manifest>> + use<> {
        let before = before.map(|revision| key::manifest(model.uid, revision));
        let prefix = key::owner(key::MANIFESTS, model.uid);
        let mut reader = ManifestReader::new(&self.store, &self.manifests, model);
        self.store.scan_back(Tree::Catalog, &prefix, before.as_deref()).map(move |entry| {
            let revision = Revision(key::number(&entry?.0));
            let manifest = reader.read(revision)?;
            reader.let_go_from(revision);
            Ok(Arc::unwrap_or_clone(manifest))
        })
    }

    /// The tensors of a version.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`] when they are damaged.
    pub fn checkpoint(&self, id: &ModelId, number: VersionNumber) -> Result<Checkpoint> {
        let model = self.model(id)?;
        let record = self.checkpoint_record(&model, number)?;
        let outcome = checkpoint::read(&self.store, &self.arrays, &id.version_name(number), record);
        // Model or version may have been deleted under our hands: then the blobs are not damaged but gone.
        match outcome {
            Err(error) if self.version(id, number).is_ok() && self.model(id)?.uid == model.uid => Err(error),
            Err(_) => Err(Error::not_found(Resource::Version, id.version_name(number))),
            Ok(checkpoint) => Ok(checkpoint),
        }
    }

    /// What the tensors of a version are, without reading them.
    ///
    /// # Errors
    /// As [`Registry::checkpoint`].
    pub fn checkpoint_id(&self, id: &ModelId, number: VersionNumber) -> Result<CheckpointId> {
        let record = self.checkpoint_record(&self.model(id)?, number)?;
        Ok(CheckpointId::of(&record))
    }

    pub(super) fn all_models(&self) -> impl Iterator<Item = Result<Model>> + use<> {
        self.models_after(None)
    }

    pub(super) fn manifest_of(&self, model: &Model, revision: Revision) -> Result<Arc<Manifest>> {
        let manifest = ManifestReader::new(&self.store, &self.manifests, model).read(revision)?;
        self.manifests.keep(model.uid, &manifest);
        Ok(manifest)
    }

    pub(super) fn checkpoint_record(
        &self,
        model: &Model,
        number: VersionNumber,
    ) -> Result<storage::Checkpoint> {
        let what = model.id.version_name(number);
        let bytes = self.store.get(Tree::Catalog, &key::checkpoint(model.uid, number))?;
        let bytes = bytes.ok_or_else(|| Error::not_found(Resource::Version, what.clone()))?;
        decode(&what, &bytes)
    }

    fn version_of(&self, model: &Model, number: VersionNumber) -> Result<Version> {
        let record = self.version_record(model, number)?.filter(|record| !record.deleted);
        let record =
            record.ok_or_else(|| Error::not_found(Resource::Version, model.id.version_name(number)))?;
        Version::from_record(model.id.clone(), number, record)
    }

    pub(super) fn models_after(
        &self,
        after: Option<&ModelId>,
    ) -> impl Iterator<Item = Result<Model>> + use<> {
        let after = after.map(key::model);
        self.store.scan(Tree::Catalog, key::MODELS, after.as_deref()).map(|entry| {
            let (key, bytes) = entry?;
            let raw = String::from_utf8_lossy(&key[key::MODELS.len()..]);
            let id = ModelId::new(&raw).map_err(|fault| damaged("a model", format!("its name {fault}")))?;
            let record = decode(&id.name(), &bytes)?;
            Model::from_record(id, record)
        })
    }

    /// Removes what a deleted model leaves.
    fn remove_owned(&self, uid: u64) -> Result<()> {
        for kind in key::OWNED {
            self.store.delete_prefix(Tree::Catalog, &key::owner(kind, uid))?;
        }
        self.sweep_blobs()?;
        Ok(())
    }
}

fn nothing_serves(model: &Model) -> Error {
    let name = model.id.name();
    let (reason, description) = if model.latest_version == 0 {
        ("NO_VERSION", format!("{name} has no version yet; add examples and train it first"))
    } else {
        ("NO_SERVING_VERSION", format!("no version of {name} was promoted; point its alias 'serving' to one"))
    };
    Error::Precondition { reason, subject: name, description }
}
