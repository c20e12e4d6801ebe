//! Vectors as word2vec writes them in binary: a word, a space, its numbers.

use std::io::BufRead;

use super::{Kept, source::Source};
use crate::error::Result;

/// Whether what comes after the first line is binary. Text has no control characters and is UTF-8; the bytes of a few
/// dozen numbers practically never are.
pub(super) fn follows(start: &[u8], width: usize) -> bool {
    let Some(space) = start.iter().position(|&byte| byte == b' ') else { return false };
    let numbers = &start[space + 1..];
    let numbers = &numbers[..numbers.len().min(4 * width)];
    // A character may be cut at the end.
    let cut = |error: std::str::Utf8Error| error.error_len().is_some();
    numbers.iter().any(|&byte| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r'))
        || std::str::from_utf8(numbers).is_err_and(cut)
}

/// Reads so many words.
pub(super) fn read<R: BufRead>(source: &mut Source<'_, R>, count: u64, kept: &mut Kept<'_>) -> Result<()> {
    let width = kept.vectors.width;
    let mut bytes = vec![0; 4 * width];
    let mut numbers = vec![0.0; width];
    for _ in 0..count {
        let word = source.word(b' ')?;
        // Some writers end each vector with a line feed, some do not.
        match kept.place(word.strip_prefix(b"\n").unwrap_or(&word)) {
            Some(row) => {
                source.numbers(&mut bytes, &mut numbers)?;
                kept.row(row).copy_from_slice(&numbers);
            }
            None => source.skip(bytes.len())?,
        }
    }
    match source.peek()? {
        [] | [b'\n'] => Ok(()),
        _ => Err(source.fault(&format!("goes on behind the {count} words that its first line announces"))),
    }
}
