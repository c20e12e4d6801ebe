//! The word to a job that it shall end before it is done.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::{
    error::{Error, Result},
    registry::{JobRecord, JobState},
};

/// Whether a job shall end early, and as what.
#[derive(Debug, Default)]
pub(super) struct Stop(AtomicU8);

impl Stop {
    pub(super) const CANCELLED: u8 = 1;
    pub(super) const SUPERSEDED: u8 = 2;
    pub(super) const INTERRUPTED: u8 = 3;

    /// The first cause counts.
    pub(super) fn set(&self, cause: u8) {
        let _already_stopping = self.0.compare_exchange(0, cause, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// [`Error::Cancelled`] where the job was stopped.
    pub(super) fn check(&self) -> Result<()> {
        if self.is_set() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Whether somebody asked for the job to end, so that what it learnt until then is of use to them.
    pub(super) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::CANCELLED
    }

    /// How a job ends that this stopped.
    pub(super) fn ending(&self, job: &JobRecord) -> (JobState, String) {
        let (state, message) = match self.0.load(Ordering::Relaxed) {
            Self::INTERRUPTED => return (JobState::Interrupted, job.interruption()),
            Self::SUPERSEDED => {
                (JobState::Superseded, "a newer change of the classes made the job pointless")
            }
            _ => (JobState::Cancelled, "cancelled on request before an epoch ended; nothing was learnt"),
        };
        (state, message.to_owned())
    }
}
