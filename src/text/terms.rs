//! The n-grams of a whole text, weighted: what the wide branch of a network reads.
//!
//! ```text
//! words        one token, and two in a row, whatever marks are between them; a mark, which is no letter or digit, alone
//! pairs        two words without ideographs, in any order, with up to 15 words between them
//! characters   1 to 5 in a row within a word and the spaces around it; 1 to 3 where one of them is an ideograph or kana
//! extent       how long the whole text is, in sixteenths of an octave
//! weight       (1 + ln tf) * idf      idf = ln((1 + n) / (1 + df)) + 1
//! ```
//!
//! tf counts a term in the text, df the texts that hold it, of n. Words and characters are scaled to length 1 apart, so
//! that the many characters do not drown the words, pairs to 0.5, and the extent to 0.3. Weighting: Salton and Buckley 1988, as
//! scikit-learn smooths it.
//!
//! Pairs tell what a text speaks of, wherever it says so; marks and the extent, what kind of text it is (docs/learning.md says
//! what they are worth).
//!
//! A term is told by 64 bits of hash alone: among 2^19 terms two are taken for one with a probability below 1 in 10^8, and
//! a table of numbers takes a tenth of the memory of one of strings.

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasherDefault,
    ops::Range,
};

use super::{
    counts::{Counts, Identity, MAX_COUNTED_PAIRS},
    normalise,
    tokenise::{stands_alone, tokens},
};
use crate::error::{Error, Result};

/// Most terms of a table: the most frequent ones stay.
pub const MAX_TERMS: usize = 1 << 19;

/// Characters of a text that terms are taken from; the rest is ignored.
const MAX_CHARACTERS: usize = 4096;
const MAX_LENGTH: usize = 5;
/// An ideograph says as much as two or three letters.
const MAX_IDEOGRAPHIC_LENGTH: usize = 3;
/// Words before a word that it makes a pair with.
const PAIR_REACH: usize = 16;

/// What pairs weigh together, and what the extent; words together weigh 1, and so do characters.
const PAIR_WEIGHT: f32 = 0.5;
const EXTENT_WEIGHT: f32 = 0.3;

/// Terms by row, each with its idf.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    ids: Vec<u64>,
    idf: Vec<f32>,
    rows: HashMap<u64, u32, BuildHasherDefault<Identity>>,
}

/// Which part of a text's terms one belongs to; each part is scaled by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Words,
    Pairs,
    Characters,
    Extent,
}

impl Terms {
    /// The terms of texts, most frequent first, equally frequent ones by id, and at most so many.
    pub fn build<'a>(texts: impl IntoIterator<Item = &'a str>, limit: usize) -> Self {
        let mut terms = Self::default();
        terms.extend(texts, limit);
        terms
    }

    /// A table from what [`Terms::ids`] and [`Terms::idf`] gave.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if they differ in length or a term is there twice.
    pub fn from_parts(ids: Vec<u64>, idf: Vec<f32>) -> Result<Self> {
        let rows: HashMap<_, _, _> = ids.iter().copied().zip(0..).collect();
        if ids.len() != idf.len() || rows.len() != ids.len() || ids.len() > MAX_TERMS {
            return Err(Error::Corrupt {
                what: "terms".into(),
                detail: format!("{} ids, {} of them distinct, {} weights", ids.len(), rows.len(), idf.len()),
                remedy: "restore a backup, or train the model again",
            });
        }
        Ok(Self { ids, idf, rows })
    }

    /// Appends the terms that the texts bring and that are not here yet, by the same rule, up to `limit` in all; old rows
    /// and their idf stay as they are. Returns how many came.
    pub fn extend<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>, limit: usize) -> usize {
        let mut counts = Counts::default();
        // A text that is there many times says its words once.
        let mut seen = HashSet::new();
        let mut reader = Reader::default();
        for text in texts {
            let text = normalise(text);
            if seen.contains(&text) {
                continue;
            }
            let number = seen.len() as u32 + 1;
            reader.visit(&text, |part, id, ideographic| {
                if !self.rows.contains_key(&id) {
                    counts.add(part, id, ideographic, number);
                }
            });
            counts.shed(MAX_COUNTED_PAIRS);
            seen.insert(text);
        }
        let mut new = counts.frequent();
        new.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        new.truncate(limit.min(MAX_TERMS).saturating_sub(self.ids.len()));
        for &(texts, id) in &new {
            self.rows.insert(id, self.ids.len() as u32);
            self.ids.push(id);
            self.idf.push((((1 + seen.len()) as f64 / (1 + texts) as f64).ln() + 1.0) as f32);
        }
        new.len()
    }

    /// The term of each row.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The idf of each row.
    pub fn idf(&self) -> &[f32] {
        &self.idf
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no term.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The rows of a text in normal form and their weights: words, pairs, characters, by row within each; then the extent.
    pub fn weigh(&self, text: &str) -> Vec<(u32, f32)> {
        self.weigh_with(text, &mut Weighing::default())
    }

    /// As [`Terms::weigh`], with buffers of texts before.
    pub(super) fn weigh_with(&self, text: &str, buffers: &mut Weighing) -> Vec<(u32, f32)> {
        if self.is_empty() {
            return Vec::new();
        }
        let Weighing { reader, words, pairs, characters } = buffers;
        [&mut *words, pairs, characters].into_iter().for_each(Vec::clear);
        let mut extent = None;
        reader.visit(text, |part, id, _| {
            if let Some(&row) = self.rows.get(&id) {
                match part {
                    Part::Words => words.push(row),
                    Part::Pairs => pairs.push(row),
                    Part::Characters => characters.push(row),
                    Part::Extent => extent = Some((row, EXTENT_WEIGHT)),
                }
            }
        });
        let mut weighed = Vec::with_capacity(words.len() + pairs.len() + characters.len() + 1);
        for (rows, length) in [(words, 1.0), (pairs, PAIR_WEIGHT), (characters, 1.0)] {
            rows.sort_unstable();
            let start = weighed.len();
            let mut square = 0.0;
            for equal in rows.chunk_by(|a, b| a == b) {
                let weight = (1.0 + (equal.len() as f32).ln()) * self.idf[equal[0] as usize];
                square += weight * weight;
                weighed.push((equal[0], weight));
            }
            let scale = length / square.sqrt();
            weighed[start..].iter_mut().for_each(|(_, weight)| *weight *= scale);
        }
        weighed.extend(extent);
        weighed
    }
}

