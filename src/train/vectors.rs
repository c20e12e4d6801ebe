//! The folder of word vectors on the daemon's host. Callers name files in it and nothing else.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::PathBuf,
};

use crate::{
    error::{Error, Resource, Result, nearest},
    registry::FileName,
};

/// Bytes read at a time: files have gigabytes, and their format is told from one such piece.
const BUFFER_BYTES: usize = 1 << 20;

/// The folder, if the daemon has one.
#[derive(Debug, Clone, Default)]
pub struct VectorsDir(Option<PathBuf>);

impl VectorsDir {
    /// A folder, which must be there; or none.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the folder.
    pub fn new(folder: Option<PathBuf>) -> Result<Self> {
        match folder {
            Some(folder) if !folder.is_dir() => {
                let what = format!("must be a folder that is there, got {}", folder.display());
                Err(Error::invalid("vectors_dir", what))
            }
            folder => Ok(Self(folder)),
        }
    }

    /// Checks that a file is there.
    ///
    /// # Errors
    /// [`Error::Precondition`] with reason `NO_VECTORS_DIR` where the daemon has no folder; [`Error::NotFound`] with the
    /// nearest name there is; [`Error::Io`].
    pub fn check(&self, file: &FileName) -> Result<()> {
        self.path(file).map(|_| ())
    }

    /// Opens a file.
    ///
    /// # Errors
    /// As [`VectorsDir::check`].
    pub(super) fn open(&self, file: &FileName) -> Result<BufReader<File>> {
        let path = self.path(file)?;
        let opened = File::open(&path).map_err(|source| failed(file, source))?;
        Ok(BufReader::with_capacity(BUFFER_BYTES, opened))
    }

    fn path(&self, file: &FileName) -> Result<PathBuf> {
        let Some(folder) = &self.0 else {
            return Err(Error::Precondition {
                reason: "NO_VECTORS_DIR",
                subject: file.to_string(),
                description: "the daemon has no folder of word vectors; start it with --vectors-dir".into(),
            });
        };
        let path = folder.join(file.as_str());
        match fs::metadata(&path) {
            Ok(found) if found.is_file() => Ok(path),
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed(file, source)),
            _ => {
                let others = fs::read_dir(folder).into_iter().flatten().flatten();
                let others = others.filter(|entry| entry.path().is_file());
                let others = others.filter_map(|entry| entry.file_name().into_string().ok());
                Err(Error::NotFound {
                    resource: Resource::WordVectors,
                    name: file.to_string(),
                    suggestion: nearest(file.as_str(), others.filter(|name| FileName::new(name).is_ok())),
                })
            }
        }
    }
}

fn failed(file: &FileName, source: io::Error) -> Error {
    Error::io(format!("opening the word vectors {file}"), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_file_in_the_folder_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("glove.100d.txt"), "a 1\n").unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        let vectors = VectorsDir::new(Some(folder.path().to_owned())).unwrap();
        let check = |name: &str| vectors.check(&FileName::new(name).unwrap());
        check("glove.100d.txt").unwrap();
        for (name, expected) in [("glove.100.txt", Some("glove.100d.txt")), ("other", None), ("sub", None)] {
            let Err(Error::NotFound { suggestion, .. }) = check(name) else { panic!("{name} was found") };
            assert_eq!(suggestion.as_deref(), expected, "{name}");
        }
        assert!(VectorsDir::new(Some(folder.path().join("none"))).is_err());
        let none = VectorsDir::new(None).unwrap().check(&FileName::new("a").unwrap());
        assert!(matches!(none, Err(Error::Precondition { reason: "NO_VECTORS_DIR", .. })));
    }
}
