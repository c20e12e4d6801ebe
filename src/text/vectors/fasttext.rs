//! Vectors from a fastText model (`.bin`, format 12, not quantised).
//!
//! ```text
//! magic, format        i32, i32
//! arguments            12 i32: E, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateRate; f64 t
//! dictionary           i32 entries, i32 words, i32 labels, i64 tokens, i64 pruned; entries: word "\0", i64 count, i8 kind
//! input matrix         bool quantised, i64 rows, i64 E, rows x E f32; a row a word, then one a bucket of n-grams
//! ```
//!
//! The vector of a word is the mean of its own row and those of its n-grams (Bojanowski et al. 2017), as `fasttext
//! print-word-vectors` prints it; the rows of n-grams are found by a hash (FNV-1a over signed bytes). See `fasttext.cc`,
//! `dictionary.cc` and `densematrix.cc` of github.com/facebookresearch/fastText.

use std::io::BufRead;

use super::{Kept, MAX_WORDS, WordVectors, source::Source};
use crate::error::Result;

/// The first bytes of a file.
pub(super) const MAGIC: [u8; 4] = 793_712_314_i32.to_le_bytes();

const FORMAT: i32 = 12;
/// Longest n-grams that are read, in characters. fastText takes up to 6 where nobody says otherwise, and what a long word costs grows
/// with it.
const MAX_NGRAM: u32 = 64;
/// What to use instead of what cannot be read.
const REMEDY: &str = "save the vectors as text (.vec) and use that file";

/// How n-grams are found.
struct Ngrams {
    shortest: usize,
    longest: usize,
    buckets: u32,
    /// Row of the first bucket.
    first: u32,
}

/// A row of the matrix and the kept word that it is a part of.
type Part = (u32, u32);

pub(super) fn read<R: BufRead>(
    mut source: Source<'_, R>,
    keep: &mut dyn FnMut(&str) -> bool,
) -> Result<WordVectors> {
    source.skip(MAGIC.len())?;
    let format = source.i32("the format")?;
    if format != FORMAT {
        return Err(source.fault(&format!("is of fastText format {format}, not {FORMAT}; {REMEDY}")));
    }
    let mut arguments = [0; 12];
    for argument in &mut arguments {
        *argument = source.i32("the arguments")?;
    }
    source.skip(8)?;
    let [width, .., buckets, shortest, longest, _] = arguments;
    let width = source.width(u64::try_from(width).unwrap_or(0))?;

    let (entries, words) = (source.i32("the dictionary")?, source.i32("the dictionary")?);
    source.skip(4 + 8)?;
    let pruned = source.i64("the dictionary")?;
    let sizes = [words, buckets, shortest, longest].map(u32::try_from);
    let [Ok(first), Ok(buckets), Ok(shortest), Ok(longest)] = sizes else {
        return Err(source.fault("has a negative size in its head"));
    };
    if longest > MAX_NGRAM {
        return Err(
            source.fault(&format!("has n-grams of up to {longest} characters, over {MAX_NGRAM}; {REMEDY}"))
        );
    }
    if entries < words || entries as u64 > MAX_WORDS {
        return Err(source.fault(&format!("announces {entries} entries for {words} words")));
    }
    if pruned > 0 {
        return Err(source.fault(&format!("is pruned, as quantised models are; {REMEDY}")));
    }
    let ngrams = Ngrams { shortest: shortest as usize, longest: longest as usize, buckets, first };

    let mut kept = Kept::new(width, keep);
    // The entry of each kept word, as it is written: the n-grams are taken from that.
    let mut written: Vec<(u32, Vec<u8>)> = Vec::new();
    for entry in 0..entries as u32 {
        let word = source.word(0)?;
        source.skip(8 + 1)?;
        // Labels stand behind the words.
        let row = if entry < first { kept.place(&word) } else { None };
        if let Some(row) = row {
            written.resize_with(written.len().max(row + 1), Default::default);
            written[row] = (entry, word);
        }
    }
    let mut parts: Vec<Part> = Vec::new();
    let mut shares = Vec::with_capacity(written.len());
    for (at, (entry, word)) in (0..).zip(&written) {
        let before = parts.len();
        parts.push((*entry, at));
        ngrams.visit(word, |row| parts.push((row, at)));
        shares.push(1.0 / (parts.len() - before) as f32);
    }
    parts.sort_unstable();
    matrix(&mut source, &ngrams, &parts, &mut kept)?;
    for (row, share) in shares.into_iter().enumerate() {
        kept.row(row).iter_mut().for_each(|number| *number *= share);
        if kept.row(row).iter().any(|number| !number.is_finite()) {
            return Err(source.fault("has numbers too large to take their mean"));
        }
    }
    Ok(kept.finish())
}

/// Adds the rows of the matrix to the words that they are parts of.
fn matrix<R: BufRead>(
    source: &mut Source<'_, R>,
    ngrams: &Ngrams,
    parts: &[Part],
    kept: &mut Kept<'_>,
) -> Result<()> {
    let mut quantised = [0];
    source.exactly(&mut quantised, "the input matrix")?;
    if quantised != [0] {
        return Err(source.fault(&format!("is quantised; {REMEDY}")));
    }
    let width = kept.vectors.width;
    let (rows, columns) = (source.i64("the input matrix")?, source.i64("the input matrix")?);
    if columns != width as i64 || rows != i64::from(ngrams.first) + i64::from(ngrams.buckets) {
        return Err(source.fault(&format!(
            "has an input matrix of {rows} x {columns}, expected {} words and {} buckets of {width}",
            ngrams.first, ngrams.buckets
        )));
    }
    let mut bytes = vec![0; 4 * width];
    let mut numbers = vec![0.0; width];
    let mut next = 0;
    for parts in parts.chunk_by(|a, b| a.0 == b.0) {
        let row = parts[0].0;
        for _ in next..row {
            source.skip(bytes.len())?;
        }
        source.numbers(&mut bytes, &mut numbers)?;
        next = row + 1;
        for &(_, word) in parts {
            kept.row(word as usize).iter_mut().zip(&numbers).for_each(|(sum, number)| *sum += number);
        }
    }
    Ok(())
}

impl Ngrams {
    /// Visits the rows of the n-grams of a word.
    fn visit(&self, word: &[u8], mut visit: impl FnMut(u32)) {
        // The end of a sentence is an entry without n-grams.
        if self.buckets == 0 || word == b"</s>" {
            return;
        }
        let word = [b"<", word, b">"].concat();
        let starts: Vec<usize> =
            (0..word.len()).filter(|&at| !is_continuation(word[at])).chain([word.len()]).collect();
        let characters = starts.len() - 1;
        for from in 0..characters {
            for to in from + 1..=characters.min(from + self.longest) {
                // A single bracket says nothing.
                let bracket = to - from == 1 && (from == 0 || to == characters);
                if to - from >= self.shortest && !bracket {
                    visit(self.first + hash(&word[starts[from]..starts[to]]) % self.buckets);
                }
            }
        }
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// FNV-1a, in which a byte above 127 is spread over the word by its sign, as fastText has it.
fn hash(ngram: &[u8]) -> u32 {
    ngram.iter().fold(2_166_136_261, |hash: u32, &byte| {
        (hash ^ i32::from(byte as i8) as u32).wrapping_mul(16_777_619)
    })
}
