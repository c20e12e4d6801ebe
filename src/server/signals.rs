//! What the system asks of the daemon by signals.

use crate::error::Result;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To read certificates again: SIGHUP.
    Reload,
    /// To stop: SIGTERM or Ctrl-C.
    Stop,
}

/// The signals, from the moment this is made.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    /// Listens.
    ///
    /// # Errors
    /// The system refuses.
    #[cfg(unix)]
    pub(super) fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        use crate::error::Error;
        let listen =
            |kind| signal(kind).map_err(|source| Error::io("listening for signals of the system", source));
        Ok(Self { terminate: listen(SignalKind::terminate())?, hang_up: listen(SignalKind::hangup())? })
    }

    #[cfg(not(unix))]
    pub(super) fn new() -> Result<Self> {
        Ok(Self {})
    }

    /// The next signal.
    #[cfg(unix)]
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            // Without a handler for Ctrl-C the system ends the process, which is safe as well.
            _ = tokio::signal::ctrl_c() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    #[cfg(not(unix))]
    pub(super) async fn next(&mut self) -> Asked {
        let _ended_by_the_system_otherwise = tokio::signal::ctrl_c().await;
        Asked::Stop
    }

    /// Returns when one asks to stop.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}
