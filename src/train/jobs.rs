//! Jobs: accepted one a model, run one after the other on the training thread, followed by any number of clients.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Instant, SystemTime},
};

use tracing::{Span, error, info, info_span, warn};

use super::{
    EventKind, FitProgress, Order, Tolerance, TrainOptions, VectorsDir, Watch, features::Kept, feed::Feed,
    give_way, run, stop::Stop,
};
use crate::{
    dataset::{Dataset, FeatureCache},
    error::{Error, Result},
    model::{Device, kernels::release_memory},
    registry::{JobId, JobRecord, JobState, Model, ModelId, Receipt, Registry, Version},
    taxonomy::VersionNumber,
};

/// Feeds of ended jobs that stay in memory for clients that come late.
const KEPT_FEEDS: usize = 64;

/// What trainings may use of the machine.
#[derive(Debug)]
pub struct Host {
    /// Where networks run.
    pub device: Device,
    /// The folder of word vectors.
    pub vectors: VectorsDir,
    /// Bytes that a training may take.
    pub memory_limit: u64,
    /// What the gate bears with.
    pub tolerance: Tolerance,
    /// What encoders made of examples.
    pub features: Arc<FeatureCache>,
    /// By how much the training thread gives way to those that answer.
    pub niceness: u8,
}

/// The jobs of all models.
pub struct Jobs {
    pub(super) shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// What the callers and the training thread have in common.
pub(super) struct Shared {
    pub(super) registry: Arc<Registry>,
    pub(super) dataset: Dataset,
    pub(super) device: Device,
    pub(super) vectors: VectorsDir,
    /// Bytes that a training may take.
    pub(super) memory_limit: u64,
    pub(super) tolerance: Tolerance,
    pub(super) features: Arc<FeatureCache>,
    /// Told of every promoted version before clients are.
    pub(super) promoted: Box<dyn Fn(&Version) + Send + Sync>,
    state: Mutex<State>,
    /// Held while a change of a model is prepared and published, so that two cannot interleave.
    changing: Mutex<()>,
}

#[derive(Default)]
struct State {
    active: BTreeMap<ModelId, Active>,
    feeds: BTreeMap<JobId, Arc<Feed>>,
    /// Where accepted jobs go; none once the jobs are closed.
    queue: Option<mpsc::Sender<Task>>,
}

/// A job that has not ended.
struct Active {
    id: JobId,
    /// Whether it only refines a change of the classes, so that a newer change makes it pointless.
    refines_change: bool,
    stop: Arc<Stop>,
}

/// An accepted job on its way to the training thread.
struct Task {
    record: JobRecord,
    options: TrainOptions,
    feed: Arc<Feed>,
    stop: Arc<Stop>,
    span: Span,
}

impl Jobs {
    /// Starts the training thread. `promoted` is called for each version that begins to serve, before clients hear of it.
    ///
    /// # Errors
    /// [`Error::Io`] where the system gives no thread.
    pub fn start(
        registry: Arc<Registry>,
        dataset: Dataset,
        host: Host,
        promoted: Box<dyn Fn(&Version) + Send + Sync>,
    ) -> Result<Self> {
        let (queue, tasks) = mpsc::channel::<Task>();
        let state = Mutex::new(State { queue: Some(queue), ..State::default() });
        let Host { device, vectors, memory_limit, tolerance, features, niceness } = host;
        let changing = Mutex::default();
        let shared = Shared {
            registry,
            dataset,
            device,
            vectors,
            memory_limit,
            tolerance,
            features,
            promoted,
            state,
            changing,
        };
        let shared = Arc::new(shared);
        let worker = std::thread::Builder::new()
            .name("train".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    give_way(niceness);
                    for task in tasks {
                        shared.work(task);
                        release_memory();
                    }
                }
            })
            .map_err(|source| Error::io("starting the training thread", source))?;
        shared.take_up_interrupted()?;
        Ok(Self { shared, worker: Mutex::new(Some(worker)) })
    }

    /// Accepts a training of a model.
    ///
    /// # Errors
    /// [`Error::Conflict`] naming the job that trains the model already; [`Error::Precondition`] for a model without
    /// examples or with one class only.
    pub fn train(
        &self,
        model: &ModelId,
        options: TrainOptions,
        receipt: Option<Receipt>,
    ) -> Result<JobRecord> {
        let _changing = self.shared.lock_changes();
        let model = self.shared.registry.model(model)?;
        self.shared.refuse_active(&model.id)?;
        run::check_trainable(&self.shared, &model, options.strategy)?;
        let order = Order { options, refines_change: false };
        let record = self.shared.registry.new_job(&model.id, order.encode()?, receipt)?;
        self.shared.enqueue(record, order)
    }

    /// Follows a job: what it published so far, then what comes.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn watch(&self, id: JobId) -> Result<Watch> {
        if let Some(feed) = self.shared.lock().feeds.get(&id) {
            return Ok(Watch::new(feed));
        }
        // The job ended long ago, or before the daemon started: its record is all there is of it.
        let (feed, record) = (Feed::new(), self.shared.registry.job(id)?);
        feed.send_of(record.created, EventKind::Accepted);
        feed.send_of(record.ended.unwrap_or_else(SystemTime::now), EventKind::Finished(Box::new(record)));
        Ok(Watch::new(&feed))
    }

    /// The latest progress of a job that has not ended.
    pub fn progress(&self, id: JobId) -> Option<FitProgress> {
        self.shared.lock().feeds.get(&id).and_then(|feed| feed.progress())
    }

    /// The folder of word vectors.
    pub fn vectors(&self) -> &VectorsDir {
        &self.shared.vectors
    }

    /// Forgets what encoders made of the examples of a model that was deleted.
    pub fn forget_features(&self, uid: u64) {
        self.shared.features.remove(uid);
    }

    /// The job that trains a model now.
    pub fn running(&self, model: &ModelId) -> Option<JobId> {
        self.shared.lock().active.get(model).map(|active| active.id)
    }

    /// Asks a job to end; what it published stays.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Precondition`] where the job has ended already.
    pub fn cancel(&self, id: JobId) -> Result<JobRecord> {
        let record = self.shared.registry.job(id)?;
        let state = self.shared.lock();
        match state.active.get(&record.model).filter(|active| active.id == id) {
            Some(active) => {
                active.stop.set(Stop::CANCELLED);
                info!(job = %id, "cancel asked for");
                Ok(record)
            }
            None => Err(Error::Precondition {
                reason: "JOB_ENDED",
                subject: id.name(),
                description: format!("{} has ended already; there is nothing to cancel", id.name()),
            }),
        }
    }

    /// Runs `delete` while no job of the model can start, and refuses while one runs.
    ///
    /// # Errors
    /// [`Error::Conflict`] naming the job, or what `delete` returns.
    pub fn while_idle<T>(&self, model: &ModelId, delete: impl FnOnce() -> Result<T>) -> Result<T> {
        let _changing = self.shared.lock_changes();
        self.shared.refuse_active(model)?;
        delete()
    }

    /// Ends all jobs as interrupted and waits for the training thread. Blocks for up to one step of a training.
    pub fn close(&self) {
        {
            let mut state = self.shared.lock();
            state.queue = None;
            state.active.values().for_each(|active| active.stop.set(Stop::INTERRUPTED));
        }
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if worker.is_some_and(|worker| worker.join().is_err()) {
            error!("the training thread panicked");
        }
    }
}

