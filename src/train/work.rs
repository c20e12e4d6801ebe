//! One job from its start on a training thread to its end, whatever happens in it.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Instant, SystemTime},
};

use tracing::{Span, error, info, warn};

use super::{
    TrainOptions,
    claim::{Claim, Need},
    feed::Feed,
    jobs::Shared,
    run::{self, Ran},
    stop::Stop,
    turns::Turns,
};
use crate::{
    error::{Error, Result},
    model::kernels::release_memory,
    registry::{JobId, JobRecord, JobState},
    taxonomy::VersionNumber,
};

/// An accepted job on its way to a training thread.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) record: JobRecord,
    pub(super) options: TrainOptions,
    pub(super) feed: Arc<Feed>,
    pub(super) stop: Arc<Stop>,
    pub(super) span: Span,
}

/// The turn of a job that was started: what it may do only by turns with others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn<'a> {
    turns: &'a Turns<Task>,
    id: JobId,
    stop: &'a Stop,
}

impl Task {
    /// The record of the job when it was stopped before it started.
    pub(super) fn ended(&self) -> JobRecord {
        let (state, message) = self.stop.ending(&self.record);
        JobRecord { state, message, ended: Some(SystemTime::now()), ..self.record.clone() }
    }

    /// The record of the job when a newer change makes it pointless before it started.
    pub(super) fn superseded(&self) -> JobRecord {
        let stop = Stop::default();
        stop.set(Stop::SUPERSEDED);
        let (state, message) = stop.ending(&self.record);
        JobRecord { state, message, ended: Some(SystemTime::now()), ..self.record.clone() }
    }
}

impl<'a> Turn<'a> {
    /// What stops the job.
    pub(super) fn stop(&self) -> &'a Stop {
        self.stop
    }

    /// Lets other jobs compute where it is their turn. Breaks where the job was stopped: then it computes no
    /// more.
    pub(super) fn offer(&self) -> ControlFlow<()> {
        self.turns.offer(self.id, self.stop)
    }

    /// As [`Turn::offer`].
    ///
    /// # Errors
    /// [`Error::Cancelled`] where the job was stopped.
    pub(super) fn offer_or_end(&self) -> Result<()> {
        match self.offer() {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }

    /// As [`Turns::reserve`].
    pub(super) fn reserve(&self, need: Need) -> Result<(), Claim> {
        self.turns.reserve(self.id, need)
    }
}

impl Shared {
    /// What a training thread does: the jobs that are its turn to start, one after the other.
    pub(super) fn work_on(&self) {
        while let Some((id, task)) = self.turns.next() {
            if catch_unwind(AssertUnwindSafe(|| self.work(task))).is_err() {
                error!(job = %id, "the end of a job panicked; see the log");
                self.turns.end(id);
            }
            release_memory();
        }
    }

