//! Keys of the records, and how those of one model are found.
//!
//! ```text
//! catalog   c                         Counters
//!           t                         ServiceTime
//!           m | name                  Model
//!           v | uid | number          Version
//!           k | uid | number          Checkpoint
//!           f | uid | revision        Manifest
//!           r | uid | revision | number   nothing: a version answers in a revision
//!           p                         PageKey
//! jobs      number                    Job
//! receipts  hash of identity and id   Receipt
//! ```
//!
//! Numbers are 8 bytes, big-endian, so that their order is that of the keys.

use std::collections::BTreeSet;

use super::{JobId, ModelId};
use crate::{
    error::Result,
    store::{Store, Tree},
    taxonomy::{Revision, VersionNumber},
};

pub(super) const COUNTERS: &[u8] = b"c";
pub(super) const PAGE_KEY: &[u8] = b"p";
pub(super) const SERVICE_TIME: &[u8] = b"t";
pub(super) const MODELS: &[u8] = b"m";
pub(super) const VERSIONS: u8 = b'v';
pub(super) const CHECKPOINTS: u8 = b'k';
pub(super) const MANIFESTS: u8 = b'f';
pub(super) const REVISIONS: u8 = b'r';
/// The kinds of records that go with their model.
pub(super) const OWNED: [u8; 4] = [VERSIONS, CHECKPOINTS, MANIFESTS, REVISIONS];

/// Key of a model.
pub(super) fn model(id: &ModelId) -> Vec<u8> {
    [MODELS, id.as_str().as_bytes()].concat()
}

/// Key of a version.
pub(super) fn version(uid: u64, number: VersionNumber) -> Vec<u8> {
    owned(VERSIONS, uid, number.0)
}

/// Key of a checkpoint.
pub(super) fn checkpoint(uid: u64, number: VersionNumber) -> Vec<u8> {
    owned(CHECKPOINTS, uid, number.0)
}

/// Key of a manifest.
pub(super) fn manifest(uid: u64, revision: Revision) -> Vec<u8> {
    owned(MANIFESTS, uid, revision.0)
}

/// Prefix of the keys of the versions that answer in a revision.
pub(super) fn revision(uid: u64, revision: Revision) -> Vec<u8> {
    owned(REVISIONS, uid, revision.0)
}

/// Key of a version among those that answer in a revision.
pub(super) fn version_in(uid: u64, revision: Revision, number: VersionNumber) -> Vec<u8> {
    [self::revision(uid, revision), number.0.to_be_bytes().to_vec()].concat()
}

/// Key of a job.
pub(super) fn job(id: JobId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

/// Key of a receipt: request ids may be long. Where there is no identity it is the hash of the request id alone, as it was for
/// everybody in earlier builds.
pub(super) fn receipt(identity: &str, request_id: &str) -> Vec<u8> {
    if identity.is_empty() {
        return blake3::hash(request_id.as_bytes()).as_bytes().to_vec();
    }
    let mut hash = blake3::Hasher::new_derive_key("taxond 2026-11-30 receipts of identities");
    hash.update(&(identity.len() as u64).to_le_bytes());
    hash.update(identity.as_bytes()).update(request_id.as_bytes());
    hash.finalize().as_bytes().to_vec()
}

/// Prefix of the keys of one kind of record of one model.
pub(crate) fn owner(kind: u8, uid: u64) -> Vec<u8> {
    [&[kind][..], &uid.to_be_bytes()].concat()
}

/// Key of a numbered record of a model.
pub(crate) fn owned(kind: u8, uid: u64, number: u64) -> Vec<u8> {
    [&owner(kind, uid)[..], &number.to_be_bytes()].concat()
}

/// The number at the end of a key. Numbers are counted from 1; a key too short to hold one has 0, which nothing has.
pub(crate) fn number(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Removes the records of one kind whose model is gone: what a crash left of a deletion.
pub(crate) fn sweep_owners(store: &Store, tree: Tree, kind: u8, live: &BTreeSet<u64>) -> Result<u64> {
    let mut removed = 0;
    let mut after: Option<Vec<u8>> = None;
    while let Some(entry) = store.scan(tree, &[kind], after.as_deref()).next() {
        let (key, _) = entry?;
        let uid = key.get(1..9).map_or(0, number);
        if !live.contains(&uid) {
            removed += store.delete_prefix(tree, &owner(kind, uid))?;
        }
        after = Some(owned(kind, uid, u64::MAX));
    }
    Ok(removed)
}
