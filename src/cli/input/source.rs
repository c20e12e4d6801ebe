//! The bytes of a file or of the standard input, decompressed where their first bytes say gzip or zstd.
//!
//! They are read as they come: what a small file decompresses to need not fit into memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;

use crate::cli::failure::Failure;

/// Longest row, in bytes. A text of the longest takes a tenth of it, even where JSON escapes all of it.
pub(super) const MAX_ROW_BYTES: usize = 4 * 1024 * 1024;

const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
const MARK: &[u8] = b"\xef\xbb\xbf";
/// Bytes that are looked at before a format is chosen.
const HEAD: usize = 16;

/// What is read. A byte order mark that some editors put first is dropped.
pub(super) struct Source {
    /// As messages name it.
    pub(super) name: String,
    /// The first bytes, not yet read.
    head: Vec<u8>,
    reader: Box<dyn BufRead>,
    is_packed: bool,
    /// The file, where it is one.
    file: Option<PathBuf>,
}

impl Source {
    /// Opens a file, or the standard input for `-`.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn open(file: &Path) -> Result<Self, Failure> {
        if file.as_os_str() == "-" {
            return Self::new("the standard input", Box::new(BufReader::new(io::stdin())));
        }
        let name = file.display().to_string();
        let opened = File::open(file).map_err(|e| Failure::read(&name, &e))?;
        let is_file = opened.metadata().is_ok_and(|of| of.is_file());
        let mut source = Self::new(&name, Box::new(BufReader::new(opened)))?;
        source.file = is_file.then(|| file.to_owned());
        Ok(source)
    }

    pub(super) fn new(name: &str, mut raw: Box<dyn BufRead>) -> Result<Self, Failure> {
        let failed = |e: io::Error| Failure::read(name, &e);
        let magic = head(&mut raw, ZSTD.len()).map_err(failed)?;
        let (is_gzip, is_zstd) = (magic.starts_with(GZIP), magic.starts_with(ZSTD));
        let whole = Cursor::new(magic).chain(raw);
        let mut reader: Box<dyn BufRead> = if is_gzip {
            Box::new(BufReader::new(MultiGzDecoder::new(whole)))
        } else if is_zstd {
            // The library takes no window above 128 MiB unless it is told to.
            Box::new(BufReader::new(zstd::Decoder::with_buffer(whole).map_err(failed)?))
        } else {
            Box::new(whole)
        };
        let mut head = head(&mut reader, HEAD).map_err(failed)?;
        if head.starts_with(MARK) {
            head.drain(..MARK.len());
        }
        Ok(Self { name: name.to_owned(), head, reader, is_packed: is_gzip || is_zstd, file: None })
    }

    /// How it begins.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The file that holds these very bytes, where it can be read at any place.
    pub(super) fn plain(&self) -> Option<&Path> {
        self.file.as_deref().filter(|_| !self.is_packed)
    }

    /// Its bytes.
    pub(super) fn into_reader(self) -> impl BufRead {
        Cursor::new(self.head).chain(self.reader)
    }

    #[cfg(test)]
    pub(super) fn of(name: &str, bytes: &[u8]) -> Self {
        Self::new(name, Box::new(Cursor::new(bytes.to_vec()))).unwrap()
    }
}

fn head(reader: &mut impl Read, bytes: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(bytes);
    reader.take(bytes as u64).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn all(source: Source) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        source.into_reader().read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let text = "\u{feff}text,label\nhello,greet\n".repeat(3000).into_bytes();
        let two_members = [gzip(&text[..10]), gzip(&text[10..])].concat();
        for bytes in [text.clone(), gzip(&text), two_members, zstd::encode_all(&text[..], 1).unwrap()] {
            assert_eq!(all(Source::of("a", &bytes)).unwrap(), text[MARK.len()..]);
        }
        for short in [&b""[..], b"\x1f", b"ab"] {
            assert_eq!(all(Source::of("a", short)).unwrap(), short);
        }
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let text = b"hello, hello\n".repeat(3000);
        for bytes in [gzip(&text), zstd::encode_all(&text[..], 1).unwrap()] {
            let cut = Source::new("a", Box::new(Cursor::new(bytes[..bytes.len() - 6].to_vec())));
            // Already its beginning may be what cannot be read.
            assert!(cut.map_or(true, |source| all(source).is_err()));
        }
    }

    #[test]
    fn only_a_file_that_is_not_compressed_can_be_read_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let [plain, packed] = ["a", "b"].map(|name| folder.path().join(name));
        fs::write(&plain, "hello").unwrap();
        fs::write(&packed, gzip(b"hello")).unwrap();
        assert_eq!(Source::open(&plain).unwrap().plain(), Some(&*plain));
        assert_eq!(Source::open(&packed).unwrap().plain(), None);
        assert_eq!(Source::of("a", b"hello").plain(), None);
        assert!(Source::open(Path::new("nowhere")).is_err());
    }
}
