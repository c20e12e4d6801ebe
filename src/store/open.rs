//! Opening the store, and reading single values.

use std::{
    fs::File,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use super::{
    Tree,
    cell::{self, Checksum, cell_key, damaged},
    closing::{Closing, OpensLatch},
    commit::GroupSync,
    copy::Gate,
    database::Database,
    directory::Directory,
    high_water::{self, HighWater},
    open_files::OpenFiles,
    pending::Pending,
    read_only::{ReadOnly, WRITE_FAILED},
    read_only_copy,
    space::{self, COMPACT_ELSEWHERE, OPENING_BYTES},
};
use crate::error::{Error, Result};

/// Fixed when the database is made. Nodes up to a quarter of it stay in the log.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;

const REMEDY: &str = "restore a backup of the data directory";

/// Reads of a value in cells before its damage counts: a writer may replace it between two cells.
const READS: usize = 3;

/// What can be chosen about a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreOptions {
    /// Bytes of pages kept in memory; 256 MiB by default. sled's own default would be 1 GiB.
    pub cache_bytes: u64,
    /// Bytes that are to stay free on the disk: below that nothing comes in. None for 256 MiB, or a tenth of a smaller disk; by
    /// default 0, which sets no limit.
    pub min_free_bytes: Option<u64>,
}

/// Which files sled opens.
#[derive(Debug, Clone, Copy)]
pub(super) enum Files<'a> {
    /// Those of the directory.
    InPlace,
    /// A copy of them in another folder, which is only read.
    Copy(&'a Path),
}

/// An open store. Clones share it; it closes with the last.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

/// Fields are dropped in this order: the directory is given up after sled let go of its files.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) db: Database,
    /// The log, for fsync.
    pub(super) log: File,
    pub(super) group: GroupSync,
    pub(super) pending: Pending,
    /// How far the database was known to reach when something was last acknowledged.
    pub(super) high_water: HighWater,
    /// Why nothing is written any more, if so.
    pub(super) read_only: ReadOnly,
    /// Whether the files are still those at their paths.
    pub(super) open_files: OpenFiles,
    /// Values that were damaged when everything was last read.
    pub(super) damaged: AtomicU64,
    pub(super) min_free_bytes: u64,
    pub(super) gate: Gate,
    pub(super) directory: Directory,
    closing: OpensLatch,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 * 1024 * 1024, min_free_bytes: Some(0) }
    }
}

