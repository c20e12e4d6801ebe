//! The rows of the words that a vocabulary holds, each with those of its n-grams, looked up once: most tokens are such a
//! word, and its n-grams need not be spelt out again.

use std::{collections::HashMap, ops::Range};

use super::{features::Features, tokenise::stands_alone, vocabulary::Vocabulary};

/// Rows by word.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    ranges: HashMap<String, Range<u32>>,
    rows: Vec<u32>,
}

impl Words {
    /// The words of a vocabulary that have n-grams; none where tokens are words alone.
    pub(super) fn of(vocabulary: &Vocabulary) -> Self {
        let mut words = Self::default();
        if !vocabulary.subwords() {
            return words;
        }
        let mut features = Features::default();
        for word in vocabulary.entries().iter().filter(|entry| is_word(entry)) {
            let start = words.rows.len() as u32;
            features.visit(None, word, true, |feature| words.rows.extend(vocabulary.row(feature)));
            words.ranges.insert(word.clone(), start..words.rows.len() as u32);
        }
        words
    }

    /// The rows of a word and its n-grams, in the order of its features.
    pub(super) fn rows(&self, word: &str) -> Option<&[u32]> {
        let range = self.ranges.get(word)?;
        Some(&self.rows[range.start as usize..range.end as usize])
    }
}

/// Whether an entry is a word whose features do not depend on the token before it: of two characters or more, and neither an
/// n-gram nor a bigram.
fn is_word(entry: &str) -> bool {
    let mut characters = entry.chars();
    characters.next().is_some_and(|first| first != '#' && !stands_alone(first))
        && characters.next().is_some()
        && !entry.contains(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_the_rows_of_its_features() {
        let vocabulary = Vocabulary::build(["my card 取款 7", "the card 取款 7", "cards"], true);
        let words = Words::of(&vocabulary);
        let mut expected = Vec::new();
        let features = &mut Features::default();
        features.visit(Some("my"), "card", true, |feature| expected.extend(vocabulary.row(feature)));
        assert!(expected.len() > 5);
        assert_eq!(words.rows("card"), Some(&*expected));
        for other in ["cards", "取", "取 款", "#<ca", "7", ""] {
            assert_eq!(words.rows(other), None, "{other}");
        }
        assert!(Words::of(&Vocabulary::build(["my card", "the card"], false)).ranges.is_empty());
    }
}
