//! The messages of a client, and the proof that all of them came.
//!
//! A client that gives up half way, by a deadline or a cancel, resets its stream. What it sent is then not what it meant to send, so
//! whatever stores an upload asks for a [`Complete`], which only the proper end of the stream makes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tonic::{Request, Status, Streaming};

use crate::{
    error::Error,
    service::{
        caller::{self, Caller},
        status::status,
    },
};

/// A client that uploads must send something this often.
const IDLE: Duration = Duration::from_secs(60);
/// How long after its end an upload may still be reset: Node's HTTP/2, and so grpc-js, ends a stream that is cancelled, and resets it with
/// the next frame.
const AFTER_END: Duration = Duration::from_millis(5);

// 0 is neither.
const WHOLE: u8 = 1;
const CUT: u8 = 2;

/// How the body of a request ended, as the server noted it below the decoder of messages. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct BodyEnd(Arc<AtomicU8>);

/// The messages of a client stream.
#[derive(Debug)]
pub(in crate::service) struct Uploads<T> {
    messages: Streaming<T>,
    end: BodyEnd,
}

/// What a client stream holds next.
#[derive(Debug)]
pub(in crate::service) enum Received<T> {
    /// A message.
    Message(T),
    /// Its end.
    End(Complete),
}

/// The proof that a client sent its stream to the end.
#[derive(Debug)]
pub(in crate::service) struct Complete(());

impl BodyEnd {
    /// END_STREAM came.
    pub fn note_whole(&self) {
        self.0.store(WHOLE, Ordering::Release);
    }

    /// The stream was reset, or its connection lost, before END_STREAM.
    pub fn note_cut(&self) {
        self.0.store(CUT, Ordering::Release);
    }

    /// Whether END_STREAM came.
    pub fn is_whole(&self) -> bool {
        self.0.load(Ordering::Acquire) == WHOLE
    }

    /// Whether the stream ended before END_STREAM.
    pub fn is_cut(&self) -> bool {
        self.0.load(Ordering::Acquire) == CUT
    }
}

impl<T> Uploads<T> {
    /// The messages of a request, and its caller. Without a note of the server none of them is ever complete.
    pub(in crate::service) fn of(mut request: Request<Streaming<T>>) -> (Self, Caller) {
        let end = request.extensions_mut().remove::<BodyEnd>().unwrap_or_default();
        let (messages, caller) = caller::of(request);
        (Self { messages, end }, caller)
    }

    /// The first message, which must come soon.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a stream without one; as [`next_within`](Self::next_within).
    pub(in crate::service) async fn first(&mut self) -> Result<T, Status> {
        match self.next().await? {
            Received::Message(first) => Ok(first),
            Received::End(_) => Err(status(Error::invalid("model", "the stream held no message"))),
        }
    }

    /// What comes next, which must be soon. A reset right behind the end counts as one before it.
    ///
    /// # Errors
    /// As [`next_within`](Self::next_within).
    pub(in crate::service) async fn next(&mut self) -> Result<Received<T>, Status> {
        let received = self.next_within(Some(IDLE)).await?;
        if matches!(received, Received::End(_)) {
            // A reset drops the future that waits here.
            sleep(AFTER_END).await;
        }
        Ok(received)
    }

    /// What comes next, within a time if there is one.
    ///
    /// # Errors
    /// [`Error::Cancelled`] where the client reset the stream; [`Error::Exhausted`] with reason `STREAM_IDLE` where it sent nothing for
    /// so long; what is wrong with a message.
    pub(in crate::service) async fn next_within(
        &mut self,
        idle: Option<Duration>,
    ) -> Result<Received<T>, Status> {
        let message = match idle {
            None => self.messages.message().await,
            Some(idle) => match timeout(idle, self.messages.message()).await {
                Ok(message) => message,
                Err(_) => return Err(idle_for(idle)),
            },
        };
        match message {
            Ok(Some(message)) => Ok(Received::Message(message)),
            Ok(None) if self.end.is_whole() => Ok(Received::End(Complete(()))),
            // The decoder says only that nothing more comes.
            Ok(None) => Err(status(Error::Cancelled)),
            Err(_) if self.end.is_cut() => Err(status(Error::Cancelled)),
            Err(broken) => Err(broken),
        }
    }
}

fn idle_for(idle: Duration) -> Status {
    status(Error::Exhausted {
        reason: "STREAM_IDLE",
        description: format!("the client sent nothing for {} seconds", idle.as_secs_f64()),
        retry_after: None,
    })
}
