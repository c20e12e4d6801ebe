//! The file of a backup: everything of a store, in one stream that can be checked.
//!
//! ```text
//! taxond backup 1\n
//! V | tree, 1 byte | length of the key, u32 | length of the value, u64 | key | value      stands under the key
//! R | tree, 1 byte | length of the key, u32 | key                                         nothing stands there
//! P | tree, 1 byte | length of the prefix, u32 | prefix                                   nothing stands below it
//! E | entries before, u64 | blake3 of all bytes before this hash                          the end
//! ```
//!
//! Numbers are little-endian. Entries apply in their order: what was written while the backup was made comes again, later.

use std::io::{self, Read, Write};

use super::{Tree, copy::Entry};
use crate::error::{Error, Result};

const MAGIC: &[u8] = b"taxond backup 1\n";
/// No key is longer by far; a longer one is damage.
const MAX_KEY_BYTES: u32 = 4096;
const HASH_BYTES: usize = 32;
/// Bytes of the end.
#[cfg(any(test, fuzzing))]
pub(super) const END_BYTES: usize = 1 + size_of::<u64>() + HASH_BYTES;

const VALUE: u8 = b'V';
const REMOVED: u8 = b'R';
const REMOVED_ALL: u8 = b'P';
const END: u8 = b'E';

/// Writes the file of a backup.
#[derive(Debug)]
pub struct BackupWriter<W> {
    out: Hashing<W>,
    entries: u64,
}

/// Reads the file of a backup.
#[derive(Debug)]
pub(super) struct BackupReader<R> {
    input: Hashing<R>,
    entries: u64,
    ended: bool,
}

/// What passes, with the hash of what has passed.
#[derive(Debug)]
struct Hashing<T> {
    inner: T,
    hash: blake3::Hasher,
}

impl<W: Write> BackupWriter<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// What writing returns.
    pub fn new(out: W) -> io::Result<Self> {
        let mut out = Hashing { inner: out, hash: blake3::Hasher::new() };
        out.write_all(MAGIC)?;
        Ok(Self { out, entries: 0 })
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// What writing returns.
    pub fn put(&mut self, entry: &Entry) -> io::Result<()> {
        self.entries += 1;
        match entry {
            Entry::Value { tree, key, value } => {
                self.head(VALUE, *tree, key)?;
                self.out.write_all(&(value.len() as u64).to_le_bytes())?;
                self.out.write_all(key)?;
                self.out.write_all(value)
            }
            Entry::Removed { tree, key } => {
                self.head(REMOVED, *tree, key)?;
                self.out.write_all(key)
            }
            Entry::RemovedAll { tree, prefix } => {
                self.head(REMOVED_ALL, *tree, prefix)?;
                self.out.write_all(prefix)
            }
        }
    }

    /// Ends the file and gives back what it was written to.
    ///
    /// # Errors
    /// What writing returns.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[END])?;
        self.out.write_all(&self.entries.to_le_bytes())?;
        let hash = *self.out.hash.finalize().as_bytes();
        self.out.write_all(&hash)?;
        self.out.flush()?;
        Ok(self.out.inner)
    }

    fn head(&mut self, kind: u8, tree: Tree, key: &[u8]) -> io::Result<()> {
        self.out.write_all(&[kind, tree as u8])?;
        self.out.write_all(&(key.len() as u32).to_le_bytes())
    }
}

impl<R: Read> BackupReader<R> {
    /// Begins to read a file.
    pub(super) fn new(input: R) -> Result<Self> {
        let mut input = Hashing { inner: input, hash: blake3::Hasher::new() };
        let begins: [u8; MAGIC.len()] = input.take()?;
        if begins != MAGIC {
            return Err(Error::Invalid(vec![crate::error::Violation {
                field: "file".to_owned(),
                description: format!(
                    "is not a backup of taxond: it begins with {:?}",
                    String::from_utf8_lossy(&begins)
                ),
            }]));
        }
        Ok(Self { input, entries: 0, ended: false })
    }

