//! Word vectors from the files that word2vec, GloVe and fastText write.
//!
//! ```text
//! word2vec and fastText text   "N E\n", then N lines "word x1 .. xE\n"
//! GloVe text                   such lines without the first one
//! word2vec binary              "N E\n", then N times "word " and E numbers (f32, little-endian), with or without "\n"
//! fastText binary              see `fasttext`
//! ```
//!
//! The format is told from the bytes, not from the name. A file is read once from its beginning to its end and only the
//! vectors of words that are asked for are kept, so that memory does not grow with the file.

mod binary;
mod fasttext;
mod lines;
mod source;

use std::{collections::HashMap, io::BufRead};

use super::normalise;
use crate::error::Result;
use source::Source;

/// Widest vectors that are read.
pub const MAX_VECTOR_WIDTH: usize = 2048;

/// Most words that the head of a file may announce; the largest public files have two to three million.
const MAX_WORDS: u64 = 100_000_000;

/// Vectors of words in normal form, in the order of their file, which is usually that of their frequency.
#[derive(Debug, Clone, PartialEq)]
pub struct WordVectors {
    width: usize,
    words: Vec<String>,
    /// `[words, width]`.
    numbers: Vec<f32>,
}

impl WordVectors {
    /// Reads the vectors of the words that `keep` wants, asked once for each word in normal form in the order of the file.
    ///
    /// Of several words with one normal form (`The`, `the`) the one that is written so counts, else the first. The input
    /// is buffered, with a buffer of a few kilobytes at least: the format is told from what a buffer shows at once.
    ///
    /// # Errors
    /// [`crate::error::Error::Precondition`] with reason `BAD_WORD_VECTORS` naming the line or byte and what was expected
    /// there; [`crate::error::Error::Io`].
    pub fn read(name: &str, input: impl BufRead, keep: &mut dyn FnMut(&str) -> bool) -> Result<Self> {
        let mut source = Source::new(name, input);
        let start = source.peek()?;
        if start.starts_with(&[0x1f, 0x8b]) || start.starts_with(b"PK\x03\x04") {
            return Err(source.fault("is compressed; unpack the file first"));
        }
        if start.starts_with(&fasttext::MAGIC) {
            return fasttext::read(source, keep);
        }
        let first = source.line()?.unwrap_or_default();
        let (count, width) = match lines::head(&first) {
            Some((count, width)) => (Some(count), width),
            None => (None, lines::fields(&first).saturating_sub(1) as u64),
        };
        let width = source.width(width)?;
        let mut kept = Kept::new(width, keep);
        match count {
            Some(count) if count > MAX_WORDS => {
                return Err(source.fault(&format!("has {count} words, over {MAX_WORDS}")));
            }
            Some(count) if binary::follows(source.peek()?, width) => {
                binary::read(&mut source, count, &mut kept)?;
            }
            Some(count) => lines::read(&mut source, None, Some(count), &mut kept)?,
            None => lines::read(&mut source, Some(first), None, &mut kept)?,
        }
        Ok(kept.finish())
    }

    /// E: numbers of a vector, 1 to [`MAX_VECTOR_WIDTH`].
    pub fn width(&self) -> usize {
        self.width
    }

    /// The words.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The numbers of all words, word after word; `[words, E]`.
    pub fn numbers(&self) -> &[f32] {
        &self.numbers
    }
}

/// The vectors kept so far.
struct Kept<'a> {
    keep: &'a mut dyn FnMut(&str) -> bool,
    vectors: WordVectors,
    places: HashMap<String, Place>,
}

#[derive(Clone, Copy)]
struct Place {
    row: usize,
    /// Whether the word was written in normal form.
    exact: bool,
}

impl<'a> Kept<'a> {
    fn new(width: usize, keep: &'a mut dyn FnMut(&str) -> bool) -> Self {
        let vectors = WordVectors { width, words: Vec::new(), numbers: Vec::new() };
        Self { keep, vectors, places: HashMap::new() }
    }

    /// Where the vector of a word goes, if it is wanted; `[width]`, all zeros or an earlier vector. Bytes that are not
    /// UTF-8 are no word that a text could hold.
    fn place(&mut self, word: &[u8]) -> Option<usize> {
        let word = std::str::from_utf8(word).ok()?;
        let normal = normalise(word);
        let exact = normal == word;
        if let Some(place) = self.places.get_mut(&normal) {
            let better = exact && !place.exact;
            place.exact |= exact;
            return better.then_some(place.row);
        }
        if normal.is_empty() || !(self.keep)(&normal) {
            return None;
        }
        let row = self.vectors.words.len();
        self.places.insert(normal.clone(), Place { row, exact });
        self.vectors.words.push(normal);
        self.vectors.numbers.resize((row + 1) * self.vectors.width, 0.0);
        Some(row)
    }

    /// The numbers at a place.
    fn row(&mut self, row: usize) -> &mut [f32] {
        let width = self.vectors.width;
        &mut self.vectors.numbers[row * width..][..width]
    }

    fn finish(self) -> WordVectors {
        self.vectors
    }
}

#[cfg(test)]
mod tests;
