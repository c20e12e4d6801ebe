//! Why a store takes no writes.

use std::sync::OnceLock;

use crate::error::{Error, Result};

/// The reason once a write has failed: sled cannot go on after that.
pub(super) const WRITE_FAILED: &str =
    "the store is read-only since a write failed; free space or mend the disk, then restart taxond";

/// Empty while a store takes writes; then the first reason why it does not, until it is opened again.
#[derive(Debug, Default)]
pub(super) struct ReadOnly(OnceLock<String>);

impl ReadOnly {
    /// Ends writing. A reason that is there already stays.
    pub(super) fn begin(&self, reason: impl Into<String>) {
        let _first_counts = self.0.set(reason.into());
    }

    /// Why nothing is written; none while writes are taken.
    pub(super) fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    /// Refuses once writing has ended.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the reason.
    pub(super) fn check(&self) -> Result<()> {
        self.reason().map_or(Ok(()), |reason| Err(Error::Unavailable(reason.to_owned())))
    }
}
