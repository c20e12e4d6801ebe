//! The queue between requests and the threads that compute.
//!
//! A thread takes what is there when it is free, as many texts of one version as fit a batch, and never waits for more:
//! under load batches grow by themselves. A single short text that finds nothing to wait for is computed by whoever asks,
//! which saves it the way to another thread and back.
//!
//! Bulk requests (many texts, or a stream) have threads of their own, at a lower priority than those of interactive requests (a
//! few texts). So a flood of bulk requests hardly delays an interactive one, and bulk requests keep a quarter of the processor.
//!
//! The queue is bounded by number, and for requests of a few texts by time as well: whoever asks more of a daemon than it
//! can do is refused at once, and what is answered is answered soon.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{self, Notify, oneshot};
use tracing::{error, warn};

use super::{
    BatchStats, Live,
    waiting::{ByTraffic, LaneId, Part, Traffic, Waiting},
};
use crate::{
    error::{Error, Result},
    model::{LeafProbabilities, Network},
    niceness::give_way_by,
    text::EncodedText,
};

/// Texts that streams leave waiting: the threads never run dry, and a single request still finds room, near the front.
const STREAM_TEXTS: usize = 8 * Network::BATCH;
/// How much nicer the threads of bulk requests are than those of interactive ones. When all of them compute, five steps leave the
/// bulk threads a quarter of the processor (weights 335 and 1024 on Linux).
const BULK_NICENESS: u8 = 5;
/// Bytes of a text, and states of an LSTM, up to which a text is computed by whoever asks, so that what else its thread
/// serves does not wait for long.
const SHORT_TEXT: usize = 1024;
const SMALL_NETWORK: usize = 256;

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Texts.
    pub texts: usize,
    /// What the texts before a request of a few take to be computed; without end if absent.
    pub time: Option<Duration>,
}

/// What the network says to the texts of one request.
#[derive(Debug)]
pub(super) struct Computed {
    pub(super) rows: LeafProbabilities,
    pub(super) texts: Vec<TextRead>,
}

/// What the network read of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextRead {
    pub(super) tokens: usize,
    pub(super) truncated: bool,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Pending {
    /// It was computed at once.
    Done(Computed),
    /// It waits. Dropped before a thread comes to it, it costs no computation.
    Waits(oneshot::Receiver<Result<Computed>>),
}

struct Request {
    live: Arc<Live>,
    texts: Vec<String>,
    state: Mutex<RequestState>,
}

struct RequestState {
    /// Gone once it is answered.
    reply: Option<oneshot::Sender<Result<Computed>>>,
    /// What is computed, with the number of its first text.
    parts: Vec<(usize, Computed)>,
    /// Texts that are not computed yet.
    left: usize,
}

/// A bounded queue and its threads.
pub(super) struct Batcher {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
}

struct Queue {
    state: Mutex<State>,
    /// Where the threads of each kind of traffic wait for work.
    ready: ByTraffic<Condvar>,
    /// Told when texts have left the queue.
    room: Notify,
    /// Held by the one stream that waits for room; the others wait for it, first come, first served.
    turn: sync::Mutex<()>,
    /// Those of each kind of traffic.
    threads: usize,
    limits: QueueLimits,
    stats: BatchStats,
}

struct State {
    waiting: Waiting<Arc<Request>>,
    /// Counts of threads for each kind of traffic.
    workers: ByTraffic<Workers>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Workers {
    /// Threads that wait for work.
    idle: usize,
    /// Batches that are computed now, by whomever.
    computing: usize,
}

impl Batcher {
    /// Starts so many threads for each kind of traffic.
    pub(super) fn start(limits: QueueLimits, threads: usize) -> Result<Self> {
        let waiting = Waiting::new(limits.texts);
        let queue = Arc::new(Queue {
            state: Mutex::new(State { waiting, workers: ByTraffic::default(), closed: false }),
            ready: ByTraffic::default(),
            room: Notify::new(),
            turn: sync::Mutex::default(),
            threads,
            limits,
            stats: BatchStats::default(),
        });
        let mut batcher = Self { queue, workers: Vec::with_capacity(2 * threads) };
        for number in 0..threads {
            batcher.start_worker(format!("predict-{number}"), Traffic::Interactive)?;
            batcher.start_worker(format!("predict-bulk-{number}"), Traffic::Bulk)?;
        }
        Ok(batcher)
    }