impl Shared {
    /// Puts an accepted job in the queue.
    pub(super) fn enqueue(&self, record: JobRecord, order: Order) -> Result<JobRecord> {
        let Order { options, refines_change } = order;
        // It outlives the call that asked for it, and so is no part of that.
        let span = info_span!(parent: None, "job", id = %record.id, model = %record.model);
        span.follows_from(Span::current());
        let (feed, stop) = (Feed::new(), Arc::new(Stop::default()));
        feed.send_of(record.created, EventKind::Accepted);
        let mut state = self.lock();
        let active = Active { id: record.id, refines_change, stop: Arc::clone(&stop) };
        state.active.insert(record.model.clone(), active);
        state.feeds.insert(record.id, Arc::clone(&feed));
        let task = Task { record: record.clone(), options, feed, stop, span };
        if state.queue.as_ref().is_none_or(|queue| queue.send(task).is_err()) {
            state.active.remove(&record.model);
            return Err(Error::Unavailable("the daemon is shutting down; try again later".into()));
        }
        Ok(record)
    }

    /// Queues the work of the jobs that the stop of the daemon ended. What cannot be is told and left.
    fn take_up_interrupted(&self) -> Result<()> {
        for interrupted in self.registry.jobs_to_continue()? {
            let id = interrupted.id;
            let queued = Order::decode(&interrupted.order)
                .and_then(|order| self.enqueue(self.registry.continue_job(interrupted)?, order));
            match queued {
                Ok(job) => {
                    info!(job = %job.id, continues = %id, "the work of an interrupted job is done again")
                }
                Err(Error::NotFound { .. }) => {}
                Err(cause) => warn!(%cause, job = %id, "the work of an interrupted job is not done again"),
            }
        }
        Ok(())
    }

