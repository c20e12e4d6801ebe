//! The data set of the demo: what customers of a bank write, in Chinese, English and a mixture of both.
//!
//! The texts come from the grammar in `intents.toml`, with chatter around them and slips in them, drawn by a seeded
//! generator, so that the same seed gives the same texts everywhere. No text is in both parts, whatever its spelling of
//! case, spaces and punctuation.

use std::collections::HashSet;

use rand::{
    Rng, RngExt as _, SeedableRng as _,
    seq::{IndexedRandom as _, SliceRandom as _},
};
use rand_chacha::ChaCha8Rng;

use super::{
    grammar::{Grammar, Intent},
    slips::slip,
};

/// Texts to train on.
const TRAIN: usize = 4000;
/// Texts held out.
const TEST: usize = 1200;
/// Share of the texts of an intent that fit a neighbour as well, if it has one.
const AMBIGUOUS: f64 = 0.10;
/// Share of texts with a slip; a fifth of them has two.
const SLIPS: f64 = 0.20;

/// Labelled texts: `(text, label)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Texts to train on.
    pub train: Vec<(String, String)>,
    /// Texts held out, from the same grammar and none of them in `train`.
    pub test: Vec<(String, String)>,
}

/// The two classes that the demo merges.
pub const WITHDRAWALS: [&str; 2] = ["取款两万以下", "取款两万以上"];
/// What it merges them into.
pub const MERGED: &str = "取款";

/// Makes the data set: 4,000 texts to train on and 1,200 held out, of 27 intents.
///
/// ```
/// let data = taxond::cli::demo::dataset(7);
/// assert_eq!(data, taxond::cli::demo::dataset(7));
/// assert_eq!((data.train.len(), data.test.len()), (4000, 1200));
/// ```
pub fn dataset(seed: u64) -> Dataset {
    let grammar = Grammar::parse(include_str!("intents.toml")).expect("the grammar in the binary is tested");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let wanted = quotas(&grammar.intents, TRAIN + TEST);
    let mut texts: Vec<Vec<String>> = vec![Vec::new(); grammar.intents.len()];
    let mut seen = HashSet::new();
    // In turn, so that a text which several intents can make falls to each of them now and then.
    while texts.iter().zip(&wanted).any(|(texts, &wanted)| texts.len() < wanted) {
        for (index, intent) in grammar.intents.iter().enumerate() {
            if texts[index].len() < wanted[index] {
                let text = utter(&grammar, intent, &mut rng);
                if seen.insert(key(&text)) {
                    texts[index].push(text);
                }
            }
        }
    }

    let shares = quotas(&grammar.intents, TEST);
    let mut data = Dataset { train: Vec::with_capacity(TRAIN), test: Vec::with_capacity(TEST) };
    for ((intent, texts), held_out) in grammar.intents.iter().zip(texts).zip(shares) {
        let mut labelled: Vec<_> = texts.into_iter().map(|text| (text, intent.name.clone())).collect();
        data.test.extend(labelled.drain(..held_out));
        data.train.extend(labelled);
    }
    data.train.shuffle(&mut rng);
    data.test.shuffle(&mut rng);
    data
}

/// The same data with the two withdrawals as one class.
pub fn merged(examples: &[(String, String)]) -> Vec<(String, String)> {
    let rename = |label: &String| {
        if WITHDRAWALS.contains(&label.as_str()) { MERGED.to_owned() } else { label.clone() }
    };
    examples.iter().map(|(text, label)| (text.clone(), rename(label))).collect()
}

/// Divides `total` among the intents by their weights; the sum is exact.
fn quotas(intents: &[Intent], total: usize) -> Vec<usize> {
    let whole: f64 = intents.iter().map(|intent| intent.weight).sum();
    let (mut reached, mut given) = (0.0, 0);
    let mut quotas = Vec::with_capacity(intents.len());
    for intent in intents {
        reached += intent.weight;
        let until = (total as f64 * reached / whole).round() as usize;
        quotas.push(until - given);
        given = until;
    }
    quotas
}

