//! AdminService.

use std::io::{self, Write};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};
use tracing::{info, info_span};

use super::{Answers, Services, caller, status::status};
use crate::{
    cancel::Cancellation,
    proto::v1::{self, admin_service_server::AdminService},
};

/// Bytes of a message; clients take 4 MiB unless told otherwise.
const MESSAGE_BYTES: usize = 1 << 20;
/// Messages that wait for a slow client.
const WAITING: usize = 4;

type Sender = mpsc::Sender<Result<v1::BackupResponse, Status>>;

#[async_trait]
impl AdminService for Services {
    type BackupStream = Answers<v1::BackupResponse>;

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let (_, caller) = caller::of(request);
        caller.may_all().map_err(status)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let (registry, cancel) = (self.registry.clone(), self.cancellation());
        let running = self.shutdown.begin_work();
        tokio::task::spawn_blocking(move || {
            let (_running, _entered) = (running, info_span!("backup").entered());
            let messages = Messages { sender: sender.clone(), cancel, waiting: Vec::new(), sent: 0 };
            match registry.backup(messages) {
                Ok(messages) => info!(bytes = messages.sent, "sent"),
                Err(error) => {
                    info!(%error, "not sent");
                    // A client that has gone needs no reason.
                    let _gone = sender.blocking_send(Err(status(error)));
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Cuts what is written into messages, and waits for a client that is slower. Runs where threads may block.
struct Messages {
    sender: Sender,
    cancel: Cancellation,
    waiting: Vec<u8>,
    sent: u64,
}

impl Messages {
    fn send(&mut self, data: Vec<u8>) -> io::Result<()> {
        self.sent += data.len() as u64;
        let sent = self.sender.blocking_send(Ok(v1::BackupResponse { data }));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Messages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Each value passes here: a client that left is noticed before its next message is full.
        if self.sender.is_closed() || self.cancel.is_cancelled() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.waiting.extend_from_slice(bytes);
        while self.waiting.len() >= MESSAGE_BYTES {
            let rest = self.waiting.split_off(MESSAGE_BYTES);
            let full = std::mem::replace(&mut self.waiting, rest);
            self.send(full)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let last = std::mem::take(&mut self.waiting);
        if last.is_empty() { Ok(()) } else { self.send(last) }
    }
}
