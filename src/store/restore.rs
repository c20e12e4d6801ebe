//! Making a store from a backup.

use std::{io::Read, path::Path};

use super::{
    Batch, Store, StoreOptions,
    backup::BackupReader,
    copy::Entry,
    directory::Directory,
    space::{self, ANOTHER_DISK, OPENING_BYTES},
};
use crate::error::Result;

/// Bytes of values that are written at once.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// Writes the entries of a copy into a store that nobody else uses.
pub(super) struct Applying<'a> {
    store: &'a Store,
    piece: Batch,
    bytes: usize,
}

impl Store {
    /// Makes the store of a backup in a directory that is empty or not there, or in which this was not
    /// finished. Until all of it is there and was checked, the directory cannot be opened; where this fails,
    /// it takes no room.
    ///
    /// # Errors
    /// [`Error::Precondition`] with reason `DATA_DIR_NOT_EMPTY`; [`Error::Invalid`] for a file that is no backup;
    /// [`Error::Corrupt`] for a damaged one; [`Error::Io`].
    ///
    /// [`Error::Precondition`]: crate::error::Error::Precondition
    /// [`Error::Invalid`]: crate::error::Error::Invalid
    /// [`Error::Corrupt`]: crate::error::Error::Corrupt
    /// [`Error::Io`]: crate::error::Error::Io
    pub fn restore(path: &Path, options: StoreOptions, file: impl Read) -> Result<Self> {
        let entries = BackupReader::new(file)?;
        let mut bytes = OPENING_BYTES;
        let filled = Self::open_in(Directory::begin(path)?, options).and_then(|store| {
            let mut applying = Applying::new(&store);
            for entry in entries {
                let entry = entry?;
                if let Entry::Value { key, value, .. } = &entry {
                    bytes += (key.len() + value.len()) as u64;
                }
                applying.put(entry)?;
            }
            applying.finish()?;
            match store.check().damage.into_iter().next() {
                Some(damage) => Err(damage.error),
                None => Ok(store),
            }
        });
        let store = match filled {
            Ok(store) => store,
            Err(error) => {
                let full = space::is_full(&error)
                    .then(|| space::full(path, bytes, "for what was read of the backup", ANOTHER_DISK));
                Directory::begin(path)?.abandon();
                return Err(full.unwrap_or(error));
            }
        };
        store.inner.directory.end()?;
        Ok(store)
    }
}

impl<'a> Applying<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, piece: Batch::new(), bytes: 0 }
    }

    /// Takes in an entry that comes behind those before.
    pub(super) fn put(&mut self, entry: Entry) -> Result<()> {
        match entry {
            Entry::Value { tree, key, value } => {
                self.bytes += key.len() + value.len();
                self.piece.put(tree, key, value);
            }
            Entry::Removed { tree, key } => self.piece.delete(tree, key),
            Entry::RemovedAll { tree, prefix } => {
                self.write()?;
                self.store.delete_prefix(tree, &prefix)?;
            }
        }
        if self.bytes >= PIECE_BYTES { self.write() } else { Ok(()) }
    }

    /// Makes all of it durable.
    pub(super) fn finish(mut self) -> Result<()> {
        self.write()?;
        self.store.sync()
    }

    fn write(&mut self) -> Result<()> {
        self.bytes = 0;
        self.store.append(std::mem::take(&mut self.piece))
    }
}