    fn start_worker(&mut self, name: String, traffic: Traffic) -> Result<()> {
        let queue = Arc::clone(&self.queue);
        let work = move || {
            if traffic == Traffic::Bulk {
                give_way_by(BULK_NICENESS);
            }
            queue.work(traffic);
        };
        let worker = std::thread::Builder::new().name(name).spawn(work);
        self.workers.push(worker.map_err(|source| Error::io("starting a prediction thread", source))?);
        Ok(())
    }

    /// Computes a short text here and now if no other interactive request is under way, else queues texts.
    ///
    /// # Errors
    /// [`Error::Exhausted`] with a time to retry when the queue is full; [`Error::Unavailable`] once closed.
    pub(super) fn submit(&self, live: &Arc<Live>, texts: Vec<String>) -> Result<Pending> {
        let mut state = self.queue.lock();
        state.refuse_if_closed()?;
        let lane = LaneId::of(version(live), texts.len());
        let is_busy =
            state.workers.of(lane.traffic).computing > 0 || state.waiting.texts_of(lane.traffic) > 0;
        if !is_busy && is_quick(live, &texts) {
            state.workers.of_mut(lane.traffic).computing += 1;
            drop(state);
            let started = Instant::now();
            let computed = compute(live, texts.iter());
            self.queue.measured(started, texts.len());
            self.queue.lock().workers.of_mut(lane.traffic).computing -= 1;
            return computed.map(Pending::Done);
        }
        let pace = |request: &Arc<Request>| request.live.paces.of(lane.traffic).seconds();
        state.waiting.admit(lane, texts.len(), self.queue.limits.time, self.queue.threads, pace)?;
        Ok(Pending::Waits(self.queue.push(state, lane, live, texts)))
    }

    /// What batches were measured by.
    pub(super) fn stats(&self) -> &BatchStats {
        &self.queue.stats
    }

    /// Texts that wait.
    pub(super) fn waiting_texts(&self) -> usize {
        self.queue.lock().waiting.texts()
    }

    /// Queues texts as soon as there is room. Dropped while it waits, it leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::Unavailable`] once closed.
    pub(super) async fn submit_in_turn(&self, live: &Arc<Live>, texts: Vec<String>) -> Result<Pending> {
        let _turn = self.queue.turn.lock().await;
        let limit = STREAM_TEXTS.min(self.queue.limits.texts);
        let lane = LaneId::of_stream(version(live));
        loop {
            {
                let state = self.queue.lock();
                state.refuse_if_closed()?;
                let fits = state.waiting.texts() + texts.len() <= limit;
                if state.waiting.is_empty() || fits && state.waiting.has_room(lane, texts.len()) {
                    return Ok(Pending::Waits(self.queue.push(state, lane, live, texts)));
                }
            }
            self.queue.room.notified().await;
        }
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        Traffic::ALL.iter().for_each(|&traffic| self.queue.ready.of(traffic).notify_all());
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                error!("a prediction thread panicked");
            }
        }
    }
}

