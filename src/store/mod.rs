//! Durable key-value storage: the only room that knows sled.
//!
//! Values of any length go under keys of a few fixed trees. What the rest of the daemon relies on:
//!
//! - **Acknowledged is kept.** [`Store::commit`] applies its batch in one transaction over all trees and returns once
//!   the database file is fsynced (sled's own `flush` ends in `sync_file_range`, which promises less). Commits of
//!   several threads share an fsync.
//! - **Loss shows.** A database that ends before what was acknowledged is not opened ([`high_water`]).
//! - **Damage shows.** Each value carries a checksum over its tree, its key and its bytes.
//! - **No value is large to sled.** A node that outgrows a quarter of a segment would go to a file of its own, which
//!   sled neither fsyncs nor reclaims; so values are cut into cells of 16 KiB, of which a node of at most 17 items stays
//!   well below that.
//! - **A failed write ends writing.** sled cannot go on after an I/O error, so the store turns read-only until it is
//!   opened again. So that it never meets a full disk, nothing comes in below a limit of free bytes. Reads go on, except of pages that the failed write touched: those are [`Unavailable`] until then.
//! - **A folder that is lost ends writing.** Each sync checks, before it is acknowledged, that the files are
//!   still those at their paths ([`OpenFiles`]).
//! - **A full disk, or one that is mounted read-only, does not keep a store from being read.** A reserve gives
//!   opening its room; where nothing can be written, a copy elsewhere is opened read-only.
//! - **A write that does not end shows** ([`Pending`]), and bulk writes leave sled the threads that it needs not to wait for itself.
//!
//! [`Unavailable`]: crate::error::Error::Unavailable

mod backup;
mod batch;
mod blob;
mod cell;
mod check;
mod closing;
mod commit;
mod compact;
mod copy;
mod database;
mod directory;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod high_water;
mod open;
mod open_files;
mod pending;
mod read_only;
mod read_only_copy;
mod reserve;
mod restore;
mod scan;
mod scratch;
mod space;

pub use backup::BackupWriter;
pub use batch::Batch;
pub use blob::BlobId;
pub use check::{Checked, Damage};
pub use closing::Closing;
pub use compact::Compacted;
pub use copy::Entry;
pub use open::{Store, StoreOptions};
pub use open_files::OpenFiles;
pub use pending::Pending;
pub use scan::Scan;
pub use scratch::Scratch;
pub use space::free_and_needed_bytes;

/// The keyspaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tree {
    /// Models, versions, manifests, checkpoints and counters.
    Catalog,
    /// Labelled texts.
    Examples,
    /// Jobs.
    Jobs,
    /// Blobs, under their hash.
    Chunks,
    /// Answers to repeatable requests.
    Receipts,
}

impl Tree {
    /// All of them, at their index.
    const ALL: [Self; 5] = [Self::Catalog, Self::Examples, Self::Jobs, Self::Chunks, Self::Receipts];

    /// Name in the database; part of every checksum.
    fn name(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Examples => "examples",
            Self::Jobs => "jobs",
            Self::Chunks => "chunks",
            Self::Receipts => "receipts",
        }
    }
}
