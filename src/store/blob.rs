//! Blobs: large byte strings under their own hash, so that equal ones are stored once.

use std::{collections::HashSet, fmt};

use super::{
    Batch, Store, Tree,
    cell::{CELL_BYTES, cell_key, split_key},
};
use crate::error::{Error, Result};

const HASH_BYTES: usize = 32;

/// Names a blob: blake3 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub [u8; HASH_BYTES]);

impl Store {
    /// Stores bytes, unless they are stored already. They are durable with the next
    /// [`sync`](Self::sync) or [`commit`](Self::commit), and stay until [`sweep_blobs`](Self::sweep_blobs) finds
    /// them unnamed.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn put_blob(&self, bytes: &[u8]) -> Result<BlobId> {
        let mut batch = Batch::new();
        let id = self.add_blob(&mut batch, bytes.to_vec())?;
        self.append(batch)?;
        Ok(id)
    }

    /// Adds bytes, unless they are stored already, to a batch that is to be [appended](Self::append). Several blobs are
    /// written at once so, for which the disk is waited for less often.
    ///
    /// # Errors
    /// What the store says when it cannot be read.
    pub fn add_blob(&self, batch: &mut Batch, bytes: Vec<u8>) -> Result<BlobId> {
        let id = BlobId(*blake3::hash(&bytes).as_bytes());
        if !self.has_blob(id, bytes.len())? {
            batch.put(Tree::Chunks, id.0, bytes);
        }
        Ok(id)
    }

    /// The bytes of a blob.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is missing, or not what its name and length say.
    pub fn get_blob(&self, id: BlobId, length: u64) -> Result<Vec<u8>> {
        let bytes = self.get(Tree::Chunks, &id.0)?.ok_or_else(|| damaged(id, "it is missing".to_owned()))?;
        if bytes.len() as u64 != length {
            return Err(damaged(id, format!("it has {} bytes, not {length}", bytes.len())));
        }
        check(id, &bytes)?;
        Ok(bytes)
    }

    /// Removes a blob, if it is there. Nobody may put it meanwhile.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn delete_blob(&self, id: BlobId) -> Result<()> {
        self.delete_prefix(Tree::Chunks, &id.0).map(|_| ())
    }

    /// Removes every blob that is not among the live ones and returns how many there were. Nobody may put blobs
    /// meanwhile: one that is put and not yet named would go.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn sweep_blobs(&self, live: &HashSet<BlobId>) -> Result<u64> {
        let mut removed = 0;
        let mut from = Vec::new();
        // One look-up a blob: walking over all cells would read every tensor there is.
        while let Some((key, _)) =
            self.sled(Tree::Chunks).get_gt(&from).map_err(|error| self.read_error(error))?
        {
            let (hash, _) = split_key(Tree::Chunks, &key)?;
            let id = hash
                .try_into()
                .map(BlobId)
                .map_err(|_| super::cell::damaged(Tree::Chunks, &key, "its key is not a hash"))?;
            if !live.contains(&id) {
                removed += self.delete_prefix(Tree::Chunks, hash)?;
            }
            from = cell_key(hash, u32::MAX);
        }
        Ok(removed)
    }

    /// Whether all cells are there: a crash may have left some.
    ///
    /// # Errors
    /// What the store says when it cannot be read.
    pub fn has_blob(&self, id: BlobId, length: usize) -> Result<bool> {
        let cells = length.div_ceil(CELL_BYTES).max(1);
        for number in 0..cells {
            let found = self.sled(Tree::Chunks).contains_key(cell_key(&id.0, number as u32));
            if !found.map_err(|error| self.read_error(error))? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({self})")
    }
}

/// Whether bytes are those that a blob is named by.
pub(super) fn check(id: BlobId, bytes: &[u8]) -> Result<()> {
    if *blake3::hash(bytes).as_bytes() == id.0 {
        return Ok(());
    }
    Err(damaged(id, "its hash does not match".to_owned()))
}

fn damaged(id: BlobId, detail: String) -> Error {
    Error::Corrupt { what: format!("blob {id}"), detail, remedy: super::cell::REMEDY }
}
