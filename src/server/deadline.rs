//! The deadline of a call, which its client sends as the header `grpc-timeout`.
//!
//! tonic enforces that header too, around all of this, but answers CANCELLED where gRPC asks for DEADLINE_EXCEEDED, and only until
//! the head of the response is sent. Here the deadline begins a moment earlier and is asked by the clock at each poll, so that
//! this answer is always the first; and it ends a stream of responses as well.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Body as HttpBody, Bytes, http},
};

use crate::{error::Error, service::status};

/// Name of the header (gRPC over HTTP2: `TimeoutValue TimeoutUnit`).
const HEADER: &str = "grpc-timeout";
/// Digits that a value may have.
const DIGITS: usize = 8;
/// A client resets a call by its own clock, which began earlier, and rounds the time that it sends up. So a reset with less than this
/// share of the time left, or less than `SLACK`, counts as the deadline.
const SLACK_SHARE: u32 = 50;
const SLACK: Duration = Duration::from_millis(20);

/// When a call must have been answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    at: Instant,
    slack: Duration,
}

impl Deadline {
    /// The deadline of a request that arrives now; none where it has none, or one that cannot be read, which gRPC ignores.
    pub(super) fn of(headers: &http::HeaderMap) -> Option<Self> {
        let timeout = parse(headers.get(HEADER)?.as_bytes())?;
        let at = Instant::now().checked_add(timeout)?;
        Some(Self { at, slack: (timeout / SLACK_SHARE).max(SLACK).min(timeout) })
    }

    fn has_passed(&self) -> bool {
        Instant::now() >= self.at
    }

    /// The outcome of a call that its client reset before it was answered.
    pub(super) fn outcome_of_reset(deadline: Option<Self>) -> Code {
        match deadline {
            Some(deadline) if Instant::now() + deadline.slack >= deadline.at => Code::DeadlineExceeded,
            _ => Code::Cancelled,
        }
    }
}

/// Runs a call until its deadline; none where that passed first, and the call was dropped.
pub(super) async fn within<F: Future>(deadline: Option<Deadline>, call: F) -> Option<F::Output> {
    let mut call = pin!(call);
    let Some(deadline) = deadline else { return Some(call.await) };
    let mut alarm = pin!(sleep_until(deadline.at.into()));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = call.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let rings = alarm.as_mut().poll(cx).is_ready();
        if rings || deadline.has_passed() { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// Ends a response with DEADLINE_EXCEEDED where its deadline passes before it is sent.
pub(super) fn limit(deadline: Option<Deadline>, response: http::Response<Body>) -> http::Response<Body> {
    match deadline {
        // What has its outcome in the head is sent at once.
        Some(deadline) if !response.headers().contains_key(Status::GRPC_STATUS) => response.map(|inner| {
            let alarm = Box::pin(sleep_until(deadline.at.into()));
            Body::new(Limited { inner: Some(inner), deadline, alarm })
        }),
        _ => response,
    }
}

/// The status of a call whose deadline passed.
pub(super) fn exceeded() -> Status {
    status(Error::DeadlineExceeded)
}

/// The body of a response with a deadline.
struct Limited {
    /// None once it has ended.
    inner: Option<Body>,
    deadline: Deadline,
    alarm: Pin<Box<Sleep>>,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { inner, deadline, alarm } = &mut *self;
        let Some(body) = inner else { return Poll::Ready(None) };
        if !deadline.has_passed() {
            let polled = Pin::new(body).poll_frame(cx);
            if polled.is_ready() || alarm.as_mut().poll(cx).is_pending() {
                return polled;
            }
        }
        // Whatever makes the rest learns from this that nobody waits for it.
        *inner = None;
        let mut trailers = http::HeaderMap::new();
        let written = exceeded().add_header(&mut trailers);
        Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// A value of the header; none for what is not one.
fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &'static str) -> Option<Deadline> {
        let mut headers = http::HeaderMap::new();
        headers.insert(HEADER, http::HeaderValue::from_static(value));
        Deadline::of(&headers)
    }

    #[test]
    fn values_are_read_as_grpc_says_and_others_ignored() {
        for (value, expected) in [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("0u", Some(Duration::ZERO)),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("123456789S", None),
            ("5", None),
            ("+5S", None),
            ("5s", None),
        ] {
            assert_eq!(parse(value.as_bytes()), expected, "{value}");
        }
    }

    #[tokio::test]
    async fn a_call_is_dropped_at_its_deadline_and_answered_before_it() {
        assert_eq!(within(None, async { 1 }).await, Some(1));
        assert_eq!(within(of("1H"), async { 2 }).await, Some(2));
        assert_eq!(within(of("1m"), std::future::pending::<()>()).await, None);
        assert_eq!(within(of("0n"), std::future::pending::<()>()).await, None);
    }

    #[tokio::test]
    async fn a_stream_ends_with_the_status_at_its_deadline() {
        struct Endless;
        impl HttpBody for Endless {
            type Data = Bytes;
            type Error = Status;

            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
                Poll::Pending
            }
        }
        let response = limit(of("1m"), http::Response::new(Body::new(Endless)));
        let mut body = response.into_body();
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let trailers = frame.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::DeadlineExceeded);
        assert!(std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_none());
    }

    #[test]
    fn a_reset_at_the_deadline_is_the_deadline() {
        assert_eq!(Deadline::outcome_of_reset(None), Code::Cancelled);
        assert_eq!(Deadline::outcome_of_reset(of("1H")), Code::Cancelled);
        assert_eq!(Deadline::outcome_of_reset(of("1n")), Code::DeadlineExceeded);
    }
}
