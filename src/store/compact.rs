//! Writing the database anew: the file that sled keeps never shrinks.

use std::{path::Path, sync::Arc};

use super::{
    Store, StoreOptions, Tree,
    directory::Directory,
    open::Inner,
    read_only_copy,
    restore::Applying,
    space::{self, ANOTHER_DISK, COMPACT_ELSEWHERE, OPENING_BYTES},
};
use crate::error::{Error, Result};

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
    /// As [`open`](Self::open); [`Error::Corrupt`] naming a damaged value, or [`Error::Exhausted`] with
    /// reason `DISK_SPACE`: then nothing was changed, and nothing is left of the copy.
    pub fn compact(path: &Path, options: StoreOptions) -> Result<Compacted> {
        let old = Self::open(path, options)?;
        if let Some(reason) = old.read_only_reason() {
            return Err(Error::Exhausted {
                reason: "DISK_SPACE",
                description: format!("nothing was written anew: {reason}; or {COMPACT_ELSEWHERE}"),
                retry_after: None,
            });
        }
        let needed = old.live_bytes()? + OPENING_BYTES;
        space::make_room(&old.inner.directory, needed, PURPOSE)?;
        let made = old.inner.directory.begin_copy().and_then(|copy| old.write_anew(copy, options));
        let (new, sizes) = match made {
            Ok(made) => made,
            Err(error) => {
                old.inner.directory.remove_copy()?;
                return Err(match error {
                    error if space::is_full(&error) => space::full(path, needed, PURPOSE, COMPACT_ELSEWHERE),
                    error => error,
                });
            }
        };

        // Nobody else has them; what is given up first is sled, and the directory stays locked.
        let Inner { directory: copy, db, .. } = new.into_inner()?;
        drop(db);
        copy.wait_for_release()?;
        let Inner { directory, db, .. } = old.into_inner()?;
        drop(db);
        directory.wait_for_release()?;
        directory.take_copy(copy)?;
        Ok(sizes)
    }

    /// Writes the database of a directory anew into another directory, which is empty or not there. The first
    /// stays in use as it is; it may be on a full disk.
    ///
    /// # Errors
    /// As [`compact`](Self::compact); [`Error::Invalid`] for a directory within the first;
    /// [`Error::Precondition`] with reason `DATA_DIR_NOT_EMPTY`. The other directory cannot be opened then,
    /// and takes no room.
    pub fn compact_to(path: &Path, to: &Path, options: StoreOptions) -> Result<Compacted> {
        check_outside(path, to)?;
        let target = Directory::begin(to)?;
        // Where the first cannot be written, a copy of it is opened: beside what is made of it, if nowhere
        // else.
        let mut places = read_only_copy::default_places();
        places.push(to.to_owned());
        let outcome = Self::open_or_copy(path, options, &places).and_then(|old| {
            let needed = old.live_bytes()? + OPENING_BYTES;
            let full = || space::full(to, needed, PURPOSE, ANOTHER_DISK);
            if space::free_bytes(to).is_some_and(|free| free < needed) {
                return Err(full());
            }
            let made = old.write_anew(target, options);
            made.map_err(|error| if space::is_full(&error) { full() } else { error })
        });
        match outcome {
            Ok((new, sizes)) => {
                new.inner.directory.end()?;
                Ok(sizes)
            }
            Err(error) => {
                Directory::begin(to)?.abandon();
                Err(error)
            }
        }
    }

    /// Bytes of the database file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn file_bytes(&self) -> Result<u64> {
        let size = self.inner.log.metadata().map(|metadata| metadata.len());
        size.map_err(|error| Error::io("reading the size of the database", error))
    }

    /// Writes everything into a new database. Drops it, with what is there of it, where that fails.
    fn write_anew(&self, into: Directory, options: StoreOptions) -> Result<(Self, Compacted)> {
        let new = Self::open_in(into, options)?;
        let mut applying = Applying::new(&new);
        self.copy(|entry| applying.put(entry))?;
        applying.finish()?;
        // The file beside the database says how far the old one was known to reach.
        new.inner.high_water.skip_to(self.inner.high_water.next());
        new.sync()?;
        let sizes = Compacted { before: self.file_bytes()?, after: new.file_bytes()? };
        Ok((new, sizes))
    }

    /// Bytes of all keys and values: what a new database takes at least.
    fn live_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for cell in Tree::ALL.iter().flat_map(|tree| self.sled(*tree).iter()) {
            let (key, sealed) = cell.map_err(|error| self.read_error(error))?;
            bytes += (key.len() + sealed.len()) as u64;
        }
        Ok(bytes)
    }

    /// What a store that has no other clones consists of.
    fn into_inner(self) -> Result<Inner> {
        Arc::into_inner(self.inner).ok_or_else(|| Error::Internal("the store is in use".to_owned()))
    }
}

const PURPOSE: &str = "to write the data folder anew";

/// Refuses a directory within the one that is read: the next opening would take it for a leftover.
fn check_outside(path: &Path, to: &Path) -> Result<()> {
    let absolute = |path: &Path| {
        let there = path.ancestors().find(|part| part.exists()).unwrap_or(path);
        let real = there.canonicalize().or_else(|_| std::path::absolute(there));
        let rest = path.strip_prefix(there).unwrap_or(Path::new(""));
        real.map(|real| real.join(rest))
            .map_err(|error| Error::io(format!("finding {}", path.display()), error))
    };
    if absolute(&std::path::absolute(to).unwrap_or_else(|_| to.to_owned()))?.starts_with(absolute(path)?) {
        let what = format!("must be outside the data folder {}, got '{}'", path.display(), to.display());
        return Err(Error::invalid("to", what));
    }
    Ok(())
}