    /// The next entry; none behind the last, after the hash was found right.
    fn entry(&mut self) -> Result<Option<Entry>> {
        let [kind] = self.input.take()?;
        if kind == END {
            return self.end();
        }
        let tree = self.tree()?;
        let key_bytes = u32::from_le_bytes(self.input.take()?);
        if key_bytes > MAX_KEY_BYTES {
            return Err(damaged(format!("entry {} has a key of {key_bytes} bytes", self.entries)));
        }
        let key_bytes = u64::from(key_bytes);
        let entry = match kind {
            VALUE => {
                let bytes = u64::from_le_bytes(self.input.take()?);
                let key = self.input.take_long(key_bytes)?;
                Entry::Value { tree, key, value: self.input.take_long(bytes)? }
            }
            REMOVED => Entry::Removed { tree, key: self.input.take_long(key_bytes)? },
            REMOVED_ALL => Entry::RemovedAll { tree, prefix: self.input.take_long(key_bytes)? },
            other => return Err(damaged(format!("entry {} is of the unknown kind {other}", self.entries))),
        };
        self.entries += 1;
        Ok(Some(entry))
    }

    fn tree(&mut self) -> Result<Tree> {
        let [number] = self.input.take()?;
        let tree = Tree::ALL.get(usize::from(number)).copied();
        tree.ok_or_else(|| damaged(format!("entry {} is of the unknown tree {number}", self.entries)))
    }

    fn end(&mut self) -> Result<Option<Entry>> {
        let entries = u64::from_le_bytes(self.input.take()?);
        let hash = *self.input.hash.finalize().as_bytes();
        let stored: [u8; HASH_BYTES] = self.input.take()?;
        if stored != hash {
            return Err(damaged("its hash does not match".to_owned()));
        }
        if entries != self.entries {
            return Err(damaged(format!("it has {} entries, not {entries}", self.entries)));
        }
        let mut behind = [0];
        match self.input.inner.read(&mut behind) {
            Ok(0) => Ok(None),
            Ok(_) => Err(damaged("something follows its end".to_owned())),
            Err(error) => Err(unreadable(error)),
        }
    }
}

impl<R: Read> Iterator for BackupReader<R> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.entry().transpose();
        self.ended = !matches!(entry, Some(Ok(_)));
        entry
    }
}

impl<W: Write> Hashing<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.inner.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Hashing<R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(unreadable)?;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    /// Makes room as the bytes come, not by what a damaged length says.
    fn take_long(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.inner.by_ref().take(length).read_to_end(&mut bytes).map_err(unreadable)?;
        if (bytes.len() as u64) < length {
            return Err(unreadable(io::ErrorKind::UnexpectedEof.into()));
        }
        self.hash.update(&bytes);
        Ok(bytes)
    }
}

fn unreadable(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it ends too early".to_owned()),
        _ => Error::io("reading the backup", error),
    }
}

fn damaged(detail: String) -> Error {
    Error::Corrupt { what: "the backup".to_owned(), detail, remedy: "take another one" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        vec![
            Entry::Value { tree: Tree::Catalog, key: b"a".to_vec(), value: vec![7; 70_000] },
            Entry::Value { tree: Tree::Receipts, key: b"b".to_vec(), value: Vec::new() },
            Entry::Removed { tree: Tree::Jobs, key: b"c".to_vec() },
            Entry::RemovedAll { tree: Tree::Examples, prefix: b"d".to_vec() },
        ]
    }

    fn file(entries: &[Entry]) -> Vec<u8> {
        let mut writer = BackupWriter::new(Vec::new()).unwrap();
        entries.iter().for_each(|entry| writer.put(entry).unwrap());
        writer.finish().unwrap()
    }

    fn read(file: &[u8]) -> Result<Vec<Entry>> {
        BackupReader::new(file)?.collect()
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(read(&file(&entries())).unwrap(), entries());
        assert_eq!(read(&file(&[])).unwrap(), []);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_found() {
        let whole = file(&[
            Entry::Value { tree: Tree::Chunks, key: b"key".to_vec(), value: b"value".to_vec() },
            Entry::Removed { tree: Tree::Jobs, key: b"c".to_vec() },
        ]);
        for at in 0..whole.len() {
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
            for flip in [1, 0x80] {
                let mut flipped = whole.clone();
                flipped[at] ^= flip;
                assert!(read(&flipped).is_err(), "byte {at}");
            }
        }
        assert!(read(&[&whole[..], b"x"].concat()).unwrap_err().to_string().contains("follows its end"));
    }

    #[test]
    fn a_length_beyond_the_file_takes_no_memory() {
        let mut huge = file(&entries());
        let at = MAGIC.len() + 1 + 1 + 4;
        huge[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(read(&huge).unwrap_err().to_string().contains("ends too early"));
    }

    #[test]
    fn another_file_is_not_a_backup() {
        let error = read(b"PK\x03\x04 something that is long enough").unwrap_err().to_string();
        assert!(error.contains("not a backup"), "{error}");
    }
}
