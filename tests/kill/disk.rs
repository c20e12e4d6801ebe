//! A file system of its own, in memory, which a test fills.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// A mounted disk. It is unmounted when this is dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Mounts a disk of so many MiB at a folder; none where this process may not mount.
    pub(crate) fn mount(path: PathBuf, mebibytes: u32) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let size = format!("size={mebibytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Takes all room but so many bytes.
    pub(crate) fn fill(&self, leave: u64) {
        let free = rustix::fs::statvfs(&self.0).unwrap();
        let free = free.f_bavail * free.f_frsize;
        let file = File::options().create(true).append(true).open(self.filler()).unwrap();
        let length = file.metadata().unwrap().len();
        let mut more = free.saturating_sub(leave);
        // The daemon may take some of it meanwhile.
        while more > 0
            && rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), length, more).is_err()
        {
            more /= 2;
        }
    }

    pub(crate) fn clear(&self) {
        match fs::remove_file(self.filler()) {
            Ok(()) => {}
            Err(cause) => assert_eq!(cause.kind(), io::ErrorKind::NotFound),
        }
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").args(["--lazy"]).arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.display());
    }
}
