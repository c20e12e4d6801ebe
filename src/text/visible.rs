//! Characters that a terminal obeys or hides, made visible: what users wrote must not move the cursor, colour a line, turn its
//! direction or pretend to be another line.

use std::borrow::Cow;

/// Whether a character is shown by nothing of its own, or changes how others are shown: control characters of C0 and C1, marks
/// of the bidirectional algorithm (UAX #9), separators of lines, and invisible formats. Joiners, which scripts and emoji need,
/// are none of these.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// A text of one line: each hidden character as its escape.
///
/// ```
/// use taxond::text::visible;
///
/// assert_eq!(visible("\u{1b}[31mred\nline"), r"\u{1b}[31mred\nline");
/// assert_eq!(visible("取款"), "取款");
/// ```
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden, |c| c.escape_default().to_string())
}

/// A text of several lines, or of columns: as [`visible`], but for line feeds and tabs.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hidden(c) && !matches!(c, '\n' | '\t'), |c| c.escape_default().to_string())
}

/// A JSON document whose hidden characters, which may stand in strings alone, are escaped as JSON has it: it means the same.
/// Line feeds between documents stay.
pub fn visible_json(document: &str) -> Cow<'_, str> {
    let escape = |c: char| {
        let mut units = [0; 2];
        c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
    };
    escaped(document, |c| is_hidden(c) && !matches!(c, '\n' | '\r' | '\t'), escape)
}

fn escaped(text: &str, hidden: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) { shown.push_str(&escape(c)) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_and_nothing_else_changes() {
        for (text, shown) in [
            ("\u{1b}]0;title\u{7}", r"\u{1b}]0;title\u{7}"),
            ("\u{9b}31m\u{7f}", r"\u{9b}31m\u{7f}"),
            ("a\u{202e}b\u{2066}c\u{200f}", r"a\u{202e}b\u{2066}c\u{200f}"),
            ("one\r\ntwo\tthree\u{2028}", r"one\r\ntwo\tthree\u{2028}"),
            ("取款 naïve 👩‍👩‍👧 می‌خواهم", "取款 naïve 👩‍👩‍👧 می‌خواهم"),
        ] {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(visible_lines("a\tb\nc\rd\u{1b}"), "a\tb\nc\\rd\\u{1b}");
    }

    #[test]
    fn a_document_means_the_same() {
        let value = serde_json::json!({"text": "\u{1b}[0m\u{9b}\u{202e}\u{e0001}\n取款"});
        let document = value.to_string();
        let shown = visible_json(&document);
        assert!(!shown.contains(is_hidden), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
