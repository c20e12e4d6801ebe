//! Files for what comes in bulk and is not stored yet: on the disk of the data folder, so that it takes no memory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    sync::atomic::{AtomicU64, Ordering},
};

use super::Store;
use crate::{
    error::{Error, Result},
    file,
};

/// Folder of the files; what a crash left in it goes at the next start.
const FOLDER: &str = "uploads";

/// Bytes on the disk that are gone when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    store: Store,
    file: File,
    length: u64,
}

impl Store {
    /// An empty file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Exhausted`] with reason `DISK_SPACE` where little room is left.
    pub fn scratch(&self) -> Result<Scratch> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        self.check_room_for_bulk()?;
        let folder = self.inner.directory.path().join(FOLDER);
        let path = folder.join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
        let make = || -> io::Result<File> {
            file::make_folder(&folder)?;
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
            // It has no name any more, so that nothing is left of it however the process ends.
            fs::remove_file(&path)?;
            Ok(file)
        };
        let file = make().map_err(|error| Error::io(format!("making {}", path.display()), error))?;
        Ok(Scratch { store: self.clone(), file, length: 0 })
    }

    /// Removes what a crash left.
    pub(super) fn clear_scratch(&self) -> Result<()> {
        let folder = self.inner.directory.path().join(FOLDER);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("removing {}", folder.display()), error))
            }
            _ => Ok(()),
        }
    }
}

impl Scratch {
    /// Adds bytes behind those before.
    ///
    /// # Errors
    /// [`Error::Exhausted`] with reason `DISK_SPACE` where little room is left, or none; [`Error::Io`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.store.check_room_for_bulk()?;
        self.file.write_all(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Exhausted {
                reason: "DISK_SPACE",
                description: "the disk of the data directory is full; nothing of this call was stored"
                    .to_owned(),
                retry_after: None,
            },
            _ => Error::io("writing what is uploaded", error),
        })?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Fills a buffer with the bytes from an offset on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where there are not so many.
    #[cfg(unix)]
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }

    /// Fills a buffer with the bytes from an offset on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where there are not so many.
    #[cfg(not(unix))]
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        use std::io::{Read as _, Seek as _, SeekFrom};

        // One call reads it at a time, and appends nothing after.
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    #[test]
    fn what_is_appended_is_read_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let mut scratch = store.scratch().unwrap();
        scratch.append(b"one").unwrap();
        scratch.append(b" two").unwrap();
        assert_eq!(scratch.length(), 7);
        let mut found = [0; 3];
        scratch.read_at(4, &mut found).unwrap();
        assert_eq!(&found, b"two");
        assert_eq!(scratch.read_at(5, &mut found).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let folder = dir.path().join(FOLDER);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::write(folder.join("7"), "left by a crash").unwrap();
        drop((scratch, store));
        Store::open(dir.path(), StoreOptions::default()).unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn nothing_comes_in_where_little_room_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { min_free_bytes: Some(u64::MAX), ..StoreOptions::default() };
        let store = Store::open(dir.path(), options).unwrap();
        let refused = store.scratch().unwrap_err();
        assert!(matches!(refused, Error::Exhausted { reason: "DISK_SPACE", .. }), "{refused}");
    }
}