    /// Runs one job to its end, whatever happens in it.
    fn work(&self, task: Task) {
        let id = task.record.id;
        let (span, stop, feed) = (task.span.clone(), Arc::clone(&task.stop), Arc::clone(&task.feed));
        let _entered = span.enter();
        let started = Instant::now();
        let turn = Turn { turns: &self.turns, id, stop: &stop };
        let mut record = task.record.clone();
        let result = if stop.is_set() {
            Err(Error::Cancelled)
        } else {
            catch_unwind(AssertUnwindSafe(|| run::run(self, &mut record, &task.options, &feed, turn)))
                .unwrap_or_else(|_| Err(Error::Internal("the training panicked; see the log".into())))
        };
        let (learnt, result) = match result {
            Ok(Ran::Learnt(learnt)) => (Some(learnt), Ok(())),
            Ok(Ran::NoRoom(claim)) => return self.wait_for_room(claim, task),
            Err(cause) => (None, Err(cause)),
        };
        let (state, message) = match result {
            Ok(()) => (JobState::Succeeded, String::new()),
            Err(Error::Cancelled) => {
                let (state, message) = stop.ending(&record);
                // Where a stage was cut short after an epoch, its version is stored with this state.
                let stored = record.state == JobState::Cancelled;
                let left = record.versions.last().filter(|_| state == JobState::Cancelled);
                (state, left.map_or(message, |version| left_by_cancelled(*version, stored)))
            }
            // Only a change of the classes or a moved alias gets between a job and its publication.
            Err(Error::Conflict { reason: "SERVING_MOVED", description, .. }) => {
                (JobState::Superseded, description)
            }
            Err(cause) => (JobState::Failed, cause.to_string()),
        };
        let seconds = started.elapsed().as_secs_f64();
        match state {
            JobState::Failed => error!(seconds, message, "job failed"),
            _ => info!(seconds, ?state, "job ended"),
        }
        (record.state, record.message, record.ended) = (state, message, Some(SystemTime::now()));
        if let Err(cause) = self.registry.put_job(&record) {
            error!(%cause, "the end of the job could not be stored");
        }
        self.finish(record, &feed);
        if let Some(learnt) = learnt {
            let kept = catch_unwind(AssertUnwindSafe(|| learnt.keep_features(self, turn)));
            match kept {
                Ok(Ok(()) | Err(Error::Cancelled)) => {}
                Ok(Err(cause)) => warn!(%cause, "features were not kept"),
                Err(_) => error!("keeping features panicked; see the log"),
            }
        }
        self.leave(id);
    }

    /// Ends a job that was stopped while it waited, and that no thread will start any more.
    ///
    /// # Errors
    /// Those of the store: then it waits again, and ends when it would start.
    pub(super) fn end_waiting(&self, claim: Claim, task: Task) -> Result<JobRecord> {
        let record = task.ended();
        if let Err(cause) = self.registry.put_job(&record) {
            self.wait_again(claim, task);
            return Err(cause);
        }
        info!(job = %record.id, state = ?record.state, "job ended before it started");
        self.finish_waiting(record.clone(), &task);
        Ok(record)
    }

    /// Puts a job back among those that wait, unless the daemon stops: then its record ends with the next
    /// start.
    pub(super) fn wait_again(&self, claim: Claim, task: Task) {
        if let Err(task) = self.turns.accept(task.record.id, claim, task) {
            task.stop.set(Stop::INTERRUPTED);
            self.finish_waiting(task.ended(), &task);
        }
    }

    /// As [`Shared::finish`], for a job that was not started.
    pub(super) fn finish_waiting(&self, record: JobRecord, task: &Task) {
        self.finish(record, &task.feed);
        self.leave(task.record.id);
    }

    /// Lets a job wait again that was started and for which there is no room beside the others.
    fn wait_for_room(&self, claim: Claim, task: Task) {
        let (id, stop) = (task.record.id, Arc::clone(&task.stop));
        info!(
            memory = claim.need.memory,
            "no room beside the jobs in progress; it waits until some of them end"
        );
        // As it was before it started.
        if let Err(cause) = self.registry.put_job(&task.record) {
            error!(%cause, "that the job waits could not be stored");
        }
        self.wait_again(claim, task);
        // Who stopped it on its way here did not find it among those that wait.
        if stop.is_set()
            && let Some((claim, task)) = self.turns.withdraw(id)
            && let Err(cause) = self.end_waiting(claim, task)
        {
            error!(%cause, "the end of the job could not be stored");
        }
    }
}

/// What a cancelled job leaves, in words: the version of the stage that was cut short, or only that of the
/// stage before.
fn left_by_cancelled(version: VersionNumber, stored: bool) -> String {
    if stored {
        return format!(
            "cancelled on request; what its best epoch learnt is stored as version {version}, not promoted"
        );
    }
    format!("cancelled on request before an epoch ended; version {version}, which it published before, stays")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_job_says_what_it_leaves() {
        let said = |stored| left_by_cancelled(VersionNumber(3), stored);
        assert!(said(true).ends_with("is stored as version 3, not promoted"));
        assert!(said(false).ends_with("version 3, which it published before, stays"));
    }
}
