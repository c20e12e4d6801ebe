//! Room that is kept for the next start.
//!
//! Opening writes: sled a snapshot and segments, the daemon what it tidies up. On a disk that is full to the
//! last byte none of it could be written, and a restart would take Predict away. So a file of zeros takes
//! some room while there is plenty. An opening or a compaction that is short of room removes it; upkeep makes
//! it again once there is room.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use tracing::{info, warn};

use super::{Store, directory::Directory, space};
use crate::error::{Error, Result};

/// Bytes of the reserve: what opening takes at most (`OPENING_BYTES`), twice.
pub(super) const RESERVE_BYTES: u64 = 16 << 20;

/// Bytes of a block as `st_blocks` counts them.
const BLOCK: u64 = 512;

impl Directory {
    /// Removes the reserve, where there is one, so that its room can be used.
    pub(super) fn release_reserve(&self) -> Result<()> {
        let file = self.reserve();
        match fs::remove_file(&file) {
            Ok(()) => {
                info!(file = %file.display(), bytes = RESERVE_BYTES, "the disk is nearly full: the reserve was released");
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io(format!("removing {}", file.display()), error)),
        }
    }
}

impl Store {
    /// Makes the reserve, if it is missing and the disk has room for it beside what is to stay free. Without
    /// it the daemon does all that it does with it, but for a start on a full disk.
    pub fn keep_reserve(&self) {
        let file = self.inner.directory.reserve();
        if !self.is_writable() || is_whole(&file) {
            return;
        }
        let least = self.inner.min_free_bytes.max(RESERVE_BYTES);
        if space::free_bytes(self.inner.directory.path()).is_none_or(|free| free < RESERVE_BYTES + least) {
            return;
        }
        if let Err(cause) = allocate(&file) {
            // A part would only take room.
            let _removed = fs::remove_file(&file);
            warn!(%cause, file = %file.display(), "the reserve for a start on a full disk cannot be made");
        }
    }
}

/// Whether the blocks of the reserve are really taken: a sparse file would be of no use.
fn is_whole(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.blocks() * BLOCK >= RESERVE_BYTES)
}

fn allocate(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    if !fallocate(&file)? {
        // A file system that compresses would keep nothing of zeros.
        let mut noise = blake3::Hasher::new().finalize_xof();
        let mut piece = vec![0; 1 << 20];
        for _ in 0..RESERVE_BYTES / piece.len() as u64 {
            noise.fill(&mut piece);
            file.write_all(&piece)?;
        }
    }
    file.sync_all()
}

/// Allocates the blocks without writing them. False where the file system cannot.
#[cfg(target_os = "linux")]
fn fallocate(file: &File) -> io::Result<bool> {
    use rustix::{fs::FallocateFlags, io::Errno};
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn fallocate(_file: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    #[test]
    fn the_reserve_holds_its_blocks_and_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let file = dir.path().join("reserve");
        assert!(!file.exists(), "nobody asked for it");
        store.keep_reserve();
        assert!(is_whole(&file));
        store.inner.directory.release_reserve().unwrap();
        assert!(!file.exists());
        store.inner.directory.release_reserve().unwrap();
        // A sparse file of the size holds nothing.
        File::create(&file).unwrap().set_len(RESERVE_BYTES).unwrap();
        assert!(!is_whole(&file));
        store.keep_reserve();
        assert!(is_whole(&file));
    }

    #[test]
    fn a_disk_without_room_has_no_reserve() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { min_free_bytes: Some(64 << 40), ..StoreOptions::default() };
        let store = Store::open(dir.path(), options).unwrap();
        store.keep_reserve();
        assert!(!dir.path().join("reserve").exists());
    }
}
