//! fastText: a line begins with `__label__` and the name of its class; what follows the white space behind is the text.
//!
//! fastText itself takes every word that begins so for another label of the line. A text has one label here, so that such
//! a line is refused.

use super::{Fault, Input, Wrong, example, lines, source::Source, utf8};
use crate::{cli::failure::Failure, proto::v1::LabelledText};

/// What labels begin with.
pub(crate) const PREFIX: &str = "__label__";

pub(super) fn read(source: Source) -> Result<Input, Failure> {
    let name = source.name.clone();
    let mut input = Input::default();
    lines::each(source, |row, line| {
        let checked = line.map_err(Wrong::from).and_then(check);
        input.take(checked, |wrong| Fault::row(&name, row, wrong))
    })?;
    Ok(input)
}

fn check(line: &[u8]) -> Result<LabelledText, Wrong> {
    let (label, text) = cut(line)?;
    example(text, label.ok_or_else(|| format!("must begin with {PREFIX} and a category"))?)
}

/// The label of a line, where it has one, and its text.
pub(super) fn cut(line: &[u8]) -> Result<(Option<&str>, &str), String> {
    let line = utf8(line).map_err(|what| format!("the line {what}"))?;
    let line = line.strip_suffix('\r').unwrap_or(line);
    let (label, text) = match line.trim_start_matches(is_space).strip_prefix(PREFIX) {
        Some(rest) => {
            let (label, text) = rest.split_once(is_space).unwrap_or((rest, ""));
            (Some(label), text)
        }
        None => (None, line),
    };
    match labels(text).next() {
        Some(other) => Err(format!("has more than one label, such as '{other}'; a text has one")),
        None => Ok((label, text)),
    }
}

/// The words of a text that fastText takes for labels.
pub(crate) fn labels(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| word.starts_with(PREFIX))
}

/// What fastText takes for white space.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' | '\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Input {
        read(Source::of("a.ft", text)).unwrap()
    }

    #[test]
    fn the_label_stands_before_the_text() {
        let text = "__label__greet hello, you\r\n\n __label__存款\t存钱\n__label__a  two  spaces \n__label__b a__label__c";
        let input = parse(text.as_bytes());
        assert!(input.faults.listed().is_empty(), "{:?}", input.faults);
        let rows: Vec<_> = input.examples.iter().map(|e| (e.text.as_str(), e.label.as_str())).collect();
        let expected =
            [("hello, you", "greet"), ("存钱", "存款"), (" two  spaces ", "a"), ("a__label__c", "b")];
        assert_eq!(rows, expected);
    }

    #[test]
    fn bad_lines_are_named() {
        for (line, part) in [
            (&b"hello"[..], "must begin with __label__"),
            (b"__label__", "text is empty"),
            (b"__label__a \t", "text is empty"),
            (b"__label__ hello", "category must not be empty"),
            (b"__label__a __label__b hello", "more than one label, such as '__label__b'"),
            (b"__label__a hello __label__b", "more than one label, such as '__label__b'"),
            (b"__label__a \xff", "not UTF-8"),
            (b"__label__#3 hello", "'#'"),
        ] {
            let input = parse(&[b"\n", line].concat());
            let faults = input.faults.listed();
            assert_eq!(faults.len(), 1, "{}", String::from_utf8_lossy(line));
            assert_eq!(faults[0].row, Some(2));
            assert!(faults[0].what.contains(part), "{}", faults[0].what);
        }
    }
}
