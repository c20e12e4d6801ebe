//! How a job that refines a change of the classes makes way for the next change.

use super::{
    claim::Claim,
    jobs::{Active, Shared, training_already},
    stop::Stop,
    work::Task,
};
use crate::{
    error::Result,
    registry::{Batch, JobRecord, ModelId},
};

/// A job that was stopped for a change of the classes. One that waited ends with the change, in the same
/// commit; where there is no commit, dropping this lets it wait again.
pub(super) struct MadeWay<'a> {
    shared: &'a Shared,
    waiting: Option<Waited>,
}

/// A job that waited, and how it ends with the change.
struct Waited {
    claim: Claim,
    task: Task,
    ended: JobRecord,
}

impl Shared {
    /// Makes way for a change of a model's classes: a job that refines an earlier change is stopped, another
    /// refuses. None where there was none to stop.
    pub(super) fn make_way(&self, model: &ModelId) -> Result<Option<MadeWay<'_>>> {
        let Some(Active { id, refines_change, stop }) = self.active(model) else { return Ok(None) };
        if !refines_change {
            return Err(training_already(model, id));
        }
        let mut waiting = self.turns.withdraw(id);
        if waiting.is_none() {
            stop.set(Stop::SUPERSEDED);
            // It may have been on its way back to those that wait.
            waiting = self.turns.withdraw(id);
            self.turns.wake();
        }
        let waiting = waiting.map(|(claim, task)| Waited { ended: task.superseded(), claim, task });
        Ok(Some(MadeWay { shared: self, waiting }))
    }
}

impl MadeWay<'_> {
    /// Adds the end of a job that waited to what is stored with the change.
    pub(super) fn put(&self, batch: &mut Batch) {
        if let Some(waited) = &self.waiting {
            waited.ended.put(batch);
        }
    }

    /// The change is stored.
    pub(super) fn done(mut self) {
        if let Some(Waited { task, ended, .. }) = self.waiting.take() {
            self.shared.finish_waiting(ended, &task);
        }
    }
}

impl Drop for MadeWay<'_> {
    fn drop(&mut self) {
        if let Some(Waited { claim, task, .. }) = self.waiting.take() {
            self.shared.wait_again(claim, task);
        }
    }
}
