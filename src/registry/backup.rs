//! A backup of everything that is kept, examples and jobs included.

use std::io::{self, Write};

use super::Registry;
use crate::{
    error::{Error, Result},
    store::BackupWriter,
};

impl Registry {
    /// Writes everything as one file, as it stands together when the last of it is read, and gives back what it was written to.
    ///
    /// # Errors
    /// [`Error::Conflict`] with reason `BACKUP_RUNNING`; [`Error::Corrupt`] naming what is damaged; [`Error::Io`];
    /// [`Error::Cancelled`] where the other side of a pipe has gone.
    pub fn backup<W: Write>(&self, out: W) -> Result<W> {
        let mut writer = BackupWriter::new(out).map_err(unwritten)?;
        self.store.copy(|entry| writer.put(&entry).map_err(unwritten))?;
        writer.finish().map_err(unwritten)
    }
}

fn unwritten(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Error::Cancelled,
        _ => Error::io("writing the backup", error),
    }
}
