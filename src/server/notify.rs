//! What systemd is told: that the daemon serves, that it stops, and that it is alive (`sd_notify(3)`).

use std::{ffi::OsStr, io, os::unix::net::UnixDatagram, path::Path, sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tracing::{info, warn};

/// The way to the service manager; none where there is none.
#[derive(Debug, Clone, Default)]
pub struct ServiceManager {
    socket: Option<Arc<UnixDatagram>>,
    /// How often it wants to hear that the daemon is alive.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The manager that listens at `socket` (`$NOTIFY_SOCKET`) and wants to hear of the daemon every so many microseconds
    /// (`$WATCHDOG_USEC`). One that cannot be reached is logged and left.
    pub fn new(socket: Option<&OsStr>, watchdog_usec: Option<u64>) -> Self {
        let Some(address) = socket.filter(|address| !address.is_empty()) else { return Self::default() };
        match connect(address) {
            Ok(socket) => {
                let watchdog = watchdog_usec.filter(|&usec| usec > 0).map(Duration::from_micros);
                Self { socket: Some(Arc::new(socket)), watchdog }
            }
            Err(cause) => {
                warn!(socket = ?address, %cause, "the service manager cannot be reached");
                Self::default()
            }
        }
    }

    /// The daemon serves.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The daemon stops.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says that the daemon is alive, twice as often as is wanted, until the task is aborted. A runtime whose threads hang
    /// says nothing.
    pub(super) fn keep_alive(&self) -> Option<JoinHandle<()>> {
        let (every, manager) = (self.watchdog? / 2, self.clone());
        info!(seconds = every.as_secs_f64(), "the service manager is told that the daemon is alive");
        Some(tokio::spawn(async move {
            loop {
                manager.tell("WATCHDOG=1");
                tokio::time::sleep(every).await;
            }
        }))
    }

    fn tell(&self, state: &str) {
        if let Some(socket) = &self.socket
            && let Err(cause) = socket.send(state.as_bytes())
        {
            warn!(state, %cause, "the service manager was not told");
        }
    }
}

/// A path, or after an `@` the name of an abstract socket.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read shall not hold up the daemon.
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt as _;
        socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        return Ok(socket);
    }
    socket.connect(Path::new(address))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn the_manager_hears_what_happens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::new(Some(path.as_os_str()), Some(1000));
        manager.ready();
        manager.stopping();
        assert_eq!((hear(&socket), hear(&socket)), ("READY=1".into(), "STOPPING=1".into()));
        let alive = manager.keep_alive().unwrap();
        let heard = tokio::task::spawn_blocking(move || (hear(&socket), hear(&socket))).await.unwrap();
        assert_eq!(heard, ("WATCHDOG=1".into(), "WATCHDOG=1".into()));
        alive.abort();
    }

    #[test]
    fn without_a_manager_nobody_is_told() {
        for socket in [None, Some(OsStr::new("")), Some(OsStr::new("/not/there"))] {
            let manager = ServiceManager::new(socket, Some(1000));
            assert!(manager.socket.is_none() && manager.keep_alive().is_none(), "{socket:?}");
            manager.ready();
        }
    }
}
