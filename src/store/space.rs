//! Room on the disk: writing stops while there is still enough to delete something.
//!
//! sled cannot go on after a write that failed, so it must not meet a full disk.

use std::path::Path;

use super::{Batch, Store};
use crate::error::{Error, Result};

const DEFAULT_MIN_FREE_BYTES: u64 = 256 << 20;

impl Store {
    /// Whether a batch may be written for all that the disk has left.
    ///
    /// # Errors
    /// [`Error::Exhausted`] with reason `DISK_SPACE`.
    pub(super) fn check_room_for(&self, batch: &Batch) -> Result<()> {
        // Single records are small: they may go on for longer than what comes in bulk.
        if batch.frees || batch.is_empty() { Ok(()) } else { self.check_room(self.inner.min_free_bytes / 2) }
    }

    /// Whether more may come in bulk.
    ///
    /// # Errors
    /// As [`check_room_for`](Self::check_room_for).
    pub(super) fn check_room_for_bulk(&self) -> Result<()> {
        self.check_room(self.inner.min_free_bytes)
    }

    fn check_room(&self, least: u64) -> Result<()> {
        if least == 0 {
            return Ok(());
        }
        let path = self.inner.directory.path();
        // Where the system does not tell, a full disk is met when it is full.
        match free_bytes(path) {
            Some(free) if free < least => Err(short(path, free, least)),
            _ => Ok(()),
        }
    }
}

/// Bytes to keep free where nobody says how many: so many that much can still be deleted, and of a small disk a tenth.
pub(super) fn default_min_free_bytes(path: &Path) -> u64 {
    disk_bytes(path).map_or(DEFAULT_MIN_FREE_BYTES, |disk| DEFAULT_MIN_FREE_BYTES.min(disk / 10))
}

fn short(path: &Path, free: u64, least: u64) -> Error {
    let mebibytes = |bytes: u64| bytes >> 20;
    Error::Exhausted {
        reason: "DISK_SPACE",
        description: format!(
            "{} MiB are free on the disk of {}, and {} MiB are to stay free (min_free_bytes); make room, or delete models or \
             versions and compact the data directory",
            mebibytes(free),
            path.display(),
            mebibytes(least)
        ),
        retry_after: None,
    }
}

/// Bytes that this process may still write to the disk of a path.
#[cfg(target_os = "linux")]
fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Bytes of the disk of a path.
#[cfg(target_os = "linux")]
fn disk_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_blocks.saturating_mul(disk.f_frsize))
}

/// Bytes of the disk of a path.
#[cfg(not(target_os = "linux"))]
fn disk_bytes(_path: &Path) -> Option<u64> {
    None
}

/// Bytes that this process may still write to the disk of a path.
#[cfg(not(target_os = "linux"))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}
