//! Streams to clients, fed by tasks that end when the client goes; and streams of clients (`uploads`).

mod predictions;
mod uploads;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

pub(super) use predictions::predictions;
pub use uploads::BodyEnd;
pub(super) use uploads::{Complete, Received, Uploads};

use super::{Answers, convert, status::status};
use crate::{
    error::Error,
    proto::v1,
    registry::{JobId, ModelId},
    train::Watch,
};

/// Messages that wait for a slow client.
const WAITING: usize = 16;

/// A first message, if any, then the events of a job until its end. With `detach` the stream ends after the first
/// message or, where there is none, after the first event.
pub(super) fn job_events<T: Send + 'static>(
    first: Option<T>,
    job: Option<(JobId, ModelId, Watch)>,
    detach: bool,
    wrap: fn(v1::JobEvent) -> T,
) -> Answers<T> {
    let (sender, receiver) = mpsc::channel(WAITING);
    feed(sender.clone(), async move {
        let told_something = first.is_some();
        if let Some(message) = first
            && sender.send(Ok(message)).await.is_err()
        {
            return;
        }
        let Some((id, model, mut watch)) = job else { return };
        if detach && told_something {
            return;
        }
        loop {
            let event = tokio::select! {
                event = watch.next() => event,
                () = sender.closed() => return,
            };
            let Some(event) = event else { return };
            if sender.send(Ok(wrap(convert::job_event(id, &model, event)))).await.is_err() || detach {
                return;
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// Runs what feeds a stream. Where that panics, the stream ends with an error and not as if it were whole.
fn feed<T: Send + 'static>(
    sender: mpsc::Sender<Result<T, Status>>,
    feeding: impl Future<Output = ()> + Send + 'static,
) {
    tokio::spawn(async move {
        if tokio::spawn(feeding).await.is_err() {
            let cause = Error::Internal("the call panicked; see the log".into());
            // A client that went is nobody to tell.
            let _gone = sender.send(Err(status(cause))).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn a_stream_whose_feeding_panics_ends_with_an_error() {
        let (sender, receiver) = mpsc::channel(2);
        feed(sender.clone(), async move {
            sender.send(Ok(7)).await.unwrap();
            panic!("on purpose");
        });
        let mut stream = ReceiverStream::new(receiver);
        assert_eq!(stream.next().await.unwrap().unwrap(), 7);
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::Internal);
        assert!(stream.next().await.is_none());
    }
}
