//! The data directory: who owns it, in which format it is, and what sled must not find in it.
//!
//! ```text
//! lock        held locked by the daemon that has the directory open
//! format      number of the format, in decimal
//! high-water  number of the last sync that was acknowledged
//! db/         sled's files
//! creating    only while the database is made
//! restoring   only while the backup that it is made from is not all there yet
//! compacted/  a copy of the database that is to take its place
//! uploads/    files of uploads, without names; what a crash left there goes at the next start
//! replaced/   the database whose place a copy took
//! reserve     room for an opening on a full disk
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tracing::warn;

use crate::{
    error::{Error, Result},
    file,
};

/// How long sled's threads may take to let go of a database that this process closed.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);
const RELEASE_POLL: Duration = Duration::from_millis(5);

/// Number of the format in which this build keeps its data.
const FORMAT: u32 = 1;

const FORMAT_FILE: &str = "format";
const DATABASE: &str = "db";
const COPY: &str = "compacted";
const REPLACED: &str = "replaced";
const CREATING: &str = "creating";
const RESTORING: &str = "restoring";

/// A data directory that this process owns. Dropping it gives it up.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
    /// Why nothing in it can be written.
    read_only: Option<String>,
}

impl Directory {
    /// Makes the directory if it is missing, takes its lock, checks its format and clears what would keep sled from
    /// opening. Nothing is cleared where the file system is mounted read-only.
    pub(super) fn open(path: &Path) -> Result<Self> {
        create(path)?;
        let directory = Self::locked(path)?;
        directory.check_restored()?;
        if directory.read_only.is_some() {
            directory.check_format()?;
            directory.wait_for_release()?;
            return Ok(directory);
        }
        directory.remove_unfinished_database()?;
        directory.check_format()?;
        directory.settle_copies()?;
        directory.wait_for_release()?;
        directory.remove_unfinished_snapshots()?;
        Ok(directory)
    }

    /// Takes a directory that is empty or not there, or in which this was begun and not ended. It is to be
    /// opened by nobody else before [`end`](Self::end).
    pub(super) fn begin(path: &Path) -> Result<Self> {
        create(path)?;
        if path.join(RESTORING).exists() {
            let directory = Self::locked(path)?;
            directory.clear_unfinished()?;
            directory.check_format()?;
            return Ok(directory);
        }
        if let Some(found) = first_file(path)? {
            return Err(Error::Precondition {
                reason: "DATA_DIR_NOT_EMPTY",
                subject: path.display().to_string(),
                description: format!(
                    "the directory {} is not empty, it holds '{found}'; name one that is empty or not there",
                    path.display()
                ),
            });
        }
        let directory = Self::locked(path)?;
        directory.mark(RESTORING)?;
        directory.check_format()?;
        Ok(directory)
    }