/// What weighing texts uses again: it is far more than what a text's terms take.
#[derive(Debug, Default)]
pub(super) struct Weighing {
    reader: Reader,
    words: Vec<u32>,
    pairs: Vec<u32>,
    characters: Vec<u32>,
}

/// Finds the terms of texts, reusing its buffers.
#[derive(Debug, Default)]
struct Reader {
    characters: Vec<char>,
    words: Vec<Range<usize>>,
    marks: Vec<char>,
    /// Ids of the words so far that make pairs.
    pairing: Vec<u64>,
}

impl Reader {
    /// Visits each term of a text in normal form as often as it occurs: its part, its id, and whether it holds an
    /// ideograph.
    fn visit(&mut self, text: &str, mut visit: impl FnMut(Part, u64, bool)) {
        self.lay_out(text);
        let characters = &self.characters;
        let mut before: Option<(u64, bool)> = None;
        self.pairing.clear();
        for word in &self.words {
            let word = &characters[word.clone()];
            let ideographic = word.first().is_some_and(|&c| stands_alone(c));
            let hash = |seed: u64| word.iter().fold(seed, |hash, &c| step(hash, c));
            let alone = hash(WORD_SEED);
            let id = finish(alone);
            visit(Part::Words, id, ideographic);
            if let Some((first, also)) = before {
                visit(Part::Words, finish(hash(step(first, ' '))), ideographic || also);
            }
            before = Some((alone, ideographic));
            if !ideographic {
                let reach = self.pairing.len().saturating_sub(PAIR_REACH);
                for &other in self.pairing[reach..].iter().filter(|&&other| other != id) {
                    visit(Part::Pairs, pair(id, other), false);
                }
                self.pairing.push(id);
            }
        }
        for &mark in &self.marks {
            visit(Part::Words, finish(step(WORD_SEED, mark)), false);
        }
        for start in 0..characters.len() {
            let (mut hash, mut ideographic) = (CHARACTER_SEED, false);
            for (length, &c) in (1..=MAX_LENGTH).zip(&characters[start..]) {
                hash = step(hash, c);
                ideographic |= stands_alone(c);
                if ideographic && length > MAX_IDEOGRAPHIC_LENGTH {
                    break;
                }
                // A space begins or ends a run, and says nothing alone.
                let space = c == ' ';
                if !space || length > 1 {
                    visit(Part::Characters, finish(hash), ideographic);
                }
                if space && length > 1 {
                    break;
                }
            }
        }
        if let Some(extent) = sixteenths(columns(text)) {
            visit(Part::Extent, finish(EXTENT_SEED ^ u64::from(extent)), false);
        }
    }

