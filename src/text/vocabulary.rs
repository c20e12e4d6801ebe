//! The features a network knows, each with its row of the embedding.
//!
//! A feature must be seen twice: what occurs once cannot be told from noise, and leaving it out teaches the network to
//! read words it does not know, by their n-grams or by row 0.

use std::collections::{HashMap, HashSet};

use super::{Segmentation, features::Features, normalise};
use crate::error::{Error, Result};

/// Most rows of a vocabulary: the most frequent features stay.
pub const MAX_VOCABULARY: usize = 1 << 16;

/// The row of everything unknown, and its entry, which no feature can equal.
pub(super) const UNKNOWN_ROW: u32 = 0;
const UNKNOWN_ENTRY: &str = "";

const MIN_COUNT: u32 = 2;

/// Features by row.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    entries: Vec<String>,
    rows: HashMap<String, u32>,
    subwords: bool,
    segmentation: Segmentation,
}

impl Vocabulary {
    /// The features that occur at least twice in the texts, most frequent first, equally frequent ones in the order of
    /// their characters.
    pub fn build<'a>(texts: impl IntoIterator<Item = &'a str>, subwords: bool) -> Self {
        let mut vocabulary = Self::new(subwords, Segmentation::Characters);
        vocabulary.extend(texts);
        vocabulary
    }

    /// A vocabulary of nothing but the unknown.
    pub fn new(subwords: bool, segmentation: Segmentation) -> Self {
        Self {
            entries: vec![UNKNOWN_ENTRY.to_owned()],
            rows: HashMap::from([(UNKNOWN_ENTRY.to_owned(), UNKNOWN_ROW)]),
            subwords,
            segmentation,
        }
    }

    /// The same vocabulary over texts that are cut in another way.
    #[must_use]
    pub fn segmented(self, segmentation: Segmentation) -> Self {
        Self { segmentation, ..self }
    }

    /// A vocabulary from its entries, as [`Vocabulary::entries`] gave them.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the first entry is not that of the unknown, one occurs twice, or there are too many.
    pub fn from_entries(entries: Vec<String>, subwords: bool) -> Result<Self> {
        let damaged = |detail: String| Error::Corrupt {
            what: "vocabulary".into(),
            detail,
            remedy: "restore a backup, or train the model again",
        };
        if entries.first().is_none_or(|first| first != UNKNOWN_ENTRY) {
            return Err(damaged("row 0 is not that of the unknown".into()));
        }
        if entries.len() > MAX_VOCABULARY {
            return Err(damaged(format!("{} rows are more than {MAX_VOCABULARY}", entries.len())));
        }
        let rows: HashMap<_, _> = entries.iter().cloned().zip(0..).collect();
        if rows.len() != entries.len() {
            return Err(damaged("a feature has two rows".into()));
        }
        Ok(Self { entries, rows, subwords, segmentation: Segmentation::Characters })
    }

    /// Appends the features that the texts bring and that are not here yet, by the same rule; old rows stay where they
    /// are. Returns how many came.
    pub fn extend<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) -> usize {
        let mut counts: HashMap<String, u32> = HashMap::new();
        let mut features = Features::default();
        // A text that is there many times says its words once.
        let mut seen = HashSet::new();
        for text in texts {
            let text = normalise(text);
            if seen.contains(&text) {
                continue;
            }
            let mut before = None;
            for token in self.segmentation.tokens(&text) {
                features.visit(before, token, self.subwords, |feature| {
                    if self.rows.contains_key(feature) {
                        return;
                    }
                    match counts.get_mut(feature) {
                        Some(count) => *count = count.saturating_add(1),
                        None => {
                            counts.insert(feature.to_owned(), 1);
                        }
                    }
                });
                before = Some(token);
            }
            seen.insert(text);
        }
        let mut new: Vec<(u32, String)> = counts
            .into_iter()
            .filter(|(_, count)| *count >= MIN_COUNT)
            .map(|(feature, count)| (count, feature))
            .collect();
        new.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        new.truncate(MAX_VOCABULARY - self.entries.len());
        for (row, (_, feature)) in (self.entries.len() as u32..).zip(&new) {
            self.rows.insert(feature.clone(), row);
        }
        let count = new.len();
        self.entries.extend(new.into_iter().map(|(_, feature)| feature));
        count
    }

    /// The feature of each row.
    pub fn entries(&self) -> &[String] {
        &self.entries
    }

    /// Rows, the unknown's included; at least 1.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether a token is more than its word.
    pub fn subwords(&self) -> bool {
        self.subwords
    }

    /// How texts are cut into tokens.
    pub fn segmentation(&self) -> Segmentation {
        self.segmentation
    }

    pub(super) fn row(&self, feature: &str) -> Option<u32> {
        self.rows.get(feature).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_by_count_then_by_feature() {
        let vocabulary = Vocabulary::build(["b a b", "a b", "c"], false);
        assert_eq!(vocabulary.entries(), ["", "b", "a"]);
        let other = Vocabulary::build(["c", "a b", "b a b"], false);
        assert_eq!(other.entries(), vocabulary.entries());
    }

    #[test]
    fn a_repeated_text_counts_once() {
        assert_eq!(Vocabulary::build(["Card", "card", "CARD "], false).entries(), [""]);
    }

    #[test]
    fn extending_keeps_old_rows() {
        let mut vocabulary = Vocabulary::build(["a b", "a b!"], false);
        let before = vocabulary.entries().to_vec();
        assert_eq!(vocabulary.extend(["c a", "c d", "d a c"]), 2);
        assert_eq!(vocabulary.entries()[..before.len()], before);
        assert_eq!(vocabulary.entries()[before.len()..], ["c", "d"]);
    }

    #[test]
    fn entries_make_the_same_vocabulary_and_damage_shows() {
        let vocabulary = Vocabulary::build(["取款两万", "取款一万"], true);
        let again = Vocabulary::from_entries(vocabulary.entries().to_vec(), true).unwrap();
        assert_eq!(again.row("取 款"), vocabulary.row("取 款"));
        assert!(vocabulary.row("取 款").is_some());
        for bad in [vec![], vec!["a"], vec!["", "a", "a"]] {
            let bad = bad.into_iter().map(str::to_owned).collect();
            assert!(Vocabulary::from_entries(bad, true).is_err());
        }
    }
}
