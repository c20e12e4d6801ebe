//! Reads manifests, of which most are stored as differences from others.

use std::{collections::BTreeMap, sync::Arc};

use super::{Model, ModelId, key, manifest, manifests::Manifests, record::damaged, record::decode};
use crate::{
    error::{Error, Resource, Result},
    proto::storage,
    store::{Store, Tree},
    taxonomy::{Base, Manifest, Revision},
};

/// Reads manifests of a model. It keeps those that it came by on the way, as the next one asked for may be among them or be made
/// of them.
pub(super) struct ManifestReader {
    store: Store,
    manifests: Arc<Manifests>,
    id: ModelId,
    uid: u64,
    read: BTreeMap<Revision, Arc<Manifest>>,
}

impl ManifestReader {
    pub(super) fn new(store: &Store, manifests: &Arc<Manifests>, model: &Model) -> Self {
        Self {
            store: store.clone(),
            manifests: Arc::clone(manifests),
            id: model.id.clone(),
            uid: model.uid,
            read: BTreeMap::new(),
        }
    }

    /// A manifest, from memory or from its record and those that this one builds on.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`] for a damaged record, or where one that it builds on is missing.
    pub(super) fn read(&mut self, revision: Revision) -> Result<Arc<Manifest>> {
        let (mut records, mut at) = (Vec::new(), revision);
        let mut base = loop {
            if let Some(found) = self.in_memory(at) {
                break Some(found);
            }
            let record = self.record(at)?.map_or_else(|| Err(self.missing(revision, at)), Ok)?;
            let next = manifest::base_of(&self.id.manifest_name(at), at, &record)?;
            records.push((at, record));
            match next {
                Some(next) => at = next,
                None => break None,
            }
        };
        for (at, record) in records.into_iter().rev() {
            let steps = record.delta.as_ref().map_or(0, |delta| delta.steps);
            let made = manifest::from_record(&self.id.manifest_name(at), at, record, base.as_deref())?;
            let classes = made.classes.stored_as(Base { model: self.uid, revision: at, steps });
            let made = Arc::new(Manifest { classes, ..made });
            self.read.insert(at, Arc::clone(&made));
            base = Some(made);
        }
        base.ok_or_else(|| self.missing(revision, revision))
    }

    /// Lets go of what was read of a revision and of later ones.
    pub(super) fn let_go_from(&mut self, revision: Revision) {
        self.read.split_off(&revision);
    }

    fn in_memory(&self, revision: Revision) -> Option<Arc<Manifest>> {
        self.read.get(&revision).cloned().or_else(|| self.manifests.get(self.uid, revision))
    }

    fn record(&self, revision: Revision) -> Result<Option<storage::Manifest>> {
        let bytes = self.store.get(Tree::Catalog, &key::manifest(self.uid, revision))?;
        bytes.map(|bytes| decode(&self.id.manifest_name(revision), &bytes)).transpose()
    }

    /// That one of the records is missing which a manifest is made of.
    fn missing(&self, revision: Revision, at: Revision) -> Error {
        let what = self.id.manifest_name(revision);
        // A model that was deleted meanwhile took all of them with it.
        match self.record(revision) {
            Ok(Some(_)) if at != revision => {
                damaged(&what, format!("its classes differ from those of revision {at}, which is missing"))
            }
            Err(error) => error,
            _ => Error::not_found(Resource::Manifest, what),
        }
    }
}
