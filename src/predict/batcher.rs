//! The queue between requests and the thread that computes.
//!
//! The thread takes what is there when it is free, as many requests of one version as fit a batch, and never waits for
//! more: under load batches grow by themselves, alone a request goes straight through.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{self, Notify, oneshot};
use tracing::{error, warn};

use super::Live;
use crate::{
    error::{Error, Result},
    model::LeafProbabilities,
    text::EncodedText,
};

/// Texts of one pass through the network.
const BATCH_TEXTS: usize = 256;
/// Texts that streams leave waiting: the thread never runs dry, and a single request still finds room, near the front.
const STREAM_TEXTS: usize = 2 * BATCH_TEXTS;
/// What a client is told to wait when the queue is full.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// What the network says to the texts of one request.
#[derive(Debug)]
pub(super) struct Computed {
    pub(super) rows: LeafProbabilities,
    pub(super) texts: Vec<EncodedText>,
}

struct Request {
    live: Arc<Live>,
    texts: Vec<String>,
    reply: oneshot::Sender<Result<Computed>>,
}

/// A bounded queue and its thread.
pub(super) struct Batcher {
    queue: Arc<Queue>,
    worker: Option<JoinHandle<()>>,
}

struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    /// Told when texts have left the queue.
    room: Notify,
    /// Held by the one stream that waits for room; the others wait for it, first come, first served.
    turn: sync::Mutex<()>,
    capacity_texts: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    texts: usize,
    closed: bool,
}

impl Batcher {
    /// Starts the thread.
    pub(super) fn start(capacity_texts: usize) -> Result<Self> {
        let queue = Arc::new(Queue {
            state: Mutex::default(),
            ready: Condvar::new(),
            room: Notify::new(),
            turn: sync::Mutex::default(),
            capacity_texts,
        });
        let worker = std::thread::Builder::new()
            .name("predict".into())
            .spawn({
                let queue = Arc::clone(&queue);
                move || {
                    while let Some(batch) = queue.take() {
                        compute(batch)
                    }
                }
            })
            .map_err(|source| Error::io("starting the prediction thread", source))?;
        Ok(Self { queue, worker: Some(worker) })
    }

    /// Queues texts. A receiver that is dropped before the thread comes to it costs no computation.
    ///
    /// # Errors
    /// [`Error::Exhausted`] with a time to retry when the queue is full.
    pub(super) fn submit(
        &self,
        live: Arc<Live>,
        texts: Vec<String>,
    ) -> Result<oneshot::Receiver<Result<Computed>>> {
        let mut state = self.queue.lock();
        state.refuse_if_closed()?;
        if !state.has_room(texts.len(), self.queue.capacity_texts) {
            return Err(Error::Exhausted {
                reason: "QUEUE_FULL",
                description: format!("{} texts wait already; retry after a pause", state.texts),
                retry_after: Some(RETRY_AFTER),
            });
        }
        let receiver = state.push(live, texts);
        drop(state);
        self.queue.ready.notify_one();
        Ok(receiver)
    }

    /// As [`Batcher::submit`], but waits until there is room. Dropped while it waits, it leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::Unavailable`] once closed.
    pub(super) async fn submit_in_turn(
        &self,
        live: Arc<Live>,
        texts: Vec<String>,
    ) -> Result<oneshot::Receiver<Result<Computed>>> {
        let _turn = self.queue.turn.lock().await;
        let limit = STREAM_TEXTS.min(self.queue.capacity_texts);
        loop {
            {
                let mut state = self.queue.lock();
                state.refuse_if_closed()?;
                if state.has_room(texts.len(), limit) {
                    let receiver = state.push(live, texts);
                    drop(state);
                    self.queue.ready.notify_one();
                    return Ok(receiver);
                }
            }
            self.queue.room.notified().await;
        }
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.ready.notify_all();
        if self.worker.take().is_some_and(|worker| worker.join().is_err()) {
            error!("the prediction thread panicked");
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

    /// A request that is larger than the queue still passes when the queue is empty.
    fn has_room(&self, texts: usize, limit: usize) -> bool {
        self.texts == 0 || self.texts + texts <= limit
    }

    fn push(&mut self, live: Arc<Live>, texts: Vec<String>) -> oneshot::Receiver<Result<Computed>> {
        let (reply, receiver) = oneshot::channel();
        self.texts += texts.len();
        self.waiting.push_back(Request { live, texts, reply });
        receiver
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch: the oldest request and those after it, of the same version, that fit. None once closed and empty.
    fn take(&self) -> Option<Vec<Request>> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut batch: Vec<Request> = Vec::new();
        let mut texts = 0;
        let mut rest = VecDeque::new();
        for request in std::mem::take(&mut state.waiting) {
            if request.reply.is_closed() {
                state.texts -= request.texts.len();
                continue;
            }
            let fits = batch.first().is_none_or(|first| {
                Arc::ptr_eq(&first.live, &request.live) && texts + request.texts.len() <= BATCH_TEXTS
            });
            if fits {
                texts += request.texts.len();
                batch.push(request);
            } else {
                rest.push_back(request);
            }
        }
        state.texts -= texts;
        state.waiting = rest;
        self.room.notify_one();
        Some(batch)
    }
}

/// Runs one batch through its network and answers each request with its share.
fn compute(batch: Vec<Request>) {
    let Some(live) = batch.first().map(|request| Arc::clone(&request.live)) else { return };
    let computed = catch_unwind(AssertUnwindSafe(|| {
        let texts: Vec<EncodedText> = batch
            .iter()
            .flat_map(|request| &request.texts)
            .map(|text| live.classifier.encode(text))
            .collect();
        let rows = live.classifier.leaf_probabilities(&texts)?;
        Ok((texts, rows))
    }))
    .unwrap_or_else(|_| Err(Error::Internal("the prediction panicked; see the log".into())));
    match computed {
        Ok((mut texts, rows)) => {
            let mut first = 0;
            for request in batch {
                let share = first..first + request.texts.len();
                first = share.end;
                let texts = texts.drain(..request.texts.len()).collect();
                // A client that went meanwhile is nobody to tell.
                let _gone = request.reply.send(Ok(Computed { rows: rows.slice(share), texts }));
            }
        }
        Err(cause) => {
            warn!(%cause, requests = batch.len(), "a batch failed");
            let message = cause.to_string();
            for request in batch {
                let _gone = request.reply.send(Err(Error::Internal(message.clone())));
            }
        }
    }
}
