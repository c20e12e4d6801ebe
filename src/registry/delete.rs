//! Deletion of a version: its tensors go. Its number is not given again, and its record stays, out of sight, for what later
//! versions have from it.

use std::collections::BTreeMap;

use prost::Message as _;

use super::{AliasName, Model, ModelId, Receipt, Registry, Version, checkpoint, key, receipt::Made};
use crate::{
    error::{Error, Result},
    proto::storage,
    store::{Batch, Tree},
    taxonomy::{Revision, VersionNumber},
};

impl Registry {
    /// Deletes a version that no alias points to and returns what it was. For everybody else it is gone at once. With
    /// `forget_undo` also one that an undo would restore.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Precondition`] with reason `VERSION_HAS_ALIASES`, naming them, or
    /// `VERSION_NEEDED_FOR_UNDO`, naming the version that could be undone.
    pub fn delete_version(
        &self,
        id: &ModelId,
        number: VersionNumber,
        forget_undo: bool,
        receipt: Option<Receipt>,
    ) -> Result<Version> {
        let mut writer = self.writer();
        let model = self.model(id)?;
        let version = self.version(id, number)?;
        check_aliases(&model, number)?;
        if !forget_undo {
            self.check_undo(&model, number)?;
        }
        let tensors = self.checkpoint_record(&model, number)?;
        let mut batch = Batch::freeing();
        put_deleted(&mut batch, model.uid, &version);
        self.add_receipt(&mut writer, &mut batch, receipt, || Made::within(&model, version.name()))?;
        self.store.commit(batch)?;
        if let Err(error) = self.remove_blobs_of(&version.name(), &tensors) {
            tracing::warn!(version = version.name(), %error, "the bytes of a deleted version stay until the next start");
        }
        Ok(version)
    }

    /// Refuses where another version answers in a revision whose undo restores this one.
    fn check_undo(&self, model: &Model, number: VersionNumber) -> Result<()> {
        let others = self.versions(&model.id, None, usize::MAX)?;
        let others: BTreeMap<Revision, VersionNumber> = others
            .into_iter()
            .filter(|version| version.number != number)
            .map(|version| (version.revision, version.number))
            .collect();
        for (revision, other) in others {
            let undo = self.manifest_of(model, revision)?.undo;
            if undo.is_some_and(|undo| undo.version == number) {
                let name = model.id.version_name(number);
                return Err(Error::Precondition {
                    reason: "VERSION_NEEDED_FOR_UNDO",
                    description: format!(
                        "{name} is what an undo of revision {revision} restores, in which version {other} answers; \
                         with forget_undo it is deleted, and such an undo is refused from then on"
                    ),
                    subject: name,
                });
            }
        }
        Ok(())
    }

    /// Removes the blobs of a record that no checkpoint names any more.
    fn remove_blobs_of(&self, what: &str, record: &storage::Checkpoint) -> Result<()> {
        let live = self.live_blobs()?;
        for blob in checkpoint::blobs(what, record)? {
            if !live.contains(&blob) {
                self.store.delete_blob(blob)?;
            }
        }
        Ok(())
    }
}

/// Marks a version as deleted and removes what says which its tensors are.
pub(super) fn put_deleted(batch: &mut Batch, uid: u64, version: &Version) {
    let record = storage::Version { deleted: true, ..version.to_record() };
    batch.put(Tree::Catalog, key::version(uid, version.number), record.encode_to_vec());
    batch.delete(Tree::Catalog, key::checkpoint(uid, version.number));
}

fn check_aliases(model: &Model, number: VersionNumber) -> Result<()> {
    let pointing = model.aliases.iter().filter(|(_, points)| **points == number);
    let pointing: Vec<&str> = pointing.map(|(alias, _)| AliasName::as_str(alias)).collect();
    if pointing.is_empty() {
        return Ok(());
    }
    let (name, aliases) = (model.id.version_name(number), pointing.join(", "));
    let many = if pointing.len() == 1 { "alias" } else { "aliases" };
    Err(Error::Precondition {
        reason: "VERSION_HAS_ALIASES",
        description: format!("{name} has the {many} {aliases}; point them to another version first"),
        subject: name,
    })
}
