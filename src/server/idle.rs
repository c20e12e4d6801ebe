//! When nothing was asked over a connection for long: it takes the place of another one.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release},
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
    open: AtomicUsize,
    /// Microseconds from the beginning to the end of the last call.
    ended: AtomicU64,
}

/// A call that is open until this is dropped.
#[derive(Debug)]
pub(super) struct OpenCall(OpenCalls);

impl OpenCalls {
    /// None, from now on.
    pub(super) fn new() -> Self {
        let state = State { began: Instant::now(), open: AtomicUsize::new(0), ended: AtomicU64::new(0) };
        Self(Arc::new(state))
    }

    /// One more.
    pub(super) fn begin(&self) -> OpenCall {
        self.0.open.fetch_add(1, AcqRel);
        OpenCall(self.clone())
    }

    /// Since when there is none.
    fn idle_since(&self) -> Option<Instant> {
        let idle = self.0.open.load(Acquire) == 0;
        idle.then(|| self.0.began + Duration::from_micros(self.0.ended.load(Acquire)))
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
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl IdleTimer {
    pub(super) fn new(calls: OpenCalls, limit: Duration) -> Self {
        Self { calls, limit, sleep: Box::pin(sleep(limit)) }
    }

    /// Ready once it was so long without a call.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let now = Instant::now();
            let over = self.calls.idle_since().unwrap_or(now) + self.limit;
            if over <= now {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(over);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn only_time_without_a_call_counts() {
        let calls = OpenCalls::new();
        let mut timer = IdleTimer::new(calls.clone(), LIMIT);
        let (one, other) = (calls.begin(), calls.begin());
        drop(one);
        sleep(5 * LIMIT).await;
        let is_over = poll_fn(|cx| Poll::Ready(timer.poll(cx).is_ready())).await;
        assert!(!is_over, "a call is open");
        let ended = Instant::now();
        drop(other);
        poll_fn(|cx| timer.poll(cx)).await;
        assert!(ended.elapsed() >= LIMIT / 2, "the time begins with the end of the last call");
    }
}