impl State {
    fn refuse_if_closed(&self) -> Result<()> {
        if self.closed {
            return Err(Error::Unavailable("the daemon is shutting down; try again later".into()));
        }
        Ok(())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Counters and whole requests: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(
        &self,
        mut state: MutexGuard<'_, State>,
        lane: LaneId,
        live: &Arc<Live>,
        texts: Vec<String>,
    ) -> oneshot::Receiver<Result<Computed>> {
        let (reply, receiver) = oneshot::channel();
        let left = texts.len();
        let request = RequestState { reply: Some(reply), parts: Vec::new(), left };
        let request = Request { live: Arc::clone(live), texts, state: Mutex::new(request) };
        state.waiting.push(lane, Arc::new(request), left);
        let is_anyone_idle = state.workers.of(lane.traffic).idle > 0;
        drop(state);
        if is_anyone_idle {
            self.ready.of(lane.traffic).notify_one();
        }
        receiver
    }

    fn measured(&self, started: Instant, texts: usize) {
        self.stats.texts.add(texts as f64);
        self.stats.seconds.add(started.elapsed().as_secs_f64());
    }

    /// What a thread does until the queue is closed and has nothing of its kind of traffic.
    fn work(&self, traffic: Traffic) {
        let ready = self.ready.of(traffic);
        let mut state = self.lock();
        loop {
            while state.waiting.texts_of(traffic) == 0 {
                if state.closed {
                    return;
                }
                state.workers.of_mut(traffic).idle += 1;
                state = ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.workers.of_mut(traffic).idle -= 1;
            }
            let idle = state.workers.of(traffic).idle;
            let batch = state.waiting.take(traffic, idle + 1, Network::BATCH, |request| request.is_wanted());
            let wakes_another = idle > 0 && state.waiting.texts_of(traffic) > 0;
            state.workers.of_mut(traffic).computing += 1;
            drop(state);
            self.room.notify_one();
            if wakes_another {
                ready.notify_one();
            }
            if let Some(first) = batch.first() {
                let (started, live) = (Instant::now(), Arc::clone(&first.request.live));
                let texts = batch.iter().map(|part| part.texts.len()).sum();
                answer(batch);
                self.measured(started, texts);
                live.paces.of(traffic).note(started.elapsed(), texts);
            }
            state = self.lock();
            state.workers.of_mut(traffic).computing -= 1;
        }
    }
}

/// What tells a version apart: where it lies in memory: a request that waits keeps it there.
fn version(live: &Arc<Live>) -> usize {
    Arc::as_ptr(live).addr()
}

fn is_quick(live: &Live, texts: &[String]) -> bool {
    let network = live.classifier.architecture();
    texts.len() == 1 && texts[0].len() <= SHORT_TEXT && network.hidden <= SMALL_NETWORK
}

/// Runs texts through the network of a version, on this thread.
fn compute<'a>(live: &Live, texts: impl Iterator<Item = &'a String>) -> Result<Computed> {
    catch_unwind(AssertUnwindSafe(|| {
        let texts: Vec<EncodedText> = texts.map(|text| live.classifier.encode(text)).collect();
        let rows = live.classifier.leaf_probabilities(&texts)?;
        let read = |text: &EncodedText| TextRead { tokens: text.tokens, truncated: text.truncated };
        Ok(Computed { rows, texts: texts.iter().map(read).collect() })
    }))
    .unwrap_or_else(|_| Err(Error::Internal("the prediction panicked; see the log".into())))
}

/// Runs one batch through its network and gives each request its share.
fn answer(batch: Vec<Part<Arc<Request>>>) {
    let Some(first) = batch.first() else { return };
    let live = Arc::clone(&first.request.live);
    let texts = batch.iter().flat_map(|part| &part.request.texts[part.texts.clone()]);
    match compute(&live, texts) {
        Ok(computed) => {
            let mut at = 0;
            for part in batch {
                let share = at..at + part.texts.len();
                at = share.end;
                let texts = computed.texts[share.clone()].to_vec();
                let computed = Computed { rows: computed.rows.slice(share), texts };
                part.request.lock().add(part.texts.start, computed);
            }
        }
        Err(cause) => {
            warn!(%cause, requests = batch.len(), "a batch failed");
            let message = cause.to_string();
            for part in batch {
                part.request.lock().reply(Err(Error::Internal(message.clone())));
            }
        }
    }
}

impl Request {
    fn lock(&self) -> MutexGuard<'_, RequestState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody still waits for an answer.
    fn is_wanted(&self) -> bool {
        self.lock().reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }
}

impl RequestState {
    /// Takes the answers to some texts, and replies when they are all there.
    fn add(&mut self, first: usize, computed: Computed) {
        self.left -= computed.texts.len();
        if self.left == 0 && self.parts.is_empty() {
            return self.reply(Ok(computed));
        }
        self.parts.push((first, computed));
        if self.left > 0 {
            return;
        }
        let mut parts = std::mem::take(&mut self.parts);
        parts.sort_unstable_by_key(|(first, _)| *first);
        let whole = parts.into_iter().map(|(_, computed)| computed).reduce(|mut whole, part| {
            whole.rows.append(part.rows);
            whole.texts.extend(part.texts);
            whole
        });
        if let Some(whole) = whole {
            self.reply(Ok(whole));
        }
    }

    fn reply(&mut self, answer: Result<Computed>) {
        if let Some(reply) = self.reply.take() {
            // A client that went meanwhile is nobody to tell.
            let _gone = reply.send(answer);
        }
    }
}
