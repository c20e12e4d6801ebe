//! Vectors as text: a word and its numbers on a line.

use std::io::BufRead;

use super::{Kept, source::Source};
use crate::error::Result;

/// Bytes that an error quotes of a field: no number is longer.
const SHOWN: usize = 32;

/// Number of words and of numbers a word, if this is the line that announces them.
pub(super) fn head(line: &[u8]) -> Option<(u64, u64)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace().map(str::parse);
    match (fields.next(), fields.next(), fields.next()) {
        (Some(Ok(count)), Some(Ok(width)), None) => Some((count, width)),
        _ => None,
    }
}

/// Fields of a line.
pub(super) fn fields(line: &[u8]) -> usize {
    line.split(|&byte| is_space(byte)).filter(|field| !field.is_empty()).count()
}

/// Reads lines to the end of the file, the first of which may have been read before, and exactly `count` of them if that
/// was announced.
pub(super) fn read<R: BufRead>(
    source: &mut Source<'_, R>,
    first: Option<Vec<u8>>,
    count: Option<u64>,
    kept: &mut Kept<'_>,
) -> Result<()> {
    let mut seen = 0;
    let mut next = match first {
        Some(line) => Some(line),
        None => source.line()?,
    };
    while let Some(line) = next {
        // A blank line may stand at the end.
        if !line.is_empty() {
            seen += 1;
            vector(source, &line, kept)?;
        }
        next = source.line()?;
    }
    match count {
        Some(count) if count != seen => {
            Err(source.fault(&format!("the first line announces {count} words, and {seen} are there")))
        }
        _ => Ok(()),
    }
}

fn vector<R: BufRead>(source: &Source<'_, R>, line: &[u8], kept: &mut Kept<'_>) -> Result<()> {
    let width = kept.vectors.width;
    // From the end, because some words hold spaces.
    let mut numbers = line.rsplitn(width + 1, |&byte| is_space(byte));
    let (Some(_), Some(word)) = (numbers.nth(width - 1), numbers.next()) else {
        return Err(
            source.fault(&format!("expected a word and {width} numbers, got {} fields", fields(line)))
        );
    };
    // A word may hold spaces; a number behind one is no part of it.
    let tail = word.rsplit(|&byte| is_space(byte)).next().filter(|tail| tail.len() < word.len());
    if tail.is_some_and(|tail| number(tail).is_some()) {
        return Err(
            source.fault(&format!("expected a word and {width} numbers, got {} fields", fields(line)))
        );
    }
    let Some(row) = kept.place(word) else { return Ok(()) };
    let mut fields = line.rsplitn(width + 1, |&byte| is_space(byte));
    for at in (0..width).rev() {
        let field = fields.next().unwrap_or_default();
        match number(field) {
            Some(number) => kept.row(row)[at] = number,
            None => {
                let start = String::from_utf8_lossy(&field[..field.len().min(SHOWN)]);
                return Err(source.fault(&format!(
                    "expected a word and {width} numbers, got '{}' for number {}",
                    start.escape_debug(),
                    at + 1
                )));
            }
        }
    }
    Ok(())
}

/// A finite number.
fn number(field: &[u8]) -> Option<f32> {
    let number = std::str::from_utf8(field).ok()?.parse::<f32>().ok()?;
    number.is_finite().then_some(number)
}

/// Other spaces, such as the one that does not break, are parts of words.
fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}