    /// Refuses while a job trains the model.
    fn refuse_active(&self, model: &ModelId) -> Result<()> {
        match self.lock().active.get(model) {
            Some(active) => Err(training_already(model, active.id)),
            None => Ok(()),
        }
    }

    /// Makes way for a change of a model's classes: a job that refines an earlier change is stopped, another refuses.
    /// Whether there was one to stop.
    pub(super) fn make_way(&self, model: &ModelId) -> Result<bool> {
        match self.lock().active.get(model) {
            Some(active) if active.refines_change => {
                active.stop.set(Stop::SUPERSEDED);
                Ok(true)
            }
            Some(active) => Err(training_already(model, active.id)),
            None => Ok(false),
        }
    }

    /// The features that are kept of a model's examples.
    pub(super) fn kept(&self, uid: u64) -> Kept<'_> {
        Kept { cache: &self.features, uid }
    }

    pub(super) fn lock_changes(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one job to its end, whatever happens in it.
    fn work(&self, task: Task) {
        let Task { mut record, options, feed, stop, span } = task;
        let _entered = span.enter();
        let started = Instant::now();
        let result = if stop.is_set() {
            Err(Error::Cancelled)
        } else {
            catch_unwind(AssertUnwindSafe(|| run::run(self, &mut record, &options, &feed, &stop)))
                .unwrap_or_else(|_| Err(Error::Internal("the training panicked; see the log".into())))
        };
        let (learnt, result) = match result {
            Ok(learnt) => (Some(learnt), Ok(())),
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
        let mut state = self.lock();
        // A change may have put its own job in this one's place already.
        if state.active.get(&record.model).is_some_and(|active| active.id == record.id) {
            state.active.remove(&record.model);
        }
        while state.feeds.len() > KEPT_FEEDS {
            let active: Vec<JobId> = state.active.values().map(|active| active.id).collect();
            let Some(oldest) = state.feeds.keys().find(|id| !active.contains(id)).copied() else { break };
            state.feeds.remove(&oldest);
        }
        drop(state);
        feed.send(EventKind::Finished(Box::new(record)));
        if let Some(learnt) = learnt {
            let kept = catch_unwind(AssertUnwindSafe(|| learnt.keep_features(self, &stop)));
            match kept {
                Ok(Ok(()) | Err(Error::Cancelled)) => {}
                Ok(Err(cause)) => warn!(%cause, "features were not kept"),
                Err(_) => error!("keeping features panicked; see the log"),
            }
        }
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

fn training_already(model: &ModelId, job: JobId) -> Error {
    Error::Conflict {
        reason: "MODEL_TRAINING",
        subject: job.name(),
        description: format!(
            "{} is being trained by {}; wait for it, or cancel it first",
            model.name(),
            job.name()
        ),
    }
}

/// What a cancelled job leaves, in words: the version of the stage that was cut short, or only that of the stage before.
fn left_by_cancelled(version: VersionNumber, stored: bool) -> String {
    if stored {
        return format!(
            "cancelled on request; what its best epoch learnt is stored as version {version}, not promoted"
        );
    }
    format!("cancelled on request before an epoch ended; version {version}, which it published before, stays")
}

/// The error for a model that has nothing to learn from.
pub(super) fn no_examples(model: &Model) -> Error {
    Error::Precondition {
        reason: "NO_EXAMPLES",
        subject: model.id.name(),
        description: format!("{} has no examples; add some first", model.id.name()),
    }
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