    fn locked(path: &Path) -> Result<Self> {
        let (lock, read_only) = lock(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock, read_only })
    }

    /// Why nothing in it can be written; none where it can.
    pub(super) fn read_only(&self) -> Option<&str> {
        self.read_only.as_deref()
    }

    /// Gives back the room of what was begun and cannot be ended. The mark stays, so that nobody takes the
    /// directory for one that holds everything, or for a new one.
    pub(super) fn abandon(&self) {
        if let Err(cause) = self.clear_unfinished() {
            warn!(%cause, "what was written cannot be removed");
        }
    }

    /// Removes all but the lock and the mark.
    fn clear_unfinished(&self) -> Result<()> {
        remove_directory(&self.database())?;
        for file in [self.high_water(), self.path.join(FORMAT_FILE)] {
            remove_file(&file)?;
        }
        Ok(())
    }

    /// Lets the directory be opened from now on.
    pub(super) fn end(&self) -> Result<()> {
        self.unmark(RESTORING)
    }

    /// A directory for a copy of the database.
    pub(super) fn begin_copy(&self) -> Result<Self> {
        Self::begin(&self.path.join(COPY))
    }

    /// Puts a copy that is all there in the place of the database. Nobody has either open.
    pub(super) fn take_copy(&self, copy: Self) -> Result<()> {
        sync_directory(&copy.database())?;
        sync_directory(&copy.path)?;
        drop(copy);
        rename(&self.database(), &self.path.join(REPLACED))?;
        sync_directory(&self.path)?;
        self.settle_copies()
    }

    /// Ends what an interrupted [`take_copy`](Self::take_copy) left: where the database is away, the copy that was to take its
    /// place is all there.
    fn settle_copies(&self) -> Result<()> {
        let (copy, replaced) = (self.path.join(COPY), self.path.join(REPLACED));
        if !self.database().exists() && replaced.exists() {
            rename(&copy.join(DATABASE), &self.database())?;
            sync_directory(&self.path)?;
        }
        [copy, replaced].iter().try_for_each(|left| remove_directory(left))
    }

    /// Removes a copy that is not to take the place of the database.
    pub(super) fn remove_copy(&self) -> Result<()> {
        remove_directory(&self.path.join(COPY))
    }

    fn check_restored(&self) -> Result<()> {
        if !self.path.join(RESTORING).exists() {
            return Ok(());
        }
        Err(Error::Precondition {
            reason: "NOT_RESTORED",
            subject: self.path.display().to_string(),
            description: format!(
                "restoring a backup, or writing a data folder anew, into {} was not finished; do it again, or remove the folder",
                self.path.display()
            ),
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where sled keeps its files.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// The file that says how far the database must reach.
    pub(super) fn high_water(&self) -> PathBuf {
        self.path.join("high-water")
    }

    /// The file that takes room for an opening on a full disk.
    pub(super) fn reserve(&self) -> PathBuf {
        self.path.join("reserve")
    }

    /// Whether there is a database.
    pub(super) fn holds_database(&self) -> bool {
        self.log().exists()
    }

    /// The files that the next opening relies on, of those that are there. sled makes its settings and
    /// snapshots anew where they are missing.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let files = [self.path.join("lock"), self.path.join(FORMAT_FILE), self.high_water(), self.log()];
        files.into_iter().filter(|file| file.exists()).collect()
    }

    /// Bytes of sled's snapshot, which an opening writes anew before it removes it.
    pub(super) fn snapshot_bytes(&self) -> u64 {
        let entries = fs::read_dir(self.database()).into_iter().flatten().flatten();
        let snapshots = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("snap."));
        snapshots.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
    }

    /// sled's log, which holds everything.
    fn log(&self) -> PathBuf {
        self.database().join("db")
    }

    /// Makes the files of a database that was opened durable, where they are new. sled itself syncs neither its `conf`, nor
    /// any names.
    pub(super) fn sync(&self) -> Result<()> {
        let settings = self.database().join("conf");
        File::open(&settings)
            .and_then(|file| file.sync_all())
            .map_err(|error| Error::io(format!("syncing {}", settings.display()), error))?;
        sync_directory(&self.database())?;
        self.unmark(CREATING)
    }

    /// A database whose making was interrupted holds nothing that anybody was told, and may keep sled from opening it.
    fn remove_unfinished_database(&self) -> Result<()> {
        if !self.path.join(CREATING).exists() {
            return Ok(());
        }
        remove_directory(&self.database())
    }

    /// Puts a marker file, durably.
    fn mark(&self, name: &str) -> Result<()> {
        let marker = self.path.join(name);
        File::create(&marker)
            .and_then(|file| file.sync_all())
            .map_err(|error| Error::io(format!("writing {}", marker.display()), error))?;
        sync_directory(&self.path)
    }

    /// Takes a marker file away, durably and after all names before.
    fn unmark(&self, name: &str) -> Result<()> {
        sync_directory(&self.path)?;
        remove_file(&self.path.join(name))?;
        sync_directory(&self.path)
    }

    fn check_format(&self) -> Result<()> {
        let file = self.path.join(FORMAT_FILE);
        let text = match file::read_to_string(&file) {
            Ok(text) => text,
            // The file is written before the database, so only a new directory has neither.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.database().exists() => {
                self.mark(CREATING)?;
                return self.write_format();
            }
            Err(error) => return Err(Error::io(format!("reading {}", file.display()), error)),
        };
        match text.trim().parse::<u32>() {
            Ok(FORMAT) => Ok(()),
            Ok(other) => Err(Error::Precondition {
                reason: "DATA_FORMAT",
                subject: self.path.display().to_string(),
                description: format!(
                    "the data directory {} has format {other}, this taxond reads format {FORMAT}; start the taxond \
                     that wrote it, or name another --data-dir",
                    self.path.display()
                ),
            }),
            Err(_) => Err(Error::Corrupt {
                what: format!("the format file {}", file.display()),
                detail: format!("it holds {text:?}, not a number"),
                remedy: "restore a backup of the data directory",
            }),
        }
    }

    fn write_format(&self) -> Result<()> {
        let (draft, file) = (self.path.join("format.new"), self.path.join(FORMAT_FILE));
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut out = file::open(options.create(true).truncate(true).write(true), &draft)?;
            writeln!(out, "{FORMAT}")?;
            out.sync_all()?;
            fs::rename(&draft, &file)
        };
        write().map_err(|error| Error::io(format!("writing {}", file.display()), error))?;
        sync_directory(&self.path)
    }

    /// Waits until nobody has the log locked: sled's threads may outlive its handle by a moment, and sled itself does not
    /// wait.
    pub(super) fn wait_for_release(&self) -> Result<()> {
        let file = self.log();
        let context = || format!("locking {}", file.display());
        let log = match file::open(OpenOptions::new().read(true), &file) {
            Ok(log) => log,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io(context(), error)),
        };
        let start = Instant::now();
        loop {
            match log.try_lock() {
                Ok(()) => return log.unlock().map_err(|error| Error::io(context(), error)),
                Err(TryLockError::WouldBlock) if start.elapsed() < RELEASE_TIMEOUT => {
                    thread::sleep(RELEASE_POLL)
                }
                Err(TryLockError::WouldBlock) => return Err(in_use(&self.path)),
                Err(TryLockError::Error(error)) => return Err(Error::io(context(), error)),
            }
        }
    }

    /// sled takes a snapshot that a crash left unfinished for damage, and does not open; the log holds all of it.
    fn remove_unfinished_snapshots(&self) -> Result<()> {
        let database = self.database();
        let context = || format!("clearing {}", database.display());
        let entries = match fs::read_dir(&database) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io(context(), error)),
        };
        for entry in entries {
            let path = entry.map_err(|error| Error::io(context(), error))?.path();
            // sled would wait for what is behind a fifo.
            file::check(&path).map_err(|error| Error::io(format!("opening {}", path.display()), error))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("snap.") && name.ends_with(".generating") {
                fs::remove_file(&path).map_err(|error| Error::io(context(), error))?;
            }
        }
        Ok(())
    }
}

