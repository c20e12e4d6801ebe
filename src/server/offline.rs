//! Work on the data folder of a daemon that does not run.

use std::{io::Read, path::Path};

use super::fsck::{self, DataReport};
use crate::{
    config::Config,
    error::{Error, Result},
    store::{Compacted, Store, StoreOptions},
};

/// Makes the data folder of a backup, and checks all of it.
///
/// # Errors
/// The folder is not empty or cannot be written; the file is damaged: then the folder cannot be opened.
pub fn restore(config: &Config, file: impl Read) -> Result<DataReport> {
    let store = Store::restore(&config.data_dir, options(config), file)?;
    fsck::inspect(store)
}

/// Writes the database of a data folder anew, without the space that it no longer needs: in place of the old
/// one, or into another folder, which is empty or not there.
///
/// # Errors
/// The folder is not there, is in use, or is damaged, or a disk is full: then nothing was changed.
pub fn compact(config: &Config, to: Option<&Path>) -> Result<Compacted> {
    check_folder(config)?;
    match to {
        Some(to) => Store::compact_to(&config.data_dir, to, options(config)),
        None => Store::compact(&config.data_dir, options(config)),
    }
}

/// Bytes that this process may still write to the disk of a folder; none where the system does not tell.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    crate::store::free_and_needed_bytes(folder).map(|(free, _)| free)
}

/// Opens the store of a data folder that is there.
///
/// # Errors
/// It is not there, or is in use.
pub(super) fn open(config: &Config) -> Result<Store> {
    check_folder(config)?;
    Store::open(&config.data_dir, options(config))
}

fn check_folder(config: &Config) -> Result<()> {
    if config.data_dir.exists() {
        return Ok(());
    }
    Err(Error::invalid("data_dir", format!("there is no folder {}", config.data_dir.display())))
}

/// How the store is opened by who is alone with it: as small as that of the daemon, and free to use what room there is.
fn options(config: &Config) -> StoreOptions {
    StoreOptions { cache_bytes: config.cache_bytes, ..StoreOptions::default() }
}
