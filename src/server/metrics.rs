//! What calls are measured by: rate, errors and duration of each RPC, and calls that were not let in.

use std::{
    array,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use hyper::body::{Frame, SizeHint};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Body as HttpBody, Bytes, http},
};

use tracing::Span;

use super::{
    deadline::Deadline,
    idle::OpenCall,
    roles::{self, Rpc},
    traces,
};
use crate::{
    admission,
    measure::{Counter, Histogram},
};

/// Codes of gRPC, 0 to 16.
const CODES: usize = 17;
/// Seconds that a call takes.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// Why calls are not let in.
const REASONS: [&str; 8] = [
    "NO_CREDENTIALS",
    "UNKNOWN_TOKEN",
    "UNKNOWN_CERTIFICATE",
    "UNKNOWN_SCHEME",
    "ROLE_TOO_LOW",
    "RATE_LIMITED",
    admission::CALLS,
    admission::MEMORY,
];

/// The counters of a daemon, made once for all RPCs.
#[derive(Debug)]
pub(super) struct Metrics {
    calls: Vec<Calls>,
    refused: [Counter; REASONS.len()],
    /// Versions that began to serve.
    pub(super) swaps: Counter,
    /// Connections closed for others, or not taken.
    pub(super) displaced_connections: Counter,
}

/// The counters of an RPC.
#[derive(Debug)]
pub(super) struct Calls {
    pub(super) rpc: Rpc,
    codes: [Counter; CODES],
    pub(super) seconds: Histogram<14>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let calls = roles::rpcs().map(|rpc| Calls {
            rpc,
            codes: array::from_fn(|_| Counter::default()),
            seconds: Histogram::new(&SECONDS),
        });
        Self {
            calls: calls.collect(),
            refused: array::from_fn(|_| Counter::default()),
            swaps: Counter::default(),
            displaced_connections: Counter::default(),
        }
    }

    /// Counts a call that was not let in.
    pub(super) fn refused(&self, reason: &str) {
        if let Some(at) = REASONS.iter().position(|known| *known == reason) {
            self.refused[at].add_one();
        }
    }

    /// Calls that were not let in, by reason.
    pub(super) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.into_iter().zip(&self.refused).map(|(reason, count)| (reason, count.get()))
    }

    /// The RPCs that were called.
    pub(super) fn calls(&self) -> impl Iterator<Item = &Calls> {
        self.calls.iter().filter(|calls| calls.codes.iter().any(|count| count.get() > 0))
    }
}

impl Calls {
    /// How often each code was the outcome; those that never were are left out.
    pub(super) fn codes(&self) -> impl Iterator<Item = (Code, u64)> {
        let counts = (0..).map(Code::from_i32).zip(self.codes.iter().map(Counter::get));
        counts.filter(|(_, count)| *count > 0)
    }
}

/// Measures a call, from now until its answer is whole. Dropped before that, it counts as cancelled or as beyond its deadline.
pub(super) struct Call {
    metrics: Arc<Metrics>,
    number: usize,
    started: Instant,
    /// None until it is known.
    outcome: Option<Code>,
    deadline: Option<Deadline>,
    /// Where spans are sent.
    span: Option<Span>,
    /// Keeps its connection from being idle.
    _open: Option<OpenCall>,
}

impl Call {
    pub(super) fn begin(
        metrics: &Arc<Metrics>,
        rpc: Rpc,
        span: Option<Span>,
        open: Option<OpenCall>,
        deadline: Option<Deadline>,
    ) -> Self {
        let metrics = Arc::clone(metrics);
        Self {
            metrics,
            number: rpc.number,
            started: Instant::now(),
            outcome: None,
            deadline,
            span,
            _open: open,
        }
    }

    /// Goes on measuring until the answer is sent.
    pub(super) fn measure(mut self, response: http::Response<Body>) -> http::Response<Body> {
        match response.headers().get(Status::GRPC_STATUS) {
            Some(status) => {
                self.outcome = Some(Code::from_bytes(status.as_bytes()));
                response
            }
            None => response.map(|inner| Body::new(Measured { inner, call: self })),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let outcome = self.outcome.unwrap_or_else(|| Deadline::outcome_of_reset(self.deadline));
        let calls = &self.metrics.calls[self.number];
        calls.codes[outcome as usize].add_one();
        calls.seconds.add(self.started.elapsed().as_secs_f64());
        if let Some(span) = &self.span {
            traces::ended(span, outcome);
        }
    }
}

/// The body of an answer, whose end tells the outcome.
struct Measured {
    inner: Body,
    call: Call,
}

impl HttpBody for Measured {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(status) = frame.trailers_ref().and_then(|trailers| trailers.get(Status::GRPC_STATUS))
        {
            self.call.outcome = Some(Code::from_bytes(status.as_bytes()));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
