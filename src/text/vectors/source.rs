//! The bytes of a file of vectors, with the place that an error names.

use std::io::{self, BufRead, ErrorKind, Read as _};

use super::MAX_VECTOR_WIDTH;
use crate::error::{Error, Result};

/// Longest word, in bytes.
const MAX_WORD: usize = 4096;
/// Longest line, in bytes: a word and numbers of 32 characters.
const MAX_LINE: usize = MAX_WORD + MAX_VECTOR_WIDTH * 32;

/// A file that is read from its beginning to its end.
pub(super) struct Source<'a, R> {
    name: &'a str,
    input: R,
    /// Bytes read.
    byte: u64,
    /// Lines read, while the file has lines.
    line: Option<u64>,
}

impl<'a, R: BufRead> Source<'a, R> {
    pub(super) fn new(name: &'a str, input: R) -> Self {
        Self { name, input, byte: 0, line: Some(0) }
    }

    /// The next bytes, as many as are buffered.
    pub(super) fn peek(&mut self) -> Result<&[u8]> {
        let name = self.name;
        self.input.fill_buf().map_err(|e| failed(name, e))
    }

    /// The next line without its end; none at the end of the file.
    pub(super) fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = self.until(b'\n', MAX_LINE, "a line")?;
        if line.is_empty() {
            return Ok(None);
        }
        self.line = self.line.map(|count| count + 1);
        let end = line.trim_ascii_end().len();
        line.truncate(end);
        Ok(Some(line))
    }

    /// The next word, up to the byte that ends it, which is dropped.
    pub(super) fn word(&mut self, end: u8) -> Result<Vec<u8>> {
        self.line = None;
        let mut word = self.until(end, MAX_WORD, "a word")?;
        match word.pop() {
            Some(last) if last == end => Ok(word),
            _ => Err(self.fault("ends where a word was expected")),
        }
    }

    /// The next bytes, as many as `into` is long.
    pub(super) fn exactly(&mut self, into: &mut [u8], what: &str) -> Result<()> {
        self.line = None;
        match self.input.read_exact(into) {
            Ok(()) => {
                self.byte += into.len() as u64;
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
                Err(self.fault(&format!("ends where {} bytes of {what} were expected", into.len())))
            }
            Err(e) => Err(failed(self.name, e)),
        }
    }

    /// A little-endian number.
    pub(super) fn i32(&mut self, what: &str) -> Result<i32> {
        let mut bytes = [0; 4];
        self.exactly(&mut bytes, what)?;
        Ok(i32::from_le_bytes(bytes))
    }

    /// A little-endian number.
    pub(super) fn i64(&mut self, what: &str) -> Result<i64> {
        let mut bytes = [0; 8];
        self.exactly(&mut bytes, what)?;
        Ok(i64::from_le_bytes(bytes))
    }

    /// Numbers of four little-endian bytes, all of them finite.
    pub(super) fn numbers(&mut self, bytes: &mut [u8], into: &mut [f32]) -> Result<()> {
        self.exactly(bytes, "numbers")?;
        for (number, bytes) in into.iter_mut().zip(bytes.as_chunks().0) {
            *number = f32::from_le_bytes(*bytes);
        }
        match into.iter().find(|number| !number.is_finite()) {
            Some(number) => Err(self.fault(&format!("holds {number} before this, a number was expected"))),
            None => Ok(()),
        }
    }

    /// Skips the rest of a record.
    pub(super) fn skip(&mut self, mut bytes: usize) -> Result<()> {
        while bytes > 0 {
            let some = self.peek()?.len().min(bytes);
            if some == 0 {
                return Err(self.fault(&format!("ends where {bytes} more bytes were expected")));
            }
            self.input.consume(some);
            (self.byte, bytes) = (self.byte + some as u64, bytes - some);
        }
        Ok(())
    }

    /// A width as a file announces it.
    pub(super) fn width(&self, width: u64) -> Result<usize> {
        if !(1..=MAX_VECTOR_WIDTH as u64).contains(&width) {
            return Err(self.fault(&format!(
                "has vectors of {width} numbers; expected word vectors of 1 to {MAX_VECTOR_WIDTH}"
            )));
        }
        Ok(width as usize)
    }

    /// The error for a file that is not what it should be here.
    pub(super) fn fault(&self, what: &str) -> Error {
        let place = match self.line {
            Some(0) => String::new(),
            Some(line) => format!("line {line}: "),
            None => format!("byte {}: ", self.byte),
        };
        Error::Precondition {
            reason: "BAD_WORD_VECTORS",
            subject: self.name.to_owned(),
            description: format!("the word vectors {}: {place}{what}", self.name),
        }
    }

    fn until(&mut self, end: u8, limit: usize, what: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(limit as u64 + 1).read_until(end, &mut bytes);
        self.byte += read.map_err(|e| failed(self.name, e))? as u64;
        if bytes.len() > limit {
            return Err(self.fault(&format!("after this comes {what} of more than {limit} bytes")));
        }
        Ok(bytes)
    }
}

fn failed(name: &str, source: io::Error) -> Error {
    Error::io(format!("reading the word vectors {name}"), source)
}