    /// Lays out the words in one row of characters: a space before, between and after them, but none between two
    /// ideographs, which no space divides in writing.
    fn lay_out(&mut self, text: &str) {
        self.characters.clear();
        self.words.clear();
        self.marks.clear();
        self.characters.push(' ');
        let mut joins = false;
        for token in tokens(text) {
            let mut letters = token.chars().peekable();
            let Some(&first) = letters.peek() else { continue };
            if self.characters.len() + self.marks.len() >= MAX_CHARACTERS {
                break;
            }
            if !first.is_alphanumeric() {
                self.marks.push(first);
                continue;
            }
            if !(self.words.is_empty() || joins && stands_alone(first)) {
                self.characters.push(' ');
            }
            let start = self.characters.len();
            self.characters.extend(letters.take(MAX_CHARACTERS - start.min(MAX_CHARACTERS)));
            self.words.push(start..self.characters.len());
            joins = stands_alone(first);
        }
        self.characters.push(' ');
    }
}

// FNV-1a over characters; the seeds keep a word apart from the same characters. Stored ids depend on all of this.
const WORD_SEED: u64 = 0xcbf2_9ce4_8422_2325;
const CHARACTER_SEED: u64 = WORD_SEED ^ 1;
const PAIR_SEED: u64 = WORD_SEED ^ 1 << 33;
const EXTENT_SEED: u64 = WORD_SEED ^ 1 << 32;

fn step(hash: u64, c: char) -> u64 {
    (hash ^ u64::from(u32::from(c))).wrapping_mul(0x0000_0100_0000_01b3)
}

