//! Reading everything, to see whether it is whole.

use super::{BlobId, Store, Tree, blob};
use crate::error::Error;

/// What was read, and what of it is damaged.
#[derive(Debug, Default)]
pub struct Checked {
    /// Values that are whole.
    pub values: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The rest, each by what a reader of it would be told.
    pub damage: Vec<Error>,
}

impl Store {
    /// Reads every value of every tree and checks it against its checksum, blobs against their names as well. Changes nothing.
    pub fn check(&self) -> Checked {
        let mut checked = Checked::default();
        for tree in Tree::ALL {
            for entry in self.scan(tree, &[], None) {
                let whole = entry.and_then(|(key, value)| match (tree, <[u8; 32]>::try_from(key)) {
                    (Tree::Chunks, Ok(hash)) => blob::check(BlobId(hash), &value).map(|()| value.len()),
                    _ => Ok(value.len()),
                });
                match whole {
                    Ok(bytes) => {
                        checked.values += 1;
                        checked.bytes += bytes as u64;
                    }
                    Err(error) => checked.damage.push(error),
                }
            }
        }
        checked
    }
}
