//! Whether the files that a store has open are still the ones at their paths.
//!
//! A process goes on writing to a file that was deleted, renamed or replaced, and no call fails. The next
//! start opens what is at the path then, and finds nothing of what was acknowledged meanwhile. So each sync
//! compares, before it is acknowledged, device and inode of every file that the next start relies on: one
//! `stat` a file. Each is held open, because a file system may give the inode of a deleted file to the next
//! one.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use tracing::error;

use crate::error::{Error, Result};

/// The files of a data folder that are open, by path, device and inode. Clones share it; none keeps the lock
/// of the folder.
#[derive(Debug, Clone)]
pub struct OpenFiles(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    files: Vec<Watched>,
    /// What was found once a file was another one. Final, as nobody knows which writes went where.
    lost: OnceLock<String>,
}

/// A file, or a folder, and the path at which the next start will look for it.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// Keeps the inode from being used again.
    _handle: File,
    device: u64,
    inode: u64,
}

impl OpenFiles {
    /// Takes in a data folder and files in it.
    ///
    /// # Errors
    /// [`Error::Io`] for a path that cannot be opened.
    pub(super) fn new(folder: &Path, files: &[PathBuf]) -> Result<Self> {
        // The working directory may change; what a relative path meant at the start counts.
        let absolute = |path: &Path| {
            std::path::absolute(path).map_err(|error| Error::io(format!("finding {}", path.display()), error))
        };
        let folder = absolute(folder)?;
        let mut watched = vec![Watched::new(folder.clone())?];
        for file in files {
            watched.push(Watched::new(absolute(file)?)?);
        }
        Ok(Self(Arc::new(Inner { folder, files: watched, lost: OnceLock::new() })))
    }

    /// Compares what is open with what is at the paths. Once there was a difference, there is one for ever.
    ///
    /// # Errors
    /// [`Error::Unavailable`] naming the path that differs, and what to do.
    pub fn check(&self) -> Result<()> {
        let Inner { folder, files, lost } = &*self.0;
        if lost.get().is_none() {
            let Some(difference) = files.iter().find_map(Watched::difference) else { return Ok(()) };
            let reason = format!(
                "{difference}; nothing is acknowledged any more, because a restart would not find it: stop whatever changes \
                 the data folder {}, put the folder back or restore a backup, then restart taxond",
                folder.display()
            );
            if lost.set(reason).is_ok() {
                error!(reason = %difference, folder = %folder.display(), "the data folder is not the one that is open");
            }
        }
        Err(Error::Unavailable(lost.get().cloned().unwrap_or_default()))
    }
}

impl Watched {
    fn new(path: PathBuf) -> Result<Self> {
        let open = || {
            let handle = File::open(&path)?;
            let (device, inode) = identity(&handle.metadata()?);
            Ok((handle, device, inode))
        };
        let (handle, device, inode) =
            open().map_err(|error: io::Error| Error::io(format!("opening {}", path.display()), error))?;
        Ok(Self { path, _handle: handle, device, inode })
    }

    /// How the path differs from what is open; none where it does not.
    fn difference(&self) -> Option<String> {
        let path = self.path.display();
        match fs::metadata(&self.path) {
            Ok(found) if identity(&found) == (self.device, self.inode) => None,
            Ok(_) => Some(format!("{path} was replaced by another one while taxond has it open")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("{path} was deleted or renamed while taxond has it open"))
            }
            Err(error) => Some(format!("{path} cannot be found while taxond has it open: {error}")),
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(folder: &Path) -> OpenFiles {
        fs::create_dir_all(folder.join("db")).unwrap();
        for name in ["lock", "db/db"] {
            fs::write(folder.join(name), name).unwrap();
        }
        OpenFiles::new(folder, &[folder.join("lock"), folder.join("db/db")]).unwrap()
    }

    #[test]
    fn a_change_of_content_changes_no_identity() {
        let dir = tempfile::tempdir().unwrap();
        let files = opened(dir.path());
        fs::write(dir.path().join("db/db"), "more").unwrap();
        fs::write(dir.path().join("other"), "more").unwrap();
        files.check().unwrap();
    }

    #[test]
    fn each_way_of_losing_a_file_is_named_and_final() {
        type Harm = fn(&Path);
        let harms: [(&str, Harm); 6] = [
            ("", |folder| fs::remove_dir_all(folder).unwrap()),
            ("", |folder| fs::rename(folder, folder.with_extension("away")).unwrap()),
            ("", |folder| {
                fs::rename(folder, folder.with_extension("away")).unwrap();
                opened(folder);
            }),
            ("db/db", |folder| fs::remove_file(folder.join("db/db")).unwrap()),
            ("db/db", |folder| fs::rename(folder.join("db"), folder.join("old")).unwrap()),
            ("lock", |folder| {
                fs::remove_file(folder.join("lock")).unwrap();
                fs::write(folder.join("lock"), "lock").unwrap();
            }),
        ];
        for (number, (name, harm)) in harms.into_iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("data");
            let files = opened(&folder);
            harm(&folder);
            let error = files.check().unwrap_err();
            assert!(matches!(error, Error::Unavailable(_)), "{number}: {error}");
            let named = if name.is_empty() { folder.clone() } else { folder.join(name) };
            assert!(error.to_string().starts_with(&format!("{} was ", named.display())), "{number}: {error}");
            assert!(error.to_string().contains("restore a backup, then restart"), "{number}: {error}");
            // Put back: what was written meanwhile is not known to be in it.
            if folder.with_extension("away").exists() {
                let _other = fs::remove_dir_all(&folder);
                fs::rename(folder.with_extension("away"), &folder).unwrap();
                files.check().unwrap_err();
            }
        }
    }
}