/// One text as a customer may write it.
fn utter(grammar: &Grammar, intent: &Intent, rng: &mut impl Rng) -> String {
    let ambiguous = !intent.shared.is_empty() && rng.random_bool(AMBIGUOUS);
    let phrases = if ambiguous { &intent.shared } else { &intent.own };
    let mut text = phrases.choose(rng).map(|phrase| grammar.expand(phrase, rng)).unwrap_or_default();

    let chinese = text.chars().any(is_chinese);
    let language = if chinese { "zh" } else { "en" };
    let join = |before: &str, after: &str| {
        if chinese { format!("{before}{after}") } else { format!("{before} {after}") }
    };
    if rng.random_bool(0.12) {
        text = join(&grammar.line(&format!("asides_{language}"), rng), &text);
    }
    if rng.random_bool(0.25) {
        text = join(&grammar.line(&format!("openers_{language}"), rng), &text);
    }
    if rng.random_bool(0.25) {
        let closer = grammar.line(&format!("closers_{language}"), rng);
        let attached = chinese || closer.starts_with(|c: char| c.is_ascii_punctuation());
        text = if attached { format!("{text}{closer}") } else { format!("{text} {closer}") };
    }
    if rng.random_bool(SLIPS) {
        text = slip(&text, rng);
        if rng.random_bool(0.2) {
            text = slip(&text, rng);
        }
    }
    if !chinese && rng.random_bool(0.3) {
        text = text.to_lowercase();
    }
    // A slip may have taken the first or the last letter beside a space.
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What two texts share if they differ in case, spaces and punctuation only.
fn key(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn is_chinese(c: char) -> bool {
    ('\u{4e00}'..='\u{9fff}').contains(&c)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_parts_share_no_text_and_cover_every_intent() {
        let data = dataset(1);
        assert_eq!((data.train.len(), data.test.len()), (TRAIN, TEST));
        let train: HashSet<_> = data.train.iter().map(|(text, _)| key(text)).collect();
        assert_eq!(train.len(), TRAIN);
        assert!(data.test.iter().all(|(text, _)| !train.contains(&key(text))));

        let mut counts = BTreeMap::<&str, [usize; 2]>::new();
        for (_, label) in &data.train {
            counts.entry(label).or_default()[0] += 1;
        }
        for (_, label) in &data.test {
            counts.entry(label).or_default()[1] += 1;
        }
        assert!(counts.len() >= 20, "{counts:?}");
        assert!(counts.values().all(|[train, test]| *train >= 100 && *test >= 30), "{counts:?}");
        assert!(WITHDRAWALS.iter().all(|name| counts.contains_key(name)));
    }

    #[test]
    fn seeds_decide() {
        assert_eq!(dataset(1), dataset(1));
        assert_ne!(dataset(1).train, dataset(2).train);
    }

    #[test]
    fn both_languages_occur_in_every_intent() {
        let data = dataset(1);
        let mut languages = BTreeMap::<&str, [usize; 2]>::new();
        for (text, label) in &data.train {
            languages.entry(label).or_default()[usize::from(text.chars().any(is_chinese))] += 1;
        }
        assert!(languages.values().all(|counts| counts.iter().all(|&count| count >= 30)), "{languages:?}");
    }

    #[test]
    fn merging_renames_the_withdrawals_only() {
        let data = dataset(1);
        for ((text, label), (same, new)) in data.test.iter().zip(merged(&data.test)) {
            assert_eq!(*text, same);
            assert_eq!(new, if WITHDRAWALS.contains(&label.as_str()) { MERGED } else { label.as_str() });
        }
    }

    #[test]
    fn texts_are_tidy() {
        let data = dataset(1);
        for (text, _) in data.train.iter().chain(&data.test) {
            assert!(!text.trim().is_empty() && text.trim() == text, "{text:?}");
            assert!(!text.contains(['[', ']', '{', '}', '|', '\n']) && !text.contains("  "), "{text:?}");
        }
    }
}
