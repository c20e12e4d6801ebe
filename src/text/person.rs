//! Names of those who change something, as the history keeps them.

use unicode_normalization::UnicodeNormalization as _;

use super::visible::is_hidden;

/// Longest name, in bytes of UTF-8.
pub const MAX_PERSON_BYTES: usize = 128;
/// What stands between what a caller says of itself and the identity that was verified.
pub const VIA: &str = " via ";

/// Checks the name of a person or a program, and normalises it: NFC, trimmed, 1 to 128 bytes, without control, bidirectional or
/// invisible characters, and nothing that reads like ` via `, which would claim an identity that nobody verified.
///
/// # Errors
/// What is wrong with it, with the name, as a sentence without a subject.
///
/// ```
/// use taxond::text::person;
///
/// assert_eq!(person(" 张伟 ").unwrap(), "张伟");
/// assert!(person("mallory via admin").is_err());
/// ```
pub fn person(raw: &str) -> Result<String, String> {
    let shown = || raw.chars().take(32).collect::<String>().escape_debug().to_string();
    let name: String = match raw.trim() {
        ascii if ascii.is_ascii() => ascii.to_owned(),
        other => other.nfc().collect(),
    };
    if name.is_empty() || raw.len() > MAX_PERSON_BYTES || name.len() > MAX_PERSON_BYTES {
        let bytes = raw.len();
        return Err(format!(
            "must be 1 to {MAX_PERSON_BYTES} bytes and not blank, got {bytes} bytes, '{}'",
            shown()
        ));
    }
    if let Some(c) = name.chars().find(|&c| is_hidden(c) || (c.is_whitespace() && c != ' ')) {
        let c = u32::from(c);
        return Err(format!(
            "must hold no control, bidirectional or invisible character and no space but U+0020, got U+{c:04X} in '{}'",
            shown()
        ));
    }
    if reads_like_via(&name) {
        return Err(format!(
            "must not hold ' via ', behind which the history names the identity that was verified, got '{}'",
            shown()
        ));
    }
    Ok(name)
}

/// Whether a reader may take a part of a name for [`VIA`]: in other letter forms, or with joiners that are not seen.
fn reads_like_via(name: &str) -> bool {
    let plain: String = name.nfkc().filter(|c| !matches!(c, '\u{200c}' | '\u{200d}')).collect();
    let plain = plain.to_lowercase();
    let words: Vec<&str> = plain.split_whitespace().collect();
    // Names may begin or end with the word.
    words.len() > 2 && words[1..words.len() - 1].contains(&"via")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_scripts_are_taken() {
        for (raw, name) in [
            (" ada, the first ", "ada, the first"),
            ("张伟", "张伟"),
            ("zoe\u{308}", "zo\u{eb}"),
            ("مریم می‌خواهد", "مریم می‌خواهد"),
            ("Olivia Viano", "Olivia Viano"),
            ("Sofia Via", "Sofia Via"),
        ] {
            assert_eq!(person(raw).as_deref(), Ok(name));
        }
    }

    #[test]
    fn what_could_forge_a_line_of_the_history_is_refused() {
        for (raw, part) in [
            ("", "got 0 bytes"),
            ("  ", "'  '"),
            (&"x".repeat(129), "got 129 bytes"),
            ("a\tb", "U+0009"),
            ("\u{1b}[31mred", "U+001B"),
            ("ada\u{202e}", "U+202E"),
            ("a\u{200b}da", "U+200B"),
            ("ada\u{a0}admin", "U+00A0"),
            ("x via admin", "'x via admin'"),
            ("x  VIA  admin", "' via '"),
            ("x ｖｉａ admin", "' via '"),
            ("x v\u{200d}ia admin", "' via '"),
        ] {
            let why = person(raw).unwrap_err();
            assert!(why.contains(part), "{raw:?}: {why}");
        }
    }
}
