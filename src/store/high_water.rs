//! How far the database was known to reach when something was last acknowledged.
//!
//! sled opens a log that has lost its end, or an old copy of the database, without a word: what was acknowledged after is
//! gone. So each sync first writes its number into the database and, once that is durable, into a file beside it. A database
//! whose own number is lower than the file's has lost acknowledged writes, and is not opened.
//!
//! The file need not be synced: after a power cut it may be behind the database, which is harmless, but never ahead of it.
//! Its two lines are written by turns, so that one is whole whatever happens to the other.
//!
//! ```text
//! 00000000000000000041 5d3c9a8e1f20b7c6\n
//! 00000000000000000042 07be61d4c28f93aa\n
//! ```

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::{
    error::{Error, Result},
    file,
};

/// Key of the number in the database, outside the trees.
pub(super) const KEY: &[u8] = b"high-water";

const DIGITS: usize = 20;
const CHECKSUM_DIGITS: usize = 16;
const LINE: usize = DIGITS + 1 + CHECKSUM_DIGITS + 1;

/// The file, and the number of the next sync.
#[derive(Debug)]
pub(super) struct HighWater {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None where nothing is written.
    file: Option<File>,
    reached: u64,
}

impl HighWater {
    /// Opens the file beside a database that reaches as far as `database` says; makes it if it is not there.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the database has lost what was acknowledged, or the file is damaged; [`Error::Io`].
    pub(super) fn open(path: &Path, database: u64) -> Result<Self> {
        let failed = |error| Error::io(format!("opening {}", path.display()), error);
        let mut options = OpenOptions::new();
        let file = file::open(options.create(true).truncate(false).write(true), path).map_err(failed)?;
        check(path, &file::read(path).map_err(failed)?, database)?;
        Ok(Self { path: path.to_owned(), state: Mutex::new(State { file: Some(file), reached: database }) })
    }

    /// As [`open`](Self::open), for a database that is only read. A file that is not there says nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(super) fn open_read_only(path: &Path, database: u64) -> Result<Self> {
        let bytes = match file::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(|error| Error::io(format!("opening {}", path.display()), error))?,
        };
        check(path, &bytes, database)?;
        Ok(Self { path: path.to_owned(), state: Mutex::new(State { file: None, reached: database }) })
    }

    /// The number of the next sync, to be written to the database before it.
    pub(super) fn next(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).reached + 1
    }

    /// Lets numbers go on from another database's next.
    pub(super) fn skip_to(&self, next: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.reached = state.reached.max(next);
    }

    /// Writes down that the database reaches this number durably.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn record(&self, mark: u64) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.write(mark).map_err(|error| Error::io(format!("writing {}", self.path.display()), error))
    }
}

impl State {
    fn write(&mut self, mark: u64) -> io::Result<()> {
        self.reached = mark;
        let file = self.file.as_mut().ok_or(io::ErrorKind::ReadOnlyFilesystem)?;
        file.seek(SeekFrom::Start(mark % 2 * LINE as u64))?;
        file.write_all(line(mark).as_bytes())
    }
}

/// Compares the bytes of the file at a path with how far a database reaches.
fn check(path: &Path, bytes: &[u8], database: u64) -> Result<()> {
    let marks = bytes.chunks(LINE).filter_map(parse);
    let Some(acknowledged) = marks.max().or_else(|| bytes.is_empty().then_some(0)) else {
        return Err(Error::Corrupt {
            what: format!("the high-water file {}", path.display()),
            detail: "neither of its lines is whole".to_owned(),
            remedy: "if nothing else in the data directory was touched, remove this file and start again; else restore \
                     a backup",
        });
    };
    if acknowledged > database {
        return Err(Error::Corrupt {
            what: "the database".to_owned(),
            detail: format!(
                "it ends at sync {database}, and sync {acknowledged} was acknowledged (as {} says): it was damaged, or \
                 an older copy was put in its place",
                path.display()
            ),
            remedy: "restore a backup of the whole data directory; to go on with what is left, and without what is \
                     lost, remove the high-water file and start again",
        });
    }
    Ok(())
}

fn line(mark: u64) -> String {
    let number = format!("{mark:0DIGITS$}");
    let checksum = blake3::hash(number.as_bytes());
    format!("{number} {}\n", &checksum.to_hex()[..CHECKSUM_DIGITS])
}

/// The number of a line, if the line is whole.
fn parse(bytes: &[u8]) -> Option<u64> {
    let mark = std::str::from_utf8(bytes.get(..DIGITS)?).ok()?.parse().ok()?;
    (line(mark).as_bytes() == bytes).then_some(mark)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn reopened(path: &Path, database: u64) -> Result<u64> {
        HighWater::open(path, database).map(|mark| mark.next())
    }

    #[test]
    fn a_database_may_be_ahead_and_never_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("high-water");
        let mark = HighWater::open(&path, 0).unwrap();
        for _ in 0..5 {
            let next = mark.next();
            mark.record(next).unwrap();
        }
        assert_eq!(reopened(&path, 5).unwrap(), 6);
        assert_eq!(reopened(&path, 9).unwrap(), 10);
        let error = reopened(&path, 4).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("ends at sync 4, and sync 5 was acknowledged"), "{error}");
        fs::remove_file(&path).unwrap();
        assert_eq!(reopened(&path, 4).unwrap(), 5);
    }

    #[test]
    fn one_whole_line_is_enough_and_none_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("high-water");
        let mark = HighWater::open(&path, 40).unwrap();
        mark.record(41).unwrap();
        mark.record(42).unwrap();
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), 2 * LINE);
        // 42 stands first; a torn write of 44 would hit that line.
        for at in 0..LINE {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            fs::write(&path, &torn).unwrap();
            assert!(reopened(&path, 41).is_ok() && reopened(&path, 40).is_err(), "byte {at}");
        }
        for damaged in [&whole[..LINE - 1], b"?".as_slice(), &[0; 2 * LINE]] {
            fs::write(&path, damaged).unwrap();
            let error = reopened(&path, 100).unwrap_err().to_string();
            assert!(error.contains("neither of its lines is whole"), "{error}");
        }
    }
}
