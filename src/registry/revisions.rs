//! Which versions answer in a revision: an index, so that a page of the history need not read all versions there are.

use prost::Message as _;
use tracing::{info, warn};

use super::{
    Model, Registry, Version, key,
    record::{damaged, decode},
};
use crate::{
    error::Result,
    proto::storage,
    store::{Batch, Tree},
    taxonomy::{Revision, VersionNumber},
};

/// Entries of the index that are written at once.
const AT_ONCE: usize = 1000;

impl Registry {
    /// The versions that answer in a revision and were not deleted, oldest first.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record.
    pub fn versions_in(&self, model: &Model, revision: Revision) -> Result<Vec<Version>> {
        let mut versions = Vec::new();
        for entry in self.store.scan(Tree::Catalog, &key::revision(model.uid, revision), None) {
            let (key, _) = entry?;
            let number = VersionNumber(key::number(&key));
            let record = self.version_record(model, number)?.ok_or_else(|| {
                damaged(&model.id.manifest_name(revision), format!("its version {number} is missing"))
            })?;
            if !record.deleted {
                versions.push(Version::from_record(model.id.clone(), number, record)?);
            }
        }
        Ok(versions)
    }

    /// Brings the versions into the index that older builds published, once.
    pub(super) fn index_versions(&self) -> Result<()> {
        for model in self.all_models() {
            let model = model?;
            let what = model.id.name();
            let Some(bytes) = self.store.get(Tree::Catalog, &key::model(&model.id))? else { continue };
            let record: storage::Model = decode(&what, &bytes)?;
            if record.indexed_versions >= model.latest_version {
                continue;
            }
            let mut batch = Batch::freeing();
            for entry in self.store.scan(Tree::Catalog, &key::owner(key::VERSIONS, model.uid), None) {
                let indexed = entry.and_then(|(key, bytes)| {
                    let number = VersionNumber(key::number(&key));
                    let version: storage::Version = decode(&model.id.version_name(number), &bytes)?;
                    Ok(key::version_in(model.uid, Revision(version.revision), number))
                });
                match indexed {
                    Ok(key) => batch.put(Tree::Catalog, key, Vec::new()),
                    // Whoever asks for that version hears of it; the others can be opened.
                    Err(error) => warn!(model = %model.id, %error, "a version is left out of the index"),
                }
                if batch.len() >= AT_ONCE {
                    self.store.commit(std::mem::replace(&mut batch, Batch::freeing()))?;
                }
            }
            // Its sequence stays: the model is not changed.
            batch.put(Tree::Catalog, key::model(&model.id), model.to_record().encode_to_vec());
            self.store.commit(batch)?;
            info!(model = %model.id, versions = model.latest_version, "indexed the versions by their revisions");
        }
        Ok(())
    }
}
