//! A model: its name, its aliases, and the counters from which its versions and manifests are numbered.

use std::{borrow::Borrow, collections::BTreeMap, fmt, time::SystemTime};

use super::{
    PretrainedVectors,
    record::{damaged, from_preset, time, timestamp, to_preset},
};
use crate::{
    error::Error,
    model::Preset,
    proto::storage,
    taxonomy::{Revision, VersionNumber},
};

/// Longest name of a model or an alias, in bytes.
pub const MAX_NAME_BYTES: usize = 63;

/// The alias that answers by default.
const SERVING: &str = "serving";

/// Name of a model: 1 to 63 of `a-z`, `0-9`, `-` and `_`, beginning with a letter or a digit.
///
/// ```
/// use taxond::registry::ModelId;
///
/// let id = ModelId::new("bank-intents").unwrap();
/// assert_eq!(id.name(), "models/bank-intents");
/// assert!(ModelId::new("Bank intents").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(String);

/// Name of an alias: 1 to 63 of `a-z`, `0-9`, `-` and `_`, beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AliasName(String);

/// A classifier with its examples, manifests and versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub id: ModelId,
    /// Never reused, so a model made again under an old name never sees the data of the old one. Keys use it.
    pub uid: u64,
    /// Which network it trains.
    pub preset: Preset,
    /// The word vectors that its first training starts from; none for random ones.
    pub word_vectors: Option<PretrainedVectors>,
    /// Where each alias points.
    pub aliases: BTreeMap<AliasName, VersionNumber>,
    /// Number of the newest version; 0 before the first.
    pub latest_version: u64,
    /// Number of the newest manifest; 0 before the first.
    pub latest_revision: u64,
    /// Grows with every change of this record: what an etag stands for.
    pub sequence: u64,
    /// When it was made.
    pub created: SystemTime,
}

/// Which version of a model is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The one that answers by default.
    Serving,
    /// The one an alias points to.
    Alias(AliasName),
    /// The one with a number.
    Number(VersionNumber),
}

impl ModelId {
    /// Checks a name.
    ///
    /// # Errors
    /// What is wrong with it, with the name, as a sentence without a subject.
    pub fn new(raw: &str) -> Result<Self, String> {
        check(raw, |first| first.is_ascii_lowercase() || first.is_ascii_digit(), "a letter or a digit")?;
        Ok(Self(raw.to_owned()))
    }

    /// The name alone.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Resource name of the model.
    pub fn name(&self) -> String {
        format!("models/{self}")
    }

    /// Resource name of one of its versions.
    pub fn version_name(&self, number: VersionNumber) -> String {
        format!("models/{self}/versions/{number}")
    }

    /// Resource name of one of its manifests.
    pub fn manifest_name(&self, revision: Revision) -> String {
        format!("models/{self}/manifests/{revision}")
    }

    /// Resource name of one of its aliases.
    pub fn alias_name(&self, alias: &AliasName) -> String {
        format!("models/{self}@{alias}")
    }
}

impl std::str::FromStr for ModelId {
    type Err = String;

    fn from_str(raw: &str) -> Result<Self, String> {
        Self::new(raw)
    }
}

impl AliasName {
    /// Checks a name.
    ///
    /// # Errors
    /// What is wrong with it, with the name, as a sentence without a subject.
    pub fn new(raw: &str) -> Result<Self, String> {
        check(raw, |first| first.is_ascii_lowercase(), "a letter")?;
        Ok(Self(raw.to_owned()))
    }

    /// The alias that answers by default.
    pub fn serving() -> Self {
        Self(SERVING.to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Model {
    /// The version that answers by default; none before the first promotion.
    pub fn serving(&self) -> Option<VersionNumber> {
        self.aliases.get(SERVING).copied()
    }

    /// Refuses unless the record still has this sequence; `None` always passes.
    ///
    /// # Errors
    /// [`Error::Conflict`] with reason `ETAG_MISMATCH`.
    pub fn expect_sequence(&self, expected: Option<u64>) -> Result<(), Error> {
        match expected {
            Some(expected) if expected != self.sequence => Err(Error::Conflict {
                reason: "ETAG_MISMATCH",
                subject: self.id.name(),
                description: format!(
                    "{} was changed by somebody else; read it again and repeat with its etag",
                    self.id.name()
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Its record. Its name is in the key.
    pub(super) fn to_record(&self) -> storage::Model {
        storage::Model {
            uid: self.uid,
            preset: from_preset(self.preset),
            aliases: self.aliases.iter().map(|(alias, number)| (alias.to_string(), number.0)).collect(),
            latest_version: self.latest_version,
            latest_revision: self.latest_revision,
            sequence: self.sequence,
            created: timestamp(self.created),
            word_vectors: self.word_vectors.as_ref().map(PretrainedVectors::to_record),
            indexed_versions: self.latest_version,
        }
    }

    /// The model of a record.
    pub(super) fn from_record(id: ModelId, record: storage::Model) -> Result<Self, Error> {
        let what = id.name();
        let aliases = record
            .aliases
            .into_iter()
            .map(|(alias, number)| {
                let alias = AliasName::new(&alias)
                    .map_err(|fault| damaged(&what, format!("the name of an alias {fault}")))?;
                Ok((alias, VersionNumber(number)))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self {
            uid: record.uid,
            preset: to_preset(&what, record.preset)?,
            word_vectors: record
                .word_vectors
                .map(|vectors| PretrainedVectors::from_record(&what, vectors))
                .transpose()?,
            aliases,
            latest_version: record.latest_version,
            latest_revision: record.latest_revision,
            sequence: record.sequence,
            created: time(&what, record.created)?,
            id,
        })
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A map by alias is asked by name.
impl Borrow<str> for AliasName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AliasName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(raw: &str, may_begin: impl Fn(char) -> bool, beginning: &str) -> Result<(), String> {
    let shown = || raw.chars().take(MAX_NAME_BYTES + 1).flat_map(char::escape_debug).collect::<String>();
    if raw.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if raw.len() > MAX_NAME_BYTES {
        let (length, shown) = (raw.len(), shown());
        return Err(format!("must be at most {MAX_NAME_BYTES} characters, got {length} ('{shown}...')"));
    }
    if let Some(c) = raw.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '_')) {
        let (c, shown) = (c.escape_debug(), shown());
        return Err(format!("must hold only a-z, 0-9, '-' and '_', got '{c}' in '{shown}'"));
    }
    if !raw.starts_with(may_begin) {
        return Err(format!("must begin with {beginning}, got '{}'", shown()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_the_error_names_the_fault() {
        for good in ["a", "0", "bank-intents_2", &"x".repeat(63)] {
            assert_eq!(ModelId::new(good).unwrap().as_str(), good);
        }
        for (raw, part) in [
            ("", "empty"),
            ("Bank", "'B'"),
            ("a/b", "'/'"),
            ("银行", "'银'"),
            ("-a", "begin with a letter or a digit"),
            (&"x".repeat(64), "got 64"),
        ] {
            let error = ModelId::new(raw).unwrap_err();
            assert!(error.contains(part), "{raw:?}: {error}");
        }
        assert!(AliasName::new("canary").is_ok());
        assert!(AliasName::new("1st").unwrap_err().contains("begin with a letter"));
    }
}
