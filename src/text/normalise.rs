//! The one form in which texts are compared and read: NFKC, lower case, single spaces.
//!
//! Full-width letters and digits become plain ones (`ＡＴＭ１２` reads `atm12`), so that two ways of typing the same
//! thing are the same text to the network and to the split of the examples.

use unicode_normalization::UnicodeNormalization as _;

/// Longest text, in bytes of UTF-8.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Brings a text into normal form: NFKC, lower case, each run of white space one space, trimmed.
///
/// Applying it twice changes nothing more.
///
/// ```
/// use taxond::text::normalise;
///
/// assert_eq!(normalise("  Ｍｙ card\n\tHasn't  arrived "), "my card hasn't arrived");
/// assert_eq!(normalise("取款\u{3000}２万"), "取款 2万");
/// ```
pub fn normalise(text: &str) -> String {
    if text.is_ascii() {
        // Its own NFKC.
        return single_spaced(text.bytes().map(|byte| char::from(byte.to_ascii_lowercase())), text.len());
    }
    let lower = text.nfkc().collect::<String>().to_lowercase();
    // Lower-casing can decompose ('İ' becomes 'i' and a dot above), so the result is composed once more.
    single_spaced(lower.nfkc(), lower.len())
}

/// Characters with each run of white space one space, trimmed.
fn single_spaced(characters: impl Iterator<Item = char>, bytes: usize) -> String {
    let mut normal = String::with_capacity(bytes);
    for c in characters {
        if !c.is_whitespace() {
            normal.push(c);
        } else if !normal.is_empty() && !normal.ends_with(' ') {
            normal.push(' ');
        }
    }
    if normal.ends_with(' ') {
        normal.pop();
    }
    normal
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn width_case_and_space_do_not_matter() {
        assert_eq!(normalise("Ｆｅｅ： ５０％"), normalise("fee: 50%"));
        assert_eq!(normalise("cafe\u{301}"), normalise("CAFÉ"));
        assert_eq!(normalise(" \t\u{3000}\n"), "");
    }

    proptest! {
        #[test]
        fn twice_is_once(text in "\\PC{0,40}") {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }

        #[test]
        fn letters_that_need_no_composing_go_the_same_way(text in "[\\x00-\\x7f]{0,40}") {
            let among_others = normalise(&format!("{text} é"));
            let alone = format!("{} é", normalise(&text));
            prop_assert_eq!(alone.trim_start(), among_others);
        }
    }
}
