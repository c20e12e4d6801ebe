//! Calls that outlast the permission to make them: when the file of identities changes, each open call is looked at again, and
//! one that may not be made any more ends.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;
use tonic::{
    Status,
    body::Body,
    codegen::{
        Body as HttpBody, Bytes,
        http::{self, HeaderMap, HeaderValue},
    },
};

use super::{
    door::Door,
    roles::{Needs, Rpc},
};
use crate::{
    error::Error,
    service::{Identity, Peer, Said, status},
};

/// What an open call was let in by.
pub(super) struct Session {
    pub(super) door: Arc<Door>,
    pub(super) rpc: Rpc,
    pub(super) identity: Arc<Identity>,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) peer: Option<Peer>,
    /// Which models the call is about, once it said.
    pub(super) said: Arc<Said>,
}

/// Becomes ready with the reason when a call may not go on.
pub(super) type Ended = Pin<Box<dyn Future<Output = Error> + Send>>;

impl Session {
    /// What waits until the call may not go on; none where it always may.
    pub(super) fn ended(self) -> Option<Ended> {
        if self.rpc.needs == Needs::Nothing {
            return None;
        }
        let changed = self.door.changes()?;
        Some(Box::pin(self.watch(changed)))
    }

    async fn watch(self, mut changed: watch::Receiver<()>) -> Error {
        loop {
            if changed.changed().await.is_err() {
                // The daemon ends, and so do its calls.
                std::future::pending::<()>().await;
            }
            let authorization = self.authorization.as_ref().map(HeaderValue::as_bytes);
            let call = (self.rpc, &*self.identity, &*self.said);
            if let Err(cause) = self.door.still_admits(call, authorization, self.peer.as_ref()) {
                return cause;
            }
        }
    }
}

/// Waits until a call may not go on.
pub(super) async fn over(ended: &mut Option<Ended>) -> Error {
    match ended {
        Some(ended) => ended.await,
        None => std::future::pending().await,
    }
}

/// The answer of a call, which ends with an error when the call may not go on.
pub(super) fn guarded(response: http::Response<Body>, ended: Option<Ended>) -> http::Response<Body> {
    match ended {
        // An answer whose head has a status has no body.
        Some(ended) if !response.headers().contains_key(Status::GRPC_STATUS) => {
            response.map(|inner| Body::new(Guarded { inner: Some(inner), ended }))
        }
        _ => response,
    }
}

struct Guarded {
    /// None once it was cut.
    inner: Option<Body>,
    ended: Ended,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { inner, ended } = &mut *self;
        let Some(body) = inner else { return Poll::Ready(None) };
        if let Poll::Ready(cause) = ended.as_mut().poll(cx) {
            // What feeds the answer ends with it.
            *inner = None;
            let mut trailers = HeaderMap::new();
            let added = status(cause).add_header(&mut trailers);
            return Poll::Ready(Some(added.map(|()| Frame::trailers(trailers))));
        }
        Pin::new(body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}
