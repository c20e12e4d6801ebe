//! What is read again while the daemon runs: asked for by SIGHUP, or because a file changed.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tracing::{error, info};

use super::tls::Tls;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The parts of a daemon that can be read again.
#[derive(Debug)]
pub(super) struct Reloadable {
    pub(super) tls: Option<Arc<Tls>>,
}

impl Reloadable {
    /// Reads everything again. What is wrong is logged and stays as it was.
    pub(super) fn reload(&self) {
        if let Some(tls) = &self.tls {
            match tls.reload() {
                Ok(()) => info!("certificates read again"),
                Err(cause) => error!(%cause, "the certificates stay as they were"),
            }
        }
    }

    /// Looks at the files from now on.
    pub(super) fn watch(self: Arc<Self>) -> JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let of = Arc::clone(&self);
                let looked = tokio::task::spawn_blocking(move || {
                    if of.tls.as_ref().is_some_and(|tls| tls.is_changed()) {
                        of.reload();
                    }
                });
                if let Err(cause) = looked.await {
                    error!(%cause, "looking at the certificates failed");
                }
            }
        })
    }
}
