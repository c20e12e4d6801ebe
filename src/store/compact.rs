//! Writing the database anew: the file that sled keeps never shrinks.

use std::{path::Path, sync::Arc};

use super::{
    Store, StoreOptions,
    open::{Inner, closed},
    restore::Applying,
};
use crate::error::Result;

/// Bytes of a database file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// As it was.
    pub before: u64,
    /// As it is now.
    pub after: u64,
}

impl Store {
    /// Writes the database of a directory anew, so that its file is at most a few times as large as what it holds. At whatever moment this
    /// is interrupted, the directory opens with everything.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Corrupt`](crate::error::Error::Corrupt) naming a damaged value: then nothing was
    /// changed.
    pub fn compact(path: &Path, options: StoreOptions) -> Result<Compacted> {
        let old = Self::open(path, options)?;
        let new = Self::open_in(old.inner.directory.begin_copy()?, options)?;
        let mut applying = Applying::new(&new);
        old.copy(|entry| applying.put(entry))?;
        applying.finish()?;
        // The file beside the database says how far the old one was known to reach.
        new.inner.high_water.skip_to(old.inner.high_water.next());
        new.sync()?;
        let sizes = Compacted { before: old.file_bytes()?, after: new.file_bytes()? };

        // Nobody else has them; what is given up first is sled, and the directory stays locked.
        let inner = |store: Self| Arc::into_inner(store.inner).ok_or_else(closed);
        let Inner { directory: copy, db, .. } = inner(new)?;
        drop(db);
        copy.wait_for_release()?;
        let Inner { directory, db, .. } = inner(old)?;
        drop(db);
        directory.wait_for_release()?;
        directory.take_copy(copy)?;
        Ok(sizes)
    }

    /// Bytes of the database file.
    ///
    /// # Errors
    /// [`Error::Io`](crate::error::Error::Io).
    pub fn file_bytes(&self) -> Result<u64> {
        let size = self.inner.log.metadata().map(|metadata| metadata.len());
        size.map_err(|error| crate::error::Error::io("reading the size of the database", error))
    }
}
