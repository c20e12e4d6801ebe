//! The unix socket: its file, and who may connect.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};
use tracing::{info, warn};

use crate::{
    config::UnixSocket,
    error::{Error, Result},
    service::Peer,
};

/// The folder, where it is made, is its owner's alone; the socket is its group's too.
const FOLDER_MODE: u32 = 0o700;
const SOCKET_MODE: u32 = 0o660;
const ROOT: u32 = 0;

/// A unix socket that is listened on. Its file goes with it.
pub(super) struct UnixSocketListener {
    listener: UnixListener,
    settings: UnixSocket,
    /// The user of the daemon.
    owner: u32,
    file: File,
}

/// The file of a socket, told from another one that took its place.
struct File {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl UnixSocketListener {
    /// Binds the socket. One that a daemon left behind is removed first.
    ///
    /// # Errors
    /// Somebody listens there, the path is no socket, or the system refuses.
    pub(super) async fn bind(settings: UnixSocket) -> Result<Self> {
        let path = &settings.path;
        let failed = |what: &str, cause| Error::io(format!("{what} {}", path.display()), cause);
        make_folder(path).map_err(|cause| failed("making the folder of the unix socket", cause))?;
        remove_stale(path).await?;
        let listener = UnixListener::bind(path).map_err(|cause| failed("listening on", cause))?;
        fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))
            .map_err(|cause| failed("setting the mode of", cause))?;
        let made = fs::symlink_metadata(path).map_err(|cause| failed("reading", cause))?;
        let file = File { path: path.clone(), device: made.dev(), inode: made.ino() };
        Ok(Self { listener, settings, owner: made.uid(), file })
    }

    /// Path of the socket.
    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }

    /// The next connection of somebody who may connect; others are turned away.
    ///
    /// # Errors
    /// What the system says instead of a connection.
    pub(super) async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = stream.peer_cred()?;
            if allows(&self.settings, self.owner, peer.uid(), peer.gid()) {
                return Ok((stream, Peer::Unix { uid: peer.uid() }));
            }
            warn!(
                uid = peer.uid(),
                gid = peer.gid(),
                "a user that may not was turned away from the unix socket"
            );
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if is_ours && let Err(cause) = fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %cause, "the unix socket cannot be removed");
        }
    }
}

fn allows(settings: &UnixSocket, owner: u32, uid: u32, gid: u32) -> bool {
    let UnixSocket { allow_uids, allow_gids, .. } = settings;
    uid == owner || uid == ROOT || allow_uids.contains(&uid) || allow_gids.contains(&gid)
}

fn make_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder),
        None => Ok(()),
    }
}

/// Removes a socket that nobody listens on.
async fn remove_stale(path: &Path) -> Result<()> {
    let failed = |cause| Error::io(format!("looking at {}", path.display()), cause);
    match fs::symlink_metadata(path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(failed(cause)),
        Ok(found) if !found.file_type().is_socket() => {
            let what = format!("must be the path of a socket, {} is something else", path.display());
            return Err(Error::invalid("unix_socket", what));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => {
            info!(path = %path.display(), "a unix socket that was left behind is removed");
            fs::remove_file(path).map_err(|cause| Error::io(format!("removing {}", path.display()), cause))
        }
        Err(cause) => Err(failed(cause)),
        Ok(_) => Err(Error::io(format!("listening on {}", path.display()), io::ErrorKind::AddrInUse.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_root_and_who_is_named_may_connect() {
        let settings = UnixSocket { path: "/s".into(), allow_uids: vec![1002], allow_gids: vec![2001] };
        for (uid, gid, may) in [
            (1000, 2000, true),
            (ROOT, 2000, true),
            (1002, 2000, true),
            (1003, 2001, true),
            (1001, 2000, false),
            // Numbers of users are none of groups, and the other way round.
            (2001, 1002, false),
        ] {
            assert_eq!(allows(&settings, 1000, uid, gid), may, "uid {uid}, gid {gid}");
        }
    }
}
