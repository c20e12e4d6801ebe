//! Room on the disk: writing stops while there is still enough to delete something.
//!
//! sled cannot go on after a write that failed, so it must not meet a full disk.

use std::{io, path::Path};

use super::{Batch, Store, directory::Directory};
use crate::error::{Error, Result};

/// Bytes that opening writes at most, beside sled's snapshot: four of its segments.
pub(super) const OPENING_BYTES: u64 = 8 << 20;

const DISK_SPACE: &str = "DISK_SPACE";

/// What to do beside making room, where a data folder is on a full disk.
pub(super) const COMPACT_ELSEWHERE: &str =
    "write the data folder anew on another disk with `taxond compact --to DIR`";
/// The same, where a folder was to be made there.
pub(super) const ANOTHER_DISK: &str = "name a folder on another disk";

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

/// Sees to it that a disk has room for what is needed, by the reserve if need be.
///
/// # Errors
/// [`Error::Exhausted`] as [`full`] makes it.
pub(super) fn make_room(directory: &Directory, needed: u64, purpose: &str) -> Result<()> {
    // Where the system does not tell, a full disk is met when it is full.
    let is_short = || free_bytes(directory.path()).is_some_and(|free| free < needed);
    if is_short() {
        directory.release_reserve()?;
    }
    if is_short() { Err(full(directory.path(), needed, purpose, COMPACT_ELSEWHERE)) } else { Ok(()) }
}

/// Whether an error says that a disk, or the part of it that a user may fill, is full.
pub(super) fn is_full(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => is_full_kind(source.kind()),
        Error::Exhausted { reason, .. } => *reason == DISK_SPACE,
        _ => false,
    }
}

pub(super) fn is_full_kind(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The error for a full disk: what is free, what is needed and for what, and what to do.
pub(super) fn full(path: &Path, needed: u64, purpose: &str, remedy: &str) -> Error {
    let free = free_bytes(path).map_or_else(String::new, |free| format!("{} MiB free, ", free >> 20));
    Error::Exhausted {
        reason: DISK_SPACE,
        description: format!(
            "the disk of {} is full: {free}{} MiB needed {purpose}; make room on it, or {remedy}",
            path.display(),
            needed.div_ceil(1 << 20)
        ),
        retry_after: None,
    }
}

/// Bytes that are free on the disk of a path, and those below which nothing more comes in where nobody says otherwise. None where
/// the system does not tell.
pub fn free_and_needed_bytes(path: &Path) -> Option<(u64, u64)> {
    Some((free_bytes(path)?, default_min_free_bytes(path)))
}

/// Bytes to keep free where nobody says how many: so many that much can still be deleted, and of a small disk a tenth.
pub(super) fn default_min_free_bytes(path: &Path) -> u64 {
    disk_bytes(path).map_or(DEFAULT_MIN_FREE_BYTES, |disk| DEFAULT_MIN_FREE_BYTES.min(disk / 10))
}

fn short(path: &Path, free: u64, least: u64) -> Error {
    let mebibytes = |bytes: u64| bytes >> 20;
    Error::Exhausted {
        reason: DISK_SPACE,
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
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
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
pub(super) fn free_bytes(_path: &Path) -> Option<u64> {
    None
}
