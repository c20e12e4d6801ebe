//! What is read again while the daemon runs: asked for by SIGHUP, or because a file changed.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tracing::{error, info};

use super::{door::Door, tls::Tls};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The parts of a daemon that can be read again.
#[derive(Debug)]
pub(super) struct Reloadable {
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) door: Arc<Door>,
}

impl Reloadable {
    /// Reads everything again. What is wrong is logged and stays as it was.
    pub(super) fn reload(&self) {
        match self.door.reload() {
            Ok(true) => info!("auth_file read again"),
            Ok(false) => {}
            Err(cause) => error!(%cause, "identities stay as they were"),
        }
        self.reload_certificates();
    }

    fn reload_certificates(&self) {
        if let Some(tls) = &self.tls {
            match tls.reload() {
                Ok(()) => info!("certificates read again"),
                Err(cause) => error!(%cause, "the certificates stay as they were"),
            }
        }
    }

    /// Looks at the certificates from now on.
    pub(super) fn watch(self: Arc<Self>) -> JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let of = Arc::clone(&self);
                let looked = tokio::task::spawn_blocking(move || {
                    if of.tls.as_ref().is_some_and(|tls| tls.is_changed()) {
                        of.reload_certificates();
                    }
                });
                if let Err(cause) = looked.await {
                    error!(%cause, "looking at the certificates failed");
                }
            }
        })
    }
}
