//! What is read again while the daemon runs: asked for by SIGHUP, or because a file changed.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::{Process, door::Door, tls::Tls};
use crate::config::Config;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Settings that are taken while the daemon runs.
const TAKEN: [&str; 1] = ["log"];

/// Reads the configuration again, takes what can be taken, and names what the daemon must be restarted for.
pub(super) fn configuration(running: &Config, process: &Process) {
    let read = match (process.load)() {
        Ok(read) => read,
        Err(cause) => {
            error!(%cause, "the configuration stays as it was");
            return;
        }
    };
    // Always: what is logged may have been changed before.
    match (process.set_log)(&read.log) {
        Ok(()) => info!(log = read.log, "the configuration was read again"),
        Err(cause) => error!(%cause, "what is logged stays as it was"),
    }
    let rest: Vec<_> = running.changed(&read).into_iter().filter(|name| !TAKEN.contains(name)).collect();
    if !rest.is_empty() {
        warn!(settings = rest.join(", "), "these have changed and need a restart");
    }
}

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
