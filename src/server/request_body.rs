//! Notes how the body of each request ends, below the decoder of tonic.
//!
//! tonic 0.14 turns a request body that fails with CANCELLED into the end of the stream of messages (`codec/decode.rs`), and hyper
//! turns a reset with NO_ERROR into the end of the body. So a handler cannot tell a client that sent everything from one that
//! gave up half way. Here END_STREAM is told from anything else, and the difference is kept for the handler.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::body::{Frame, SizeHint};
use tonic::{
    Status,
    body::Body,
    codegen::{Body as HttpBody, Bytes, http},
};

use crate::service::BodyEnd;

/// The body of a request, which notes in `end` how it ended.
struct RequestBody {
    inner: Body,
    end: BodyEnd,
}

/// Has the body of a request note how it ends. The handler finds the note among the extensions of the request.
pub(super) fn watch(request: &mut http::Request<Body>) -> BodyEnd {
    let end = BodyEnd::default();
    request.extensions_mut().insert(end.clone());
    let inner = std::mem::take(request.body_mut());
    // A body that is nothing but END_STREAM is not read.
    if inner.is_end_stream() {
        end.note_whole();
    }
    *request.body_mut() = Body::new(RequestBody { inner, end: end.clone() });
    end
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.end.is_whole() {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                // Trailers carry END_STREAM.
                if frame.is_trailers() {
                    self.end.note_whole();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            None if self.inner.is_end_stream() => {
                self.end.note_whole();
                Poll::Ready(None)
            }
            Some(Err(_)) | None => {
                self.end.note_cut();
                // Any code but CANCELLED, which the decoder would take for the end.
                let cause = "the client reset the stream, or its connection was lost, before the end";
                Poll::Ready(Some(Err(Status::aborted(cause))))
            }
        }
    }

    /// True only once the end is noted, so that whoever asks does not leave the rest unread.
    fn is_end_stream(&self) -> bool {
        self.end.is_whole()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body that yields what stands in it, and says whether it ended with END_STREAM.
    struct Scripted {
        frames: Vec<Result<Frame<Bytes>, Status>>,
        end_stream: bool,
    }

    impl HttpBody for Scripted {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready((!self.frames.is_empty()).then(|| self.frames.remove(0)))
        }

        fn is_end_stream(&self) -> bool {
            self.frames.is_empty() && self.end_stream
        }
    }

    async fn read(frames: Vec<Result<Frame<Bytes>, Status>>, end_stream: bool) -> (BodyEnd, Option<Status>) {
        let mut request = http::Request::new(Body::new(Scripted { frames, end_stream }));
        let end = watch(&mut request);
        let mut body = request.into_body();
        let mut failed = None;
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            if let Err(status) = frame {
                failed = Some(status);
                break;
            }
        }
        (end, failed)
    }

    #[tokio::test]
    async fn only_end_stream_makes_a_body_whole() {
        let data = || Ok(Frame::data(Bytes::from_static(b"half")));
        for (frames, end_stream, whole) in [
            (vec![], true, true),
            (vec![data()], true, true),
            (vec![data(), Ok(Frame::trailers(http::HeaderMap::new()))], false, true),
            // hyper after a reset with NO_ERROR.
            (vec![data()], false, false),
            // hyper after a reset with CANCEL.
            (vec![data(), Err(Status::cancelled("h2 protocol error"))], false, false),
            (vec![data(), Err(Status::unknown("the connection is lost"))], false, false),
        ] {
            let (end, failed) = read(frames, end_stream).await;
            assert_eq!((end.is_whole(), end.is_cut()), (whole, !whole));
            assert_eq!(failed.map(|status| status.code()), (!whole).then_some(tonic::Code::Aborted));
        }
    }
}
