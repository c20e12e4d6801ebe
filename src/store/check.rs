//! Reading everything, to see whether it is whole.

use std::sync::atomic::Ordering;

use super::{Entry, Store, Tree, cell::split_key};
use crate::error::Error;

/// What was read, and what of it is damaged.
#[derive(Debug, Default)]
pub struct Checked {
    /// Values that are whole.
    pub values: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The rest.
    pub damage: Vec<Damage>,
}

/// A value that is not as it was written.
#[derive(Debug)]
pub struct Damage {
    /// Its tree.
    pub tree: Tree,
    /// Its key; none where that cannot be read either.
    pub key: Option<Vec<u8>>,
    /// What a reader of it is told.
    pub error: Error,
}

impl Store {
    /// Reads every value of every tree and checks it against its checksum, blobs against their names as well. Changes nothing.
    pub fn check(&self) -> Checked {
        self.check_while(|_| true)
    }

    /// As [`check`](Self::check), for as long as `go_on`, which is told the bytes of each value after it was read, says so. May
    /// run while others write.
    pub fn check_while(&self, mut go_on: impl FnMut(usize) -> bool) -> Checked {
        let mut checked = Checked::default();
        for tree in Tree::ALL {
            for cell in self.sled(tree).iter().keys() {
                let cell = cell.map_err(|error| self.read_error(error));
                let first = cell.and_then(|cell| {
                    let (key, number) = split_key(tree, &cell)?;
                    Ok((number == 0).then(|| key.to_vec()))
                });
                let (key, entry) = match first {
                    Ok(Some(key)) => {
                        let entry = self.settled_entry(tree, &key);
                        (Some(key), entry)
                    }
                    Ok(None) => continue,
                    Err(error) => (None, Err(error)),
                };
                let bytes = match entry {
                    Ok(Entry::Value { value, .. }) => {
                        checked.values += 1;
                        checked.bytes += value.len() as u64;
                        value.len()
                    }
                    // Removed since its key was read.
                    Ok(_) => 0,
                    Err(error) => {
                        checked.damage.push(Damage { tree, key, error });
                        0
                    }
                };
                if !go_on(bytes) {
                    return checked;
                }
            }
        }
        self.inner.damaged.store(checked.damage.len() as u64, Ordering::Relaxed);
        checked
    }

    /// Values that were damaged when everything was last read to the end; 0 before that.
    pub fn damaged(&self) -> u64 {
        self.inner.damaged.load(Ordering::Relaxed)
    }

    /// What stands under a key, also where somebody writes it at this moment.
    fn settled_entry(&self, tree: Tree, key: &[u8]) -> Result<Entry, Error> {
        self.entry(tree, key).or_else(|_| {
            let _alone = self.inner.gate.writing.write();
            self.entry(tree, key)
        })
    }
}
