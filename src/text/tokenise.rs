//! Cuts a normal text into tokens: ideographs and kana one by one, other letters and digits in runs, anything else
//! that is not white space alone.

use unicode_normalization::char::is_combining_mark;

/// The tokens of a text in normal form, in order. Every text with a character that is not white space has one.
///
/// ```
/// use taxond::text::tokens;
///
/// assert_eq!(tokens("取款20万, now").collect::<Vec<_>>(), ["取", "款", "20", "万", ",", "now"]);
/// ```
pub fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let end = if in_run(first) {
            rest.find(|c: char| !in_run(c) && !is_combining_mark(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, tail) = rest.split_at(end);
        rest = tail;
        Some(token)
    })
}

fn in_run(c: char) -> bool {
    c.is_alphanumeric() && !stands_alone(c)
}

/// Whether a character is a token of its own although it is a letter: ideographs and kana, which are written without
/// spaces.
pub(super) fn stands_alone(c: char) -> bool {
    matches!(c,
        '\u{3005}'..='\u{3007}' // iteration mark, closing mark, zero
        | '\u{3040}'..='\u{30ff}' // Hiragana, Katakana
        | '\u{31f0}'..='\u{31ff}' // Katakana extensions
        | '\u{3400}'..='\u{4dbf}' // Han extension A
        | '\u{4e00}'..='\u{9fff}' // Han
        | '\u{f900}'..='\u{faff}' // Han compatibility
        | '\u{20000}'..='\u{3ffff}') // Han extensions B and later
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        tokens(text).collect()
    }

    #[test]
    fn scripts_are_cut_as_they_are_written() {
        assert_eq!(cut("hasn't arrived?"), ["hasn", "'", "t", "arrived", "?"]);
        assert_eq!(cut("我要取2000元atm"), ["我", "要", "取", "2000", "元", "atm"]);
        assert_eq!(cut("カードを失くした"), ["カ", "ー", "ド", "を", "失", "く", "し", "た"]);
        assert_eq!(cut("카드 분실"), ["카드", "분실"]);
    }

    #[test]
    fn marks_stay_with_their_letter() {
        // The virama of Devanagari is a mark that is not alphabetic.
        assert_eq!(cut("क्षमा करें"), ["क्षमा", "करें"]);
    }

    #[test]
    fn anything_but_white_space_is_a_token() {
        assert_eq!(cut("  "), Vec::<&str>::new());
        assert_eq!(cut("😀\u{301}"), ["😀", "\u{301}"]);
        assert_eq!(cut("\u{200d}"), ["\u{200d}"]);
    }
}