impl Store {
    /// Opens the data directory, or makes it. Where it cannot be written, because the disk is full or mounted
    /// read-only, it is opened read-only from a copy on another disk, if there is one with room.
    ///
    /// # Errors
    /// [`Error::Precondition`] when another process has it open or its format is another; [`Error::Corrupt`] and
    /// [`Error::Io`] when it cannot be read; [`Error::Exhausted`] with reason `DISK_SPACE` when it cannot be written and no
    /// disk has room for a copy.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self> {
        Self::open_or_copy(path, options, &read_only_copy::default_places())
    }

    /// As [`open`](Self::open), with the places where a copy may go.
    pub(super) fn open_or_copy(path: &Path, options: StoreOptions, places: &[PathBuf]) -> Result<Self> {
        let directory = Directory::open(path)?;
        read_only_copy::remove_leftovers(&directory, places);
        if let Some(reason) = directory.read_only() {
            let reason = reason.to_owned();
            return Self::open_read_only(directory, options, &reason, places);
        }
        let needed = OPENING_BYTES + directory.snapshot_bytes();
        let opened = match directory.holds_database() {
            true => space::make_room(&directory, needed, "to open the database"),
            // Nothing is lost where a new one cannot be made.
            false => Ok(()),
        };
        let opened = opened.and_then(|()| Self::open_in(directory, options));
        match opened {
            Err(error) if space::is_full(&error) => {
                let directory = Directory::open(path)?;
                if !directory.holds_database() {
                    return Err(error);
                }
                Self::open_read_only(directory, options, &error.to_string(), places)
            }
            opened => opened,
        }
    }

    /// Opens the store of a directory, or makes it there.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`Error::Exhausted`] with reason `DISK_SPACE` on a full disk.
    pub(super) fn open_in(directory: Directory, options: StoreOptions) -> Result<Self> {
        let path = directory.path().to_owned();
        Self::open_database(directory, options, Files::InPlace).map_err(|error| match error {
            error if space::is_full(&error) => {
                space::full(&path, OPENING_BYTES, "to open the database", COMPACT_ELSEWHERE)
            }
            error => error,
        })
    }

    /// Opens sled's files where they are, or a copy of them.
    pub(super) fn open_database(
        directory: Directory,
        options: StoreOptions,
        files: Files<'_>,
    ) -> Result<Self> {
        let database = match files {
            Files::InPlace => directory.database(),
            Files::Copy(copy) => copy.to_owned(),
        };
        let failed = |error| storage_error(&format!("opening the database {}", database.display()), error);
        let config = sled::Config::new()
            .path(&database)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(options.cache_bytes);
        let db = whole(&database, || config.open().map_err(failed))?;
        let db = Database::new(db).map_err(failed)?;
        let file = database.join("db");
        let log =
            File::open(&file).map_err(|error| Error::io(format!("opening {}", file.display()), error))?;
        let reached = db.get(high_water::KEY).map_err(failed)?;
        let reached = reached.and_then(|mark| Some(u64::from_be_bytes(mark.as_ref().try_into().ok()?)));
        let (mark, reached) = (directory.high_water(), reached.unwrap_or(0));
        let high_water = match files {
            Files::InPlace => HighWater::open(&mark, reached)?,
            Files::Copy(_) => HighWater::open_read_only(&mark, reached)?,
        };
        if matches!(files, Files::InPlace) {
            directory.sync()?;
        }
        let open_files = OpenFiles::new(directory.path(), &directory.files())?;
        let inner = Inner {
            db,
            log,
            group: GroupSync::default(),
            pending: Pending::default(),
            high_water,
            read_only: ReadOnly::default(),
            open_files,
            damaged: AtomicU64::new(0),
            min_free_bytes: options
                .min_free_bytes
                .unwrap_or_else(|| space::default_min_free_bytes(directory.path())),
            gate: Gate::default(),
            directory,
            closing: OpensLatch::default(),
        };
        let store = Self { inner: Arc::new(inner) };
        store.clear_scratch()?;
        Ok(store)
    }

    /// What waits until the last clone has gone, and the directory is free for another process.
    pub fn closing(&self) -> Closing {
        self.inner.closing.0.clone()
    }

    /// The writes that have not ended.
    pub fn pending(&self) -> Pending {
        self.inner.pending.clone()
    }

    /// Whether writes are accepted: false for ever after one failed, after the files were lost, and where the
    /// store was opened read-only.
    pub fn is_writable(&self) -> bool {
        self.read_only_reason().is_none()
    }

    /// Why no writes are accepted, and what to do; none while they are.
    pub fn read_only_reason(&self) -> Option<&str> {
        self.inner.read_only.reason()
    }

    /// The files that it has open.
    pub fn open_files(&self) -> OpenFiles {
        self.inner.open_files.clone()
    }

    /// Compares the files that are open with those at their paths. Where they differ, the store is read-only
    /// from then on.
    ///
    /// # Errors
    /// [`Error::Unavailable`] naming the path, and what to do.
    pub fn check_files(&self) -> Result<()> {
        self.inner.open_files.check().inspect_err(|error| self.inner.read_only.begin(error.to_string()))
    }

    /// The value under a key.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is damaged.
    pub fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut outcome = self.read(tree, key);
        for _ in 1..READS {
            if outcome.is_ok() {
                break;
            }
            outcome = self.read(tree, key);
        }
        outcome
    }

    /// Whether there is a value under a key.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Corrupt`] when the database cannot be read.
    pub fn contains(&self, tree: Tree, key: &[u8]) -> Result<bool> {
        self.sled(tree).contains_key(cell_key(key, 0)).map_err(|error| self.read_error(error))
    }

    pub(super) fn sled(&self, tree: Tree) -> &sled::Tree {
        self.inner.db.tree(tree)
    }

    /// What went wrong in a read: after a failed write, the cause of that comes back for pages it touched.
    ///
    /// sled writes in the background too, so a read may be the first to meet such a failure. Flushing tells it from a
    /// read that failed by itself: it fails exactly when a write has.
    pub(super) fn read_error(&self, error: sled::Error) -> Error {
        if let Some(reason) = self.read_only_reason() {
            return Error::Unavailable(reason.to_owned());
        }
        if matches!(error, sled::Error::Io(_)) && self.inner.db.flush().is_err() {
            self.inner.read_only.begin(WRITE_FAILED);
        }
        storage_error("reading the store", error)
    }

    /// Cell by cell.
    fn read(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut value = Vec::new();
        let mut before = Checksum::default();
        for number in 0.. {
            let key = cell_key(key, number);
            let sealed = self.sled(tree).get(&key).map_err(|error| self.read_error(error))?;
            let Some(sealed) = sealed else {
                if number == 0 {
                    return Ok(None);
                }
                return Err(damaged(tree, &key, "it is missing"));
            };
            let cell = cell::open(tree, &key, before, &sealed)?;
            value.extend_from_slice(cell.piece);
            before = cell.checksum;
            if !cell.more {
                break;
            }
        }
        Ok(Some(value))
    }
}

/// Runs what reads a database. sled panics on some kinds of damage.
fn whole<T>(database: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(Error::Corrupt {
            what: "the database".to_owned(),
            detail: format!("reading {} panicked", database.display()),
            remedy: REMEDY,
        })
    })
}

/// What went wrong within sled, in our terms.
pub(super) fn storage_error(doing: &str, error: sled::Error) -> Error {
    match error {
        // sled keeps the kind of the cause, and of its text only what is meant for developers.
        sled::Error::Io(source) if space::is_full_kind(source.kind()) => {
            Error::io(doing, io::Error::from(source.kind()))
        }
        sled::Error::Io(source) => Error::io(doing, source),
        sled::Error::Corruption { at, .. } => Error::Corrupt {
            what: "the database".to_owned(),
            detail: format!("{doing} met damage at {at:?}"),
            remedy: REMEDY,
        },
        other => Error::Internal(format!("{doing}: {other}")),
    }
}
