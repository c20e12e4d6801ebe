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
            // The groups are read where they may decide.
            let groups =
                || if self.settings.allow_gids.is_empty() { Ok(Vec::new()) } else { groups(&stream) };
            let gids = [&[peer.gid()][..], &groups()?].concat();
            if allows(&self.settings, self.owner, peer.uid(), &gids) {
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

/// Whether a process of a user, with these groups, may connect.
fn allows(settings: &UnixSocket, owner: u32, uid: u32, gids: &[u32]) -> bool {
    let UnixSocket { allow_uids, allow_gids, .. } = settings;
    uid == owner
        || uid == ROOT
        || allow_uids.contains(&uid)
        || gids.iter().any(|gid| allow_gids.contains(gid))
}

/// The supplementary groups that the process at the other end had when it connected.
///
/// # Errors
/// What the system says instead.
#[cfg(target_os = "linux")]
fn groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    use std::os::fd::AsRawFd as _;

    /// Groups that a process may have (`NGROUPS_MAX`).
    const MOST: usize = 65_536;
    let mut groups: Vec<libc::gid_t> = vec![0; 32];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(&*groups)).map_err(io::Error::other)?;
        // SAFETY: the pointer is that of a vector of `bytes` bytes, and the kernel writes no more and says how many it wrote, or
        // would have written.
        let answered = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &mut bytes,
            )
        };
        let count = bytes as usize / size_of::<libc::gid_t>();
        if answered == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let cause = io::Error::last_os_error();
        // There are more of them.
        if cause.raw_os_error() != Some(libc::ERANGE) || !(groups.len()..=MOST).contains(&count) {
            return Err(cause);
        }
        groups.resize(count + 1, 0);
    }
}

/// Other systems tell of no supplementary groups; the primary one counts.
#[cfg(not(target_os = "linux"))]
fn groups(_: &UnixStream) -> io::Result<Vec<u32>> {
    Ok(Vec::new())
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
        for (uid, gids, may) in [
            (1000, &[2000][..], true),
            (ROOT, &[2000], true),
            (1002, &[2000], true),
            (1003, &[2001], true),
            (1003, &[2000, 3000, 2001], true),
            (1001, &[2000, 3000], false),
            // Numbers of users are none of groups, and the other way round.
            (2001, &[1002], false),
        ] {
            assert_eq!(allows(&settings, 1000, uid, gids), may, "uid {uid}, groups {gids:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_groups_of_the_other_end_are_those_of_its_process() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let mut found = groups(&stream).unwrap();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        let mut own: Vec<u32> = line.split_whitespace().map(|gid| gid.parse().unwrap()).collect();
        found.sort_unstable();
        own.sort_unstable();
        assert_eq!(found, own);
    }
}