/// Spreads the bits: FNV leaves the low ones of short terms alike (the finaliser of MurmurHash3).
fn finish(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Two words, whichever came first.
fn pair(a: u64, b: u64) -> u64 {
    finish(PAIR_SEED ^ a.min(b).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(a.max(b)))
}

/// How wide a text is on a line, in letters: an ideograph takes the room of two.
fn columns(text: &str) -> u32 {
    text.chars().map(|c| 1 + u32::from(stands_alone(c))).sum()
}

/// Which sixteenth of an octave a number is in, counted from that of 1; none for 0. Those below 32 are told apart.
fn sixteenths(number: u32) -> Option<u32> {
    let octave = number.checked_ilog2()?;
    Some(16 * octave + ((u64::from(number) << 4 >> octave) & 15) as u32)
}

#[cfg(test)]
mod tests {
    use super::{super::counts::MIN_PAIR_TEXTS, *};

    fn visited(text: &str) -> (usize, usize) {
        let (mut words, mut characters) = (0, 0);
        Reader::default().visit(text, |part, _, _| match part {
            Part::Words => words += 1,
            Part::Characters => characters += 1,
            Part::Pairs | Part::Extent => {}
        });
        (words, characters)
    }

    fn extent(text: &str) -> Option<u64> {
        let mut extent = None;
        Reader::default().visit(text, |part, id, _| {
            if part == Part::Extent {
                assert_eq!(extent.replace(id), None, "a text has one extent");
            }
        });
        extent
    }

    #[test]
    fn words_come_alone_and_in_pairs_and_characters_in_runs() {
        // " my " and " card ": the letters alone, then all runs.
        assert_eq!(visited("my card"), (3, 2 + 3 + 2 + 1 + 4 + 5 + 4 + 3 + 2));
        // " 取款 ": no run longer than three.
        assert_eq!(visited("取款"), (3, 2 + 3 + 2));
        assert_eq!(visited(""), (0, 1));
    }

    fn pairs(text: &str) -> Vec<u64> {
        let mut pairs = Vec::new();
        Reader::default().visit(text, |part, id, _| {
            if part == Part::Pairs {
                pairs.push(id);
            }
        });
        pairs.sort_unstable();
        pairs
    }

    #[test]
    fn two_words_are_a_pair_wherever_they_stand_within_reach() {
        assert_eq!(pairs("my lost card").len(), 3);
        assert_eq!(pairs("my lost card"), pairs("lost, card my!"));
        assert_ne!(pairs("my card"), pairs("my pin"));
        // No word makes a pair with itself, and no ideograph makes any.
        assert!(pairs("pin pin 取款 pin").is_empty());
        let far = format!("lost {} card", vec!["of"; PAIR_REACH - 1].join(" "));
        assert!(pairs(&far).contains(&pairs("card lost")[0]));
        assert!(!pairs(&far.replace("card", "of card")).contains(&pairs("card lost")[0]));
    }

    #[test]
    fn a_pair_must_be_in_several_texts_and_weighs_less_than_words() {
        let texts: Vec<String> = (0..MIN_PAIR_TEXTS).map(|at| format!("lost {at} card")).collect();
        let terms = |texts: &[String]| Terms::build(texts.iter().map(String::as_str), MAX_TERMS);
        let id = pairs("card lost")[0];
        assert!(!terms(&texts[1..]).rows.contains_key(&id));
        let terms = terms(&texts);
        let row = terms.rows[&id];
        let weight = terms.weigh("a card that i lost").iter().find(|(other, _)| *other == row).unwrap().1;
        assert!((weight - PAIR_WEIGHT).abs() < 1e-6, "{weight}");
    }

    #[test]
    fn marks_count_alone_and_words_are_read_over_them() {
        let (words, characters) = visited("my card");
        assert_eq!(visited("my - card?!"), (words + 3, characters));
        assert_eq!(visited("?"), (1, 1));
        let terms = Terms::build(["lost?", "found?", "lost", "found"], MAX_TERMS);
        let (asked, said) = (terms.weigh("lost?"), terms.weigh("lost"));
        assert_eq!(asked.iter().filter(|(row, _)| said.iter().all(|(other, _)| other != row)).count(), 2);
    }

    #[test]
    fn the_extent_is_told_in_sixteenths_of_an_octave() {
        assert_eq!(extent(""), None);
        let bounds = (1..=128).filter(|&n| sixteenths(n) != sixteenths(n - 1)).collect::<Vec<u32>>();
        assert_eq!(bounds[..32], (1..=32).collect::<Vec<_>>());
        assert_eq!(bounds[32..47], (34..=62).step_by(2).collect::<Vec<_>>());
        assert_eq!((sixteenths(u32::MAX), sixteenths(0)), (Some(16 * 31 + 15), None));
        // An ideograph is as wide as two letters, and a mark counts.
        assert_eq!(extent("取款"), extent("abcd"));
        assert_ne!(extent("abcd"), extent("abcd!"));
        let terms = Terms::build(["lost", "card"], MAX_TERMS);
        assert_eq!(terms.weigh("pins"), [(0, EXTENT_WEIGHT)]);
    }

    #[test]
    fn rare_terms_count_only_where_they_are_ideographs() {
        let has = |terms: &Terms, text: &str| terms.weigh(text).iter().any(|(_, weight)| *weight > 0.0);
        let terms = Terms::build(["card", "取款", "my way", "my word"], MAX_TERMS);
        assert!(has(&terms, "my") && has(&terms, "款"));
        let only_spaces = Terms::build(["card"], MAX_TERMS);
        assert!(only_spaces.is_empty());
    }

    #[test]
    fn parts_have_length_one_and_frequent_terms_weigh_less() {
        let terms =
            Terms::build(["my card", "my card", "my cards", "the card", "my pin", "pin pin pin"], 1000);
        let weighed = terms.weigh("my pin pin");
        let square: f32 = weighed.iter().map(|(_, weight)| weight * weight).sum();
        // No two of the texts are as long as this one.
        assert!((square - 2.0).abs() < 1e-5, "{square}");
        let weight = |text: &str| {
            let word = text.chars().fold(WORD_SEED, step);
            let row = terms.rows[&finish(word)];
            weighed.iter().find(|(other, _)| *other == row).unwrap().1
        };
        assert!(weight("pin") > weight("my"));
        // n = 5 distinct texts, 3 of them with "my".
        let row = terms.rows[&finish("my".chars().fold(WORD_SEED, step))] as usize;
        assert!((terms.idf()[row] - ((6.0f32 / 4.0).ln() + 1.0)).abs() < 1e-6);
    }

    #[test]
    fn extending_keeps_rows_and_their_weights() {
        let mut terms = Terms::build(["lost card", "lost cards"], 1000);
        let (ids, idf) = (terms.ids().to_vec(), terms.idf().to_vec());
        assert!(terms.extend(["stolen wallet", "the wallet", "a wallet"], 1000) > 0);
        assert_eq!(terms.ids()[..ids.len()], ids);
        assert_eq!(terms.idf()[..idf.len()], idf);
        let again = Terms::from_parts(terms.ids().to_vec(), terms.idf().to_vec()).unwrap();
        assert_eq!(again.weigh("lost wallet"), terms.weigh("lost wallet"));
        assert_eq!(terms.extend(["new ideas", "new idea"], ids.len()), 0);
        assert!(Terms::from_parts(vec![1, 1], vec![1.0, 1.0]).is_err());
    }

    #[test]
    fn a_long_text_is_cut() {
        let terms = Terms::build(["lost card", "lost cards"], 1000);
        let long = "lost ".repeat(100_000);
        assert!(visited(&long).1 < MAX_LENGTH * (MAX_CHARACTERS + 8));
        assert!(!terms.weigh(&long).is_empty());
        assert!(visited(&"x".repeat(100_000)).1 < MAX_LENGTH * (MAX_CHARACTERS + 8));
    }
}
