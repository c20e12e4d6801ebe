//! Opening the store, and reading single values.

use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
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
    pending::Pending,
    space,
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
    pub(super) failed: AtomicBool,
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
    /// Opens the data directory, or makes it.
    ///
    /// # Errors
    /// [`Error::Precondition`] when another process has it open or its format is another; [`Error::Corrupt`] and
    /// [`Error::Io`] when it cannot be read.
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self> {
        Self::open_in(Directory::open(path)?, options)
    }

    /// Opens the store of a directory, or makes it there.
    pub(super) fn open_in(directory: Directory, options: StoreOptions) -> Result<Self> {
        let database = directory.database();
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
        let high_water = HighWater::open(&directory.high_water(), reached.unwrap_or(0))?;
        directory.sync()?;
        let inner = Inner {
            db,
            log,
            group: GroupSync::default(),
            pending: Pending::default(),
            high_water,
            failed: AtomicBool::new(false),
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

    /// Whether writes are still accepted: false for ever after one failed.
    pub fn is_writable(&self) -> bool {
        !self.inner.failed.load(Ordering::Acquire)
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
        if !self.is_writable() {
            return closed();
        }
        if matches!(error, sled::Error::Io(_)) && self.inner.db.flush().is_err() {
            self.inner.failed.store(true, Ordering::Release);
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

/// The error for whatever a store cannot do any more after a failed write.
pub(super) fn closed() -> Error {
    let remedy =
        "the store is read-only since a write failed; free space or mend the disk, then restart taxond";
    Error::Unavailable(remedy.to_owned())
}

/// What went wrong within sled, in our terms.
pub(super) fn storage_error(doing: &str, error: sled::Error) -> Error {
    match error {
        sled::Error::Io(source) => Error::io(doing, source),
        sled::Error::Corruption { at, .. } => Error::Corrupt {
            what: "the database".to_owned(),
            detail: format!("{doing} met damage at {at:?}"),
            remedy: REMEDY,
        },
        other => Error::Internal(format!("{doing}: {other}")),
    }
}
