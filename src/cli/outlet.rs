//! Where rows go: the standard output, or a file that appears when it is whole; packed where its name ends in .gz or .zst.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

use crate::cli::{
    failure::{Exit, Failure},
    output::Visible,
};

/// What rows go to.
#[derive(Debug)]
pub(crate) struct Outlet {
    /// As messages name it.
    pub(crate) name: String,
    /// Where the rows stand until they are whole, and the file that they shall become.
    place: Option<(PathBuf, PathBuf)>,
}

impl Outlet {
    /// The standard output, or a file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn open(out: Option<&Path>) -> Result<(Self, Packer), Failure> {
        let Some(out) = out else {
            let outlet = Self { name: "the standard output".into(), place: None };
            let out = io::stdout();
            let sink: Box<dyn Write + Send> =
                if out.is_terminal() { Box::new(Visible::new(out)) } else { Box::new(out) };
            return Ok((outlet, Packer::Plain(BufWriter::new(sink))));
        };
        // A pipe or a device is no file that another could take the place of.
        let is_special = fs::metadata(out).is_ok_and(|of| !of.is_file());
        let partial = if is_special { out.to_owned() } else { partial(out) };
        let name = partial.display().to_string();
        let cannot = |e: io::Error| Failure::new(Exit::Invalid, format!("cannot write {name}: {e}"));
        let file = if is_special { File::options().write(true).open(out) } else { File::create(&partial) };
        let packer = Packer::new(out, Box::new(file.map_err(cannot)?)).map_err(cannot)?;
        let place = (!is_special).then(|| (partial, out.to_owned()));
        Ok((Self { name, place }, packer))
    }

    /// The file that the rows shall become.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.place.as_ref().map(|(_, out)| out.as_path())
    }

    /// Puts the file, whose bytes are all written, in its place.
    pub(crate) fn settle(self) -> Result<(), Failure> {
        let Some((partial, out)) = self.place else { return Ok(()) };
        fs::rename(&partial, &out).map_err(|e| {
            let what = format!("cannot put {} in the place of {}: {e}", partial.display(), out.display());
            Failure::new(Exit::Failed, what)
        })
    }

    /// Removes what is written, where it is a part of a file.
    pub(crate) fn discard(self) {
        if let Some((partial, _)) = self.place {
            // One that cannot be removed is overwritten by the next.
            let _removed = fs::remove_file(partial);
        }
    }

    /// The failure of a write.
    pub(crate) fn failed(&self, error: &io::Error) -> Failure {
        match (error.kind(), &self.place) {
            // Nobody reads any more.
            (io::ErrorKind::BrokenPipe, None) => Failure::new(Exit::Failed, ""),
            (_, Some((partial, _))) => Failure::write(partial, error),
            (_, None) => Failure::new(Exit::Failed, format!("cannot write {}: {error}", self.name)),
        }
    }
}

/// Writes a file that appears when it is whole. Where that fails, nothing is left of it, and a file that was
/// there stays.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_whole(out: &Path, bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let partial = partial(out);
    fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, out)).map_err(|error| {
        // One that cannot be removed is overwritten by the next.
        let _removed = fs::remove_file(&partial);
        Failure::write(out, &error)
    })
}

/// `answers.csv.partial` beside `answers.csv`.
pub(crate) fn partial(out: &Path) -> PathBuf {
    let mut name = OsString::from(out);
    name.push(".partial");
    name.into()
}

type Sink = BufWriter<Box<dyn Write + Send>>;

/// Bytes on their way out.
pub(crate) enum Packer {
    /// As they are.
    Plain(Sink),
    /// As gzip.
    Gzip(GzEncoder<Sink>),
    /// As zstd.
    Zstd(zstd::Encoder<'static, Sink>),
}

impl Packer {
    fn new(out: &Path, sink: Box<dyn Write + Send>) -> io::Result<Self> {
        let sink = BufWriter::new(sink);
        let ending = out.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        Ok(match ending.as_deref() {
            Some("gz") => Self::Gzip(GzEncoder::new(sink, Compression::default())),
            Some("zst") => Self::Zstd(zstd::Encoder::new(sink, zstd::DEFAULT_COMPRESSION_LEVEL)?),
            _ => Self::Plain(sink),
        })
    }

    /// Writes what ends the file.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }?
        .flush()
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(sink) => sink,
            Self::Gzip(encoder) => encoder,
            Self::Zstd(encoder) => encoder,
        }
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_file_appears_when_it_is_whole_and_packed_as_its_name_says() {
        let folder = tempfile::tempdir().unwrap();
        for (name, is_plain) in [("a.csv", true), ("a.csv.gz", false), ("a.csv.ZST", false)] {
            let out = folder.path().join(name);
            fs::write(&out, "old").unwrap();
            let (outlet, mut packer) = Outlet::open(Some(&out)).unwrap();
            packer.write_all(b"hello\n").unwrap();
            packer.finish().unwrap();
            assert_eq!(fs::read(&out).unwrap(), b"old");
            outlet.settle().unwrap();
            let bytes = fs::read(&out).unwrap();
            assert_eq!(bytes == b"hello\n", is_plain);
            let mut reader: Box<dyn Read> = match name.rsplit_once('.').unwrap().1 {
                "gz" => Box::new(flate2::read::GzDecoder::new(&bytes[..])),
                "ZST" => Box::new(zstd::Decoder::new(&bytes[..]).unwrap()),
                _ => Box::new(&bytes[..]),
            };
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "hello\n");
        }
        let (outlet, _packer) = Outlet::open(Some(&folder.path().join("b.csv"))).unwrap();
        outlet.discard();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_whole_file_replaces_another_and_a_failure_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("bank.html");
        fs::write(&out, "old").unwrap();
        write_whole(&out, "new").unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"new");
        // A folder cannot be replaced by a file.
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        let failure = write_whole(&taken, "new").unwrap_err();
        assert!(failure.to_string().contains("taken"), "{failure}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let failure = Outlet::open(Some(Path::new("nowhere/answers.csv"))).err().unwrap();
        assert!(failure.to_string().contains("nowhere/answers.csv.partial"), "{failure}");
    }
}
