//! The word vectors that a model starts from.

use std::fmt;

use super::record::damaged;
use crate::{error::Result, model::Preset, proto::storage};

/// Longest name of a file, in bytes.
const MAX_FILE_NAME_BYTES: usize = 255;

/// What a model trains, chosen when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Design {
    /// Which network.
    pub preset: Preset,
    /// The word vectors that its first training starts from; none for random ones.
    pub word_vectors: Option<PretrainedVectors>,
}

/// Word vectors from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PretrainedVectors {
    /// The file.
    pub file: FileName,
    /// Whether training leaves them as they are.
    pub frozen: bool,
}

/// Name of a file in the folder of vectors: it cannot lead out of that folder.
///
/// ```
/// use taxond::registry::FileName;
///
/// assert!(FileName::new("glove.6B.100d.txt").is_ok());
/// assert!(FileName::new("../etc/passwd").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName(String);

impl FileName {
    /// Checks a name.
    ///
    /// # Errors
    /// What is wrong with it, with the name, as a sentence without a subject.
    pub fn new(raw: &str) -> Result<Self, String> {
        let shown = raw.escape_debug();
        if raw.is_empty() {
            return Err("must not be empty".to_owned());
        }
        if raw.len() > MAX_FILE_NAME_BYTES {
            return Err(format!("must be at most {MAX_FILE_NAME_BYTES} bytes, got {}", raw.len()));
        }
        if raw.starts_with('.') || raw.contains(['/', '\\']) || raw.chars().any(char::is_control) {
            return Err(format!(
                "must be the name of a file in the daemon's folder of vectors, without a path and not beginning with \
                 a dot, got '{shown}'"
            ));
        }
        Ok(Self(raw.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A network with random vectors.
impl From<Preset> for Design {
    fn from(preset: Preset) -> Self {
        Self { preset, word_vectors: None }
    }
}

impl PretrainedVectors {
    pub(super) fn to_record(&self) -> storage::WordVectors {
        storage::WordVectors { file: self.file.to_string(), frozen: self.frozen }
    }

    pub(super) fn from_record(what: &str, record: storage::WordVectors) -> Result<Self> {
        let file = FileName::new(&record.file)
            .map_err(|fault| damaged(what, format!("the file of its word vectors {fault}")))?;
        Ok(Self { file, frozen: record.frozen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_out_of_the_folder() {
        for name in ["a", "glove.6B.100d.txt", "词向量.bin", "with space.vec", "a..b"] {
            assert_eq!(FileName::new(name).unwrap().as_str(), name);
        }
        let long = "x".repeat(256);
        for name in ["", ".", "..", ".hidden", "/a", "a/b", "../a", "a\\b", "a\0", "a\n", &long] {
            assert!(FileName::new(name).is_err(), "{name:?}");
        }
    }
}
