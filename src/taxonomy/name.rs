//! Names of classes, checked once where they enter.

use std::{fmt, sync::Arc};

use unicode_normalization::UnicodeNormalization as _;

/// Longest class name, in bytes of UTF-8.
pub const MAX_CLASS_NAME_BYTES: usize = 128;

/// A class name: NFC, trimmed, 1 to 128 bytes, no control or bidirectional formatting characters, not starting with
/// `#` (which introduces an id). Clones share it: a manifest holds the names of all classes there ever were.
///
/// ```
/// use taxond::taxonomy::ClassName;
///
/// assert_eq!(ClassName::new("  withdraw ").unwrap().as_str(), "withdraw");
/// assert!(ClassName::new("\u{202e}withdraw").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassName(Arc<str>);

impl ClassName {
    /// Checks and normalises a name.
    ///
    /// # Errors
    /// What is wrong with it, with the name, as a sentence without a subject.
    pub fn new(raw: &str) -> Result<Self, String> {
        let name: String = match raw.trim() {
            ascii if ascii.is_ascii() => ascii.to_owned(),
            other => other.nfc().collect(),
        };
        if name.is_empty() {
            return Err("must not be empty or blank".into());
        }
        if name.len() > MAX_CLASS_NAME_BYTES {
            return Err(format!(
                "must be at most {MAX_CLASS_NAME_BYTES} bytes, got {} ('{}...')",
                name.len(),
                name.chars().take(24).collect::<String>().escape_debug()
            ));
        }
        if let Some(c) = name.chars().find(|&c| c.is_control() || is_bidi(c)) {
            return Err(format!(
                "must hold no control or bidirectional character, got U+{:04X} in '{}'",
                u32::from(c),
                name.escape_debug()
            ));
        }
        if name.starts_with('#') {
            return Err(format!("must not begin with '#', which introduces an id, got '{name}'"));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Marks, embeddings, overrides and isolates of the Unicode bidirectional algorithm (UAX #9).
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_composed() {
        assert_eq!(ClassName::new(" cafe\u{301}\t").unwrap().as_str(), "caf\u{e9}");
        assert_eq!(ClassName::new("取款两万以下").unwrap().as_str(), "取款两万以下");
    }

    #[test]
    fn bad_names_say_what_is_wrong() {
        for (raw, part) in [
            ("", "empty"),
            (" \u{3000} ", "empty"),
            ("a\u{7}b", "U+0007"),
            ("a\u{202e}b", "U+202E"),
            ("#12", "'#'"),
            (&"x".repeat(129), "got 129"),
        ] {
            let error = ClassName::new(raw).unwrap_err();
            assert!(error.contains(part), "{raw:?}: {error}");
        }
    }
}