fn create(path: &Path) -> Result<()> {
    if path.exists() && !path.is_dir() {
        return Err(Error::Precondition {
            reason: "DATA_DIR_NO_FOLDER",
            subject: path.display().to_string(),
            description: format!(
                "the data directory {} is a file; name a folder with --data-dir, which is made if it is not there",
                path.display()
            ),
        });
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|error| Error::io(format!("creating the data directory {}", path.display()), error))
}

/// The name of something in a directory that is not its file system's own.
fn first_file(path: &Path) -> Result<Option<String>> {
    let failed = |error| Error::io(format!("reading {}", path.display()), error);
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != "lost+found" {
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

fn remove_directory(path: &Path) -> Result<()> {
    removed(path, fs::remove_dir_all(path))
}

fn remove_file(path: &Path) -> Result<()> {
    removed(path, fs::remove_file(path))
}

/// What is not there need not be removed.
fn removed(path: &Path, outcome: io::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to)
        .map_err(|error| Error::io(format!("renaming {} to {}", from.display(), to.display()), error))
}

/// The lock of a directory, and why nothing in that can be written, if so.
fn lock(path: &Path) -> Result<(File, Option<String>)> {
    let file = path.join("lock");
    let context = || format!("locking {}", file.display());
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    let (lock, read_only) = match file::open(&options, &file) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            let reason = format!(
                "the data folder {} is on a file system that is mounted read-only; mount it for writing, then restart taxond",
                path.display()
            );
            (file::open(OpenOptions::new().read(true), &file).map_err(|_| error), Some(reason))
        }
        opened => (opened, None),
    };
    let lock = lock.map_err(|error| Error::io(context(), error))?;
    match lock.try_lock() {
        Ok(()) => Ok((lock, read_only)),
        Err(TryLockError::WouldBlock) => Err(in_use(path)),
        Err(TryLockError::Error(error)) => Err(Error::io(context(), error)),
    }
}

fn in_use(path: &Path) -> Error {
    Error::Precondition {
        reason: "DATA_DIR_IN_USE",
        subject: path.display().to_string(),
        description: format!(
            "another taxond has the data directory {} open; stop it, or name another --data-dir",
            path.display()
        ),
    }
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::io(format!("syncing {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused_with_its_number() {
        let dir = tempfile::tempdir().unwrap();
        drop(Directory::open(dir.path()).unwrap());
        fs::write(dir.path().join("format"), "2\n").unwrap();
        let error = Directory::open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Precondition { reason: "DATA_FORMAT", .. }), "{error}");
        assert!(error.to_string().contains("format 2"), "{error}");
    }

    #[test]
    fn a_database_without_a_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("db")).unwrap();
        assert!(matches!(Directory::open(dir.path()).unwrap_err(), Error::Io { .. }));
    }

    #[test]
    fn only_unfinished_snapshots_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let database = dir.path().join("db");
        fs::create_dir(&database).unwrap();
        for name in ["snap.00A0", "snap.00B0.generating", "conf"] {
            fs::write(database.join(name), "x").unwrap();
        }
        directory.sync().unwrap();
        drop(directory);
        drop(Directory::open(dir.path()).unwrap());
        assert!(database.join("snap.00A0").exists() && database.join("conf").exists());
        assert!(!database.join("snap.00B0.generating").exists());
    }

    #[test]
    fn a_database_whose_making_was_interrupted_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        drop(Directory::open(dir.path()).unwrap());
        let database = dir.path().join("db");
        fs::create_dir(&database).unwrap();
        fs::write(database.join("conf"), "torn").unwrap();
        drop(Directory::open(dir.path()).unwrap());
        assert!(!database.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_new_directory_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        drop(Directory::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
