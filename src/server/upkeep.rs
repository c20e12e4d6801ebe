//! What the daemon does by itself from time to time: versions that are beyond what is to be kept are deleted,
//! the reserve for a start on a full disk is kept, memory that is free goes back to the system, and
//! everything that is stored is read, to find damage before somebody needs what is damaged.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use tracing::{error, info, info_span, warn};

use crate::{
    allocator,
    error::{Error, Result},
    predict::Predictor,
    registry::{ModelId, Registry, Retention},
    store::{Checked, Store},
    train::Jobs,
};

/// How often versions are looked at.
const ROUND: Duration = Duration::from_secs(60);
/// How often the service time is stored. A crash loses no more of it than a stop of that length would add.
const KEEP_TIME: Duration = Duration::from_secs(3600);
/// Bytes a second that are read to find damage, so that nobody else notices.
const SCRUB_RATE: usize = 16 << 20;
/// Bytes that are read without a pause.
const SCRUB_PIECE: usize = 1 << 20;

/// What upkeep works on, and by which rules.
pub(super) struct Upkeep {
    pub(super) store: Store,
    pub(super) registry: Arc<Registry>,
    pub(super) predictor: Arc<Predictor>,
    pub(super) jobs: Arc<Jobs>,
    pub(super) retention: Retention,
    /// How often everything is read; none for never.
    pub(super) scrub_every: Option<Duration>,
}

/// The thread of upkeep. It ends when this is dropped, and lets go of the store.
pub(super) struct UpkeepThread {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upkeep {
    /// Starts the thread.
    pub(super) fn start(self) -> Result<UpkeepThread> {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::Builder::new()
            .name("upkeep".into())
            .spawn(move || {
                // The first reading comes a full period after the start: whoever restarts often is not read all the time.
                let mut read = Instant::now();
                let mut seen = HashMap::new();
                let mut clocks = (SystemTime::now(), Instant::now());
                loop {
                    self.store.keep_reserve();
                    if self.store.is_writable() {
                        self.retire(&mut seen);
                    }
                    if clocks.1.elapsed() >= KEEP_TIME {
                        clocks = self.keep_time(clocks);
                    }
                    allocator::give_back();
                    if self.scrub_every.is_some_and(|every| read.elapsed() >= every) {
                        self.scrub(|pause| stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout));
                        read = Instant::now();
                    }
                    let due = self.scrub_every.map_or(ROUND, |every| every.saturating_sub(read.elapsed()));
                    if stopped.recv_timeout(due.min(ROUND)) != Err(RecvTimeoutError::Timeout) {
                        self.keep_time(clocks);
                        return;
                    }
                }
            })
            .map_err(|source| Error::io("starting the upkeep thread", source))?;
        Ok(UpkeepThread { stop: Some(stop), thread: Some(thread) })
    }

    /// Stores the service time, so that the next start goes on from it. Returns what the clocks show.
    fn keep_time(&self, seen: (SystemTime, Instant)) -> (SystemTime, Instant) {
        if !self.store.is_writable() {
            return seen;
        }
        self.registry.keep_service_time(seen).unwrap_or_else(|cause| {
            warn!(%cause, "the service time is not stored");
            seen
        })
    }

    /// Deletes what is beyond the limits, of models that changed since they were last looked at or whose versions age.
    fn retire(&self, seen: &mut HashMap<u64, u64>) {
        let models = match self.registry.models(None, usize::MAX) {
            Ok(models) => models,
            Err(cause) => return warn!(%cause, "models cannot be looked at"),
        };
        for model in models {
            let changed = seen.insert(model.uid, model.sequence) != Some(model.sequence);
            if !changed && self.retention.age.is_none() {
                continue;
            }
            match self.retire_of(&model.id) {
                // A job or a change uses its versions: another time.
                Err(Error::Conflict { .. }) => drop(seen.remove(&model.uid)),
                Err(Error::NotFound { .. }) | Ok(()) => {}
                Err(cause) => warn!(model = %model.id, %cause, "old versions are not deleted"),
            }
        }
    }

    fn retire_of(&self, model: &ModelId) -> Result<()> {
        self.jobs.while_idle(model, || {
            let retired = self.registry.retire(model, self.retention)?;
            for number in &retired {
                self.predictor.forget(model, *number)?;
            }
            if let (Some(newest), Some(oldest)) = (retired.first(), retired.last()) {
                let count = retired.len();
                info!(%model, count, %oldest, %newest, "old versions are deleted");
            }
            Ok(())
        })
    }

    /// Reads everything, slowly. `pause` waits, and says whether to go on.
    fn scrub(&self, pause: impl Fn(Duration) -> bool) {
        let _entered = info_span!("scrub").entered();
        let started = Instant::now();
        let (mut piece, mut stopped) = (0, false);
        let Checked { values, bytes, damage } = self.store.check_while(|bytes| {
            piece += bytes;
            if piece >= SCRUB_PIECE {
                let pieces = std::mem::take(&mut piece) as f64;
                stopped = !pause(Duration::from_secs_f64(pieces / SCRUB_RATE as f64));
            }
            !stopped
        });
        damage.iter().for_each(|damage| error!(error = %damage.error, "damaged data found"));
        if !stopped {
            let seconds = started.elapsed().as_secs_f64();
            info!(values, bytes, damaged = damage.len(), seconds, "everything stored was read");
        }
    }
}

impl Drop for UpkeepThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            error!("the upkeep thread panicked");
        }
    }
}
