//! Jobs: accepted one a model, computed by turns on the training threads, followed by any number of clients.
//!
//! The threads wait in `turns` until a job may start, and take it to its end in `work`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::SystemTime,
};

use tracing::{Span, error, info, info_span, warn};

use super::{
    EventKind, FitProgress, Order, Tolerance, TrainOptions, VectorsDir, Watch,
    claim::Need,
    features::Kept,
    feed::Feed,
    run,
    schedule::{Limits, MOST_STARTED, Positions},
    stop::Stop,
    turns::Turns,
    work::Task,
};
use crate::{
    cancel::Cancellation,
    dataset::{Dataset, FeatureCache},
    error::{Error, Result},
    model::Device,
    niceness::give_way,
    registry::{JobId, JobRecord, Model, ModelId, Receipt, Registry, Version},
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
    /// Bytes that the trainings in progress may take together.
    pub memory_limit: u64,
    /// What the gate bears with.
    pub tolerance: Tolerance,
    /// What encoders made of examples.
    pub features: Arc<FeatureCache>,
    /// By how much the training threads give way to those that answer.
    pub niceness: u8,
}

/// The jobs of all models.
pub struct Jobs {
    pub(super) shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

/// What the callers and the training threads have in common.
pub(super) struct Shared {
    pub(super) registry: Arc<Registry>,
    pub(super) dataset: Dataset,
    pub(super) device: Device,
    pub(super) vectors: VectorsDir,
    /// Bytes that the trainings in progress may take together.
    pub(super) memory_limit: u64,
    pub(super) tolerance: Tolerance,
    pub(super) features: Arc<FeatureCache>,
    /// Told of every promoted version before clients are.
    pub(super) promoted: Box<dyn Fn(&Version) + Send + Sync>,
    /// The jobs that wait to be started, and which of all jobs computes.
    pub(super) turns: Turns<Task>,
    state: Mutex<State>,
    /// Held while a change of a model is prepared and published, so that two cannot interleave.
    changing: Mutex<()>,
}

#[derive(Default)]
struct State {
    active: BTreeMap<ModelId, Active>,
    feeds: BTreeMap<JobId, Arc<Feed>>,
    /// The stops of all jobs that are on their way, those included that ended and still keep features.
    stops: BTreeMap<JobId, Arc<Stop>>,
}

/// A job that has not ended.
#[derive(Clone)]
pub(super) struct Active {
    pub(super) id: JobId,
    /// Whether it only refines a change of the classes, so that a newer change makes it pointless.
    pub(super) refines_change: bool,
    pub(super) stop: Arc<Stop>,
}

impl Jobs {
    /// Starts the training threads. `promoted` is called for each version that begins to serve, before clients hear of it.
    ///
    /// # Errors
    /// [`Error::Io`] where the system gives no thread.
    pub fn start(
        registry: Arc<Registry>,
        dataset: Dataset,
        host: Host,
        promoted: Box<dyn Fn(&Version) + Send + Sync>,
    ) -> Result<Self> {
        let Host { device, vectors, memory_limit, tolerance, features, niceness } = host;
        let room = Need { memory: memory_limit, device: device_room(&device) };
        let turns = Turns::new(Limits { started: MOST_STARTED, room });
        let (state, changing) = Default::default();
        let shared = Shared {
            registry,
            dataset,
            device,
            vectors,
            memory_limit,
            tolerance,
            features,
            promoted,
            turns,
            state,
            changing,
        };
        let shared = Arc::new(shared);
        let jobs = Self { shared: Arc::clone(&shared), workers: Mutex::default() };
        for number in 0..MOST_STARTED {
            let worker = std::thread::Builder::new().name(format!("train-{number}")).spawn({
                let shared = Arc::clone(&shared);
                move || {
                    give_way(niceness);
                    shared.work_on();
                }
            });
            match worker {
                Ok(worker) => jobs.lock_workers().push(worker),
                Err(source) => {
                    jobs.close();
                    return Err(Error::io("starting the training threads", source));
                }
            }
        }
        shared.take_up_interrupted()?;
        Ok(jobs)
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
        cancel: &Cancellation,
    ) -> Result<JobRecord> {
        let _changing = self.shared.lock_changes();
        let model = self.shared.registry.model(model)?;
        self.shared.refuse_active(&model.id)?;
        run::check_trainable(&self.shared, &model, options.strategy, cancel)?;
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

    /// Where the jobs stand that do not compute.
    pub fn positions(&self) -> Positions {
        self.shared.turns.positions()
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

    /// Ends a job; what it published stays. One that waits to be started has ended when this returns, durably. One that was
    /// started ends soon after, as its record then says.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Precondition`] where the job has ended already; the error of the store where the end
    /// cannot be stored.
    pub fn cancel(&self, id: JobId) -> Result<JobRecord> {
        let record = self.shared.registry.job(id)?;
        let active = self.shared.active(&record.model).filter(|active| active.id == id);
        let Some(Active { stop, .. }) = active else {
            return Err(Error::Precondition {
                reason: "JOB_ENDED",
                subject: id.name(),
                description: format!("{} has ended already; there is nothing to cancel", id.name()),
            });
        };
        // First, so that a job that is between two places sees it at the next one.
        stop.set(Stop::CANCELLED);
        info!(job = %id, "cancel asked for");
        match self.shared.turns.withdraw(id) {
            Some((claim, task)) => self.shared.end_waiting(claim, task),
            None => {
                self.shared.turns.wake();
                Ok(record)
            }
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

    /// Ends all jobs as interrupted and waits for the training threads. Blocks for up to one step of a training.
    pub fn close(&self) {
        let waiting = self.shared.turns.close();
        self.shared.lock().stops.values().for_each(|stop| stop.set(Stop::INTERRUPTED));
        self.shared.turns.wake();
        for task in waiting.into_values() {
            let record = task.ended();
            if let Err(cause) = self.shared.registry.put_job(&record) {
                error!(%cause, job = %record.id, "the end of a job could not be stored");
            }
            self.shared.finish_waiting(record, &task);
        }
        let workers = std::mem::take(&mut *self.lock_workers());
        if workers.into_iter().map(JoinHandle::join).any(|ended| ended.is_err()) {
            error!("a training thread panicked");
        }
    }

    fn lock_workers(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Puts an accepted job among those that wait to be started.
    pub(super) fn enqueue(&self, record: JobRecord, order: Order) -> Result<JobRecord> {
        let claim = order.claim(&record.model);
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
        state.stops.insert(record.id, Arc::clone(&stop));
        let task = Task { record: record.clone(), options, feed, stop, span };
        if self.turns.accept(record.id, claim, task).is_err() {
            state.active.remove(&record.model);
            state.stops.remove(&record.id);
            return Err(Error::Unavailable("the daemon is shutting down; try again later".into()));
        }
        Ok(record)
    }

    /// Ends a job for the schedule.
    pub(super) fn leave(&self, id: JobId) {
        self.lock().stops.remove(&id);
        self.turns.end(id);
    }

    /// Frees the model of a job whose end is stored, and tells those who follow it.
    pub(super) fn finish(&self, record: JobRecord, feed: &Feed) {
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

    /// The job of a model that has not ended.
    pub(super) fn active(&self, model: &ModelId) -> Option<Active> {
        self.lock().active.get(model).cloned()
    }

    /// Refuses while a job trains the model.
    fn refuse_active(&self, model: &ModelId) -> Result<()> {
        match self.lock().active.get(model) {
            Some(active) => Err(training_already(model, active.id)),
            None => Ok(()),
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
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

pub(super) fn training_already(model: &ModelId, job: JobId) -> Error {
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

/// The error for a model that has nothing to learn from.
pub(super) fn no_examples(model: &Model) -> Error {
    Error::Precondition {
        reason: "NO_EXAMPLES",
        subject: model.id.name(),
        description: format!("{} has no examples; add some first", model.id.name()),
    }
}

/// Bytes of a graphics processor that trainings may take together: nine tenths of what is free, as its libraries take some.
fn device_room(device: &Device) -> u64 {
    match device {
        Device::Cpu => u64::MAX,
        Device::Cuda(cuda) => cuda.memory().map_or(u64::MAX, |(free, _)| free as u64 / 10 * 9),
    }
}
