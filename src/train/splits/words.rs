//! The words that tell one set of texts from another.
//!
//! ```text
//! log odds   ln (a + 1/2) / (A - a + 1/2) - ln (b + 1/2) / (B - b + 1/2)
//! ```
//!
//! a of A texts of the one set hold the word, b of B of the other. Divided by its standard error, so that a word that is
//! seen once says little (Monroe et al. 2008, "Fightin' words").

use std::collections::{BTreeMap, BTreeSet};

use crate::text::{Segmentation, normalise};

/// Words of a set at most.
const WORDS: usize = 8;
/// Standard errors that a word must be above none.
const MIN_ERRORS: f64 = 2.0;
/// Bytes of a word at most: what is longer names nothing.
const MAX_BYTES: usize = 64;

/// The words of each set that tell it from the other, the most telling first.
pub(super) fn telling(sets: [&[&str]; 2]) -> [Vec<String>; 2] {
    let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for (side, texts) in sets.iter().enumerate() {
        for text in *texts {
            let text = normalise(text);
            let words: BTreeSet<&str> = Segmentation::Words
                .tokens(&text)
                .filter(|word| word.len() <= MAX_BYTES && word.chars().any(char::is_alphanumeric))
                .collect();
            for word in words {
                match counts.get_mut(word) {
                    Some(counts) => counts[side] += 1,
                    None => {
                        let mut first = [0; 2];
                        first[side] = 1;
                        counts.insert(word.to_owned(), first);
                    }
                }
            }
        }
    }
    let totals = sets.map(<[&str]>::len);
    let mut scored: Vec<(f64, &String)> =
        counts.iter().map(|(word, count)| (errors(*count, totals), word)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let first = scored.iter().take_while(|(errors, _)| *errors >= MIN_ERRORS);
    let second = scored.iter().rev().take_while(|(errors, _)| *errors <= -MIN_ERRORS);
    let words = |scored: &mut dyn Iterator<Item = &(f64, &String)>| {
        scored.take(WORDS).map(|(_, word)| (*word).clone()).collect()
    };
    [words(&mut first.into_iter()), words(&mut second.into_iter())]
}

/// The log odds of a word, in standard errors.
fn errors(counts: [usize; 2], totals: [usize; 2]) -> f64 {
    let (mut odds, mut variance) = ([0.0; 2], 0.0);
    for side in 0..2 {
        let with = counts[side] as f64 + 0.5;
        let without = (totals[side] - counts[side]) as f64 + 0.5;
        odds[side] = (with / without).ln();
        variance += 1.0 / with + 1.0 / without;
    }
    (odds[0] - odds[1]) / variance.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_one_side_tell_and_those_of_both_do_not() {
        let one: Vec<String> = (0..20).map(|n| format!("My card is lost, no {n}")).collect();
        let other: Vec<String> = (0..20).map(|n| format!("my 汇率 today, no {n}")).collect();
        let [one, other] = [&one, &other].map(|texts| texts.iter().map(String::as_str).collect::<Vec<_>>());
        let [first, second] = telling([&one, &other]);
        assert_eq!(first, ["card", "is", "lost"]);
        assert_eq!(second, ["汇率", "today"]);
        assert_eq!(telling([&one, &one]), [vec![], Vec::<String>::new()]);
        assert_eq!(telling([&[], &[]]), [vec![], Vec::<String>::new()]);
    }
}
