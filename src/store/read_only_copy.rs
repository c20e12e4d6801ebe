//! A store that cannot be written where it is, opened read-only from a copy elsewhere.
//!
//! sled opens its files for writing, and writes as it opens. On a full disk, or one that is mounted
//! read-only, it could not be opened at all. So its files are copied to another disk and opened there; the
//! copy is unlinked as soon as sled has it open, so that nothing of it outlives the process. Nothing is
//! written through such a store: it would be gone with the copy.

use std::{
    env,
    fs::{self, Metadata},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use tracing::warn;

use super::{
    Store, StoreOptions,
    directory::Directory,
    open::Files,
    space::{self, OPENING_BYTES},
};
use crate::error::{Error, Result};

/// Where a copy may go: the folder for temporary files, which `TMPDIR` names, then memory.
pub(super) fn default_places() -> Vec<PathBuf> {
    vec![env::temp_dir(), PathBuf::from("/dev/shm")]
}

impl Store {
    /// Opens the database of a directory from a copy in the first of some places that has room for it.
    ///
    /// # Errors
    /// [`Error::Exhausted`] with `reason` where no place has room; what opening says.
    pub(super) fn open_read_only(
        directory: Directory,
        options: StoreOptions,
        reason: &str,
        places: &[PathBuf],
    ) -> Result<Self> {
        let database = directory.database();
        let bytes = bytes_of(&database)
            .map_err(|error| Error::io(format!("reading {} ({reason})", database.display()), error))?;
        let needed = bytes + OPENING_BYTES;
        let has_room = |place: &&PathBuf| space::free_bytes(place).is_some_and(|free| free >= needed);
        let Some(place) = places.iter().find(has_room) else {
            return Err(Error::Exhausted {
                reason: "DISK_SPACE",
                description: format!(
                    "{reason}; to answer Predict meanwhile, name a folder on another disk with {} MiB free in TMPDIR: the \
                     database is opened read-only from a copy there",
                    needed.div_ceil(1 << 20)
                ),
                retry_after: None,
            });
        };
        let scratch = Scratch::make(place, directory.path())?;
        copy(&database, &scratch.0)
            .map_err(|error| Error::io(format!("copying the database to {}", scratch.0.display()), error))?;
        warn!(reason, copy = %scratch.0.display(), bytes, "the store is opened read-only, from a copy");
        let store = Self::open_database(directory, options, Files::Copy(&scratch.0))?;
        store.inner.read_only.begin(format!("the store is read-only: {reason}"));
        Ok(store)
    }
}

/// Removes copies of a directory's database that a killed process left.
pub(super) fn remove_leftovers(directory: &Directory, places: &[PathBuf]) {
    let Ok(found) = fs::metadata(directory.path()) else { return };
    for folder in places.iter().map(|place| place.join(name(&found))) {
        match fs::remove_dir_all(&folder) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                warn!(%cause, folder = %folder.display(), "a copy of the database that was left cannot be removed");
            }
            _ => {}
        }
    }
}

/// The name of the folder of a copy: only the owner of a data folder's lock makes or removes it.
fn name(data: &Metadata) -> String {
    format!("taxond-read-only-{:x}-{:x}", data.dev(), data.ino())
}

/// The folder of a copy. Its files are unlinked when this is dropped; who has them open can go on reading.
struct Scratch(PathBuf);

impl Scratch {
    /// Makes the folder. One of the same name was removed before.
    fn make(place: &Path, data: &Path) -> Result<Self> {
        let found =
            fs::metadata(data).map_err(|error| Error::io(format!("reading {}", data.display()), error))?;
        let folder = place.join(name(&found));
        let failed = |error| Error::io(format!("making {}", folder.display()), error);
        // Others may write to the folder for temporary files: nothing that they put there is taken.
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(cause) = fs::remove_dir_all(&self.0) {
            warn!(%cause, folder = %self.0.display(), "the copy of the database cannot be removed");
        }
    }
}

/// Bytes of the files of a folder.
fn bytes_of(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let found = entry?.metadata()?;
        bytes += if found.is_file() { found.len() } else { 0 };
    }
    Ok(bytes)
}

/// Copies the files of sled. A snapshot that a crash left unfinished is none.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let unfinished = entry.file_name().to_string_lossy().ends_with(".generating");
        if entry.file_type()?.is_file() && !unfinished {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
