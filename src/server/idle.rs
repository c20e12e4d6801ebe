//! When nothing was asked over a connection for long: it takes the place of another one.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release,
        },
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// The calls that are open on a connection.
#[derive(Debug, Clone)]
pub(super) struct OpenCalls(Arc<State>);

#[derive(Debug)]
struct State {
    began: Instant,
    /// Whether there ever was one.
    any: AtomicBool,
    open: AtomicUsize,
    /// Microseconds from the beginning to the end of the last call.
    ended: AtomicU64,
}

/// A call that is open until this is dropped.
#[derive(Debug)]
pub(super) struct OpenCall(OpenCalls);

/// How long a connection may be without a call; for ever where there is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From its greeting to its first call.
    pub(super) first_call: Option<Duration>,
    /// At any time.
    pub(super) idle: Option<Duration>,
}

impl OpenCalls {
    /// None, from now on.
    pub(super) fn new() -> Self {
        let state = State {
            began: Instant::now(),
            any: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
        };
        Self(Arc::new(state))
    }

    /// One more.
    pub(super) fn begin(&self) -> OpenCall {
        self.0.any.store(true, Release);
        self.0.open.fetch_add(1, AcqRel);
        OpenCall(self.clone())
    }

    /// Since when there is none.
    fn idle_since(&self) -> Option<Instant> {
        let idle = self.0.open.load(Acquire) == 0;
        idle.then(|| self.0.began + Duration::from_micros(self.0.ended.load(Acquire)))
    }

    /// When the connection will have been without a call for too long, unless one begins; none for never.
    fn over(&self, patience: Patience, now: Instant) -> Option<Instant> {
        let idle = patience.idle.map(|limit| self.idle_since().unwrap_or(now) + limit);
        let first = patience.first_call.filter(|_| !self.0.any.load(Acquire));
        let first = first.map(|limit| self.0.began + limit);
        first.into_iter().chain(idle).min()
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let OpenCalls(state) = &self.0;
        state.ended.fetch_max(state.began.elapsed().as_micros() as u64, AcqRel);
        state.open.fetch_sub(1, Release);
    }
}

/// Tells when a connection was without a call for a time.
#[derive(Debug)]
pub(super) struct IdleTimer {
    calls: OpenCalls,
    patience: Patience,
    /// Until when nothing need be looked at; none where nothing ever need be.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl IdleTimer {
    pub(super) fn new(calls: OpenCalls, patience: Patience) -> Self {
        let first = [patience.first_call, patience.idle].into_iter().flatten().min();
        Self { calls, patience, sleep: first.map(|limit| Box::pin(sleep(limit))) }
    }

    /// Ready once it was so long without a call.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(sleep) = &mut self.sleep else { return Poll::Pending };
            ready!(sleep.as_mut().poll(cx));
            let now = Instant::now();
            match self.calls.over(self.patience, now) {
                Some(over) if over <= now => return Poll::Ready(()),
                Some(over) => sleep.as_mut().reset(over),
                None => self.sleep = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(3600);

    async fn is_over(timer: &mut IdleTimer) -> bool {
        poll_fn(|cx| Poll::Ready(timer.poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn only_time_without_a_call_counts() {
        let calls = OpenCalls::new();
        let patience = Patience { first_call: None, idle: Some(LIMIT) };
        let mut timer = IdleTimer::new(calls.clone(), patience);
        let (one, other) = (calls.begin(), calls.begin());
        drop(one);
        sleep(5 * LIMIT).await;
        assert!(!is_over(&mut timer).await, "a call is open");
        let ended = Instant::now();
        drop(other);
        poll_fn(|cx| timer.poll(cx)).await;
        assert!(ended.elapsed() >= LIMIT / 2, "the time begins with the end of the last call");
    }

    #[tokio::test]
    async fn the_first_call_has_a_time_of_its_own_and_no_other_has() {
        for idle in [None, Some(LONG)] {
            let patience = Patience { first_call: Some(LIMIT), idle };
            let mut without = IdleTimer::new(OpenCalls::new(), patience);
            poll_fn(|cx| without.poll(cx)).await;

            let calls = OpenCalls::new();
            let mut timer = IdleTimer::new(calls.clone(), patience);
            drop(calls.begin());
            sleep(5 * LIMIT).await;
            assert!(!is_over(&mut timer).await, "it made a call");
        }
    }
}
