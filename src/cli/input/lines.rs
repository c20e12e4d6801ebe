//! The lines of a file, one in memory at a time.

use std::io::{self, BufRead, Read as _};

use super::source::{MAX_ROW_BYTES, Source};
use crate::cli::failure::Failure;

/// Hands on every line that is not blank, without its end, with its number counted from 1. One that is longer than a row may
/// be is handed on as what is wrong with it.
///
/// # Errors
/// The file cannot be read, or what `take` says.
pub(super) fn each(
    source: Source,
    mut take: impl FnMut(u64, Result<&[u8], String>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let name = source.name.clone();
    let mut reader = source.into_reader();
    let mut line = Vec::new();
    let mut row = 0;
    while next(&mut reader, &mut line).map_err(|e| Failure::read(&name, &e))? {
        row += 1;
        if line.len() > MAX_ROW_BYTES {
            take(row, Err(format!("the line is longer than {MAX_ROW_BYTES} bytes")))?;
        } else if !line.iter().all(u8::is_ascii_whitespace) {
            take(row, Ok(&line))?;
        }
    }
    Ok(())
}

/// Reads a line without its end; of one that is too long only as much as shows that it is.
fn next(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = reader.by_ref().take(MAX_ROW_BYTES as u64 + 1).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > MAX_ROW_BYTES {
        reader.skip_until(b'\n')?;
    }
    Ok(read > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<(u64, Result<String, String>)> {
        let mut lines = Vec::new();
        each(Source::of("a", bytes), |row, line| {
            lines.push((row, line.map(|line| String::from_utf8(line.to_vec()).unwrap())));
            Ok(())
        })
        .unwrap();
        lines
    }

    #[test]
    fn blank_lines_count_and_are_left_out() {
        let text = |row, line: &str| (row, Ok(line.to_owned()));
        assert_eq!(lines(b"a\n\n \r\nb\r\n\n c"), [text(1, "a"), text(4, "b\r"), text(6, " c")]);
        assert!(lines(b"").is_empty() && lines(b"\n\n").is_empty());
    }

    #[test]
    fn a_line_that_is_too_long_is_named_and_the_next_one_read() {
        for extra in [0, 1, 100_000] {
            let bytes = [&b"x".repeat(MAX_ROW_BYTES + extra)[..], b"\nb\n"].concat();
            let found = lines(&bytes);
            assert_eq!((found.len(), found[0].1.is_ok()), (2, extra == 0));
            assert_eq!(found[1], (2, Ok("b".to_owned())));
        }
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let endless = zstd::encode_all(std::io::repeat(b'x').take(1 << 26), 1).unwrap();
        assert!(endless.len() < 1 << 20);
        assert!(matches!(&lines(&endless)[..], [(1, Err(_))]));
    }
}
