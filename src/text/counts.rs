//! In how many texts each term is.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::terms::Part;

/// Texts that must hold a term of letters. What occurs once is noise there, while few names written in ideographs
/// occur twice.
const MIN_TEXTS: u32 = 2;

/// Texts that must hold a pair: there are many more of them than words.
pub(super) const MIN_PAIR_TEXTS: u32 = 12;
/// Pairs that are counted at a time; where there are more, the rarest are forgotten.
pub(super) const MAX_COUNTED_PAIRS: usize = 1 << 22;

/// Hashes a hash: the ids are mixed already.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Identity(u64);

/// Texts that hold each term.
///
/// Of pairs there are nearly as many as texts have room for, so the rarest ones are forgotten on the way ("lossy counting", Manku
/// and Motwani 2002): one that is counted from anew is counted too low by at most the floor.
#[derive(Debug, Default)]
pub(super) struct Counts {
    terms: HashMap<u64, Count, BuildHasherDefault<Identity>>,
    pairs: usize,
    /// Pairs in so many texts were forgotten.
    floor: u32,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    texts: u32,
    /// Number of the last text that held it.
    last: u32,
    /// Texts that must hold it.
    least: u32,
    part: Part,
}

impl Counts {
    /// Counts a term of the text of a number.
    pub(super) fn add(&mut self, part: Part, id: u64, ideographic: bool, number: u32) {
        let count = self.terms.entry(id).or_insert_with(|| {
            self.pairs += usize::from(part == Part::Pairs);
            Count { texts: 0, last: 0, least: part.least(ideographic), part }
        });
        if count.last != number {
            (count.texts, count.last) = (count.texts + 1, number);
        }
    }

    /// Forgets the rarest pairs where there are more than `most`, until there are half as many.
    pub(super) fn shed(&mut self, most: usize) {
        if self.pairs <= most {
            return;
        }
        while self.pairs > most / 2 {
            self.floor += 1;
            self.terms.retain(|_, count| {
                let keep = count.part != Part::Pairs || count.texts > self.floor;
                self.pairs -= usize::from(!keep);
                keep
            });
        }
    }

    /// The terms that enough texts hold, each with their number, in no order.
    pub(super) fn frequent(self) -> Vec<(u32, u64)> {
        let enough = self.terms.into_iter().filter(|(_, count)| count.texts >= count.least);
        enough.map(|(id, count)| (count.texts, id)).collect()
    }
}

impl Part {
    /// Texts that must hold a term of it.
    fn least(self, ideographic: bool) -> u32 {
        match self {
            Self::Pairs => MIN_PAIR_TEXTS,
            _ if ideographic => 1,
            _ => MIN_TEXTS,
        }
    }
}

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_pairs_are_forgotten_where_there_are_too_many() {
        let mut counts = Counts::default();
        for number in 1..=100 {
            counts.add(Part::Words, 7, false, number);
            counts.add(Part::Pairs, 8, false, number);
            counts.add(Part::Pairs, 1000 + u64::from(number), false, number);
            counts.shed(10);
        }
        assert!(counts.pairs <= 10 && counts.terms.len() == counts.pairs + 1);
        assert_eq!((counts.terms[&7].texts, counts.terms[&8].texts), (100, 100));
        assert!(counts.floor > 0);
    }
}
