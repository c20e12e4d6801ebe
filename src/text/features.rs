//! What a token says: its word, and with subwords also its character n-grams and its bigram.
//!
//! A token is the mean of the embeddings of its features, so that a word never seen still says something through its
//! n-grams (Bojanowski et al. 2017, "Enriching word vectors with subword information"). Features are told apart by how
//! they are written, in one vocabulary:
//!
//! ```text
//! word     card                     the token itself
//! n-gram   #<ca  #car  ...  #ard>   3 to 5 characters of <card>; a token of one character has none
//! bigram   取 款                    the token before and this one, where this one is an ideograph or kana
//! ```
//!
//! An ideograph says little alone, and the bigram brings two points of accuracy on Chinese titles; on English questions
//! bigrams of words bring nothing, so there are none.

use super::tokenise::stands_alone;

/// Characters of a token that n-grams are taken from; no word of any language comes near.
const MAX_NGRAM_CHARACTERS: usize = 48;

const NGRAM_LENGTHS: std::ops::RangeInclusive<usize> = 3..=5;

/// Makes the features of tokens, reusing its buffers.
#[derive(Debug, Default)]
pub(super) struct Features {
    feature: String,
    bounded: String,
    bounds: Vec<usize>,
}

impl Features {
    /// Visits the features of a token: the word first, then with `subwords` its n-grams and its bigram.
    pub(super) fn visit(
        &mut self,
        before: Option<&str>,
        token: &str,
        subwords: bool,
        mut visit: impl FnMut(&str),
    ) {
        visit(token);
        let mut characters = token.chars();
        let (Some(first), second) = (characters.next(), characters.next()) else { return };
        if !subwords {
            return;
        }
        if second.is_some() {
            self.visit_ngrams(token, &mut visit);
        }
        if let Some(before) = before.filter(|_| stands_alone(first)) {
            self.feature.clear();
            self.feature.extend([before, " ", token]);
            visit(&self.feature);
        }
    }

    fn visit_ngrams(&mut self, token: &str, visit: &mut impl FnMut(&str)) {
        self.bounded.clear();
        self.bounded.push('<');
        self.bounded.extend(token.chars().take(MAX_NGRAM_CHARACTERS));
        self.bounded.push('>');
        self.bounds.clear();
        self.bounds.extend(self.bounded.char_indices().map(|(at, _)| at));
        self.bounds.push(self.bounded.len());
        for length in NGRAM_LENGTHS {
            for ends in self.bounds.windows(length + 1) {
                self.feature.clear();
                self.feature.push('#');
                self.feature.push_str(&self.bounded[ends[0]..ends[length]]);
                visit(&self.feature);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(before: Option<&str>, token: &str, subwords: bool) -> Vec<String> {
        let mut seen = Vec::new();
        Features::default().visit(before, token, subwords, |feature| seen.push(feature.to_owned()));
        seen
    }

    #[test]
    fn a_word_brings_its_ngrams() {
        assert_eq!(
            features(Some("my"), "card", true),
            ["card", "#<ca", "#car", "#ard", "#rd>", "#<car", "#card", "#ard>", "#<card", "#card>"]
        );
        assert_eq!(features(Some("my"), "card", false), ["card"]);
    }

    #[test]
    fn an_ideograph_brings_its_bigram() {
        assert_eq!(features(Some("取"), "款", true), ["款", "取 款"]);
        assert_eq!(features(None, "取", true), ["取"]);
        assert_eq!(features(Some("card"), "?", true), ["?"]);
    }

    #[test]
    fn a_monstrous_word_is_cut() {
        assert!(features(None, &"x".repeat(60_000), true).len() < 3 * 52);
    }
}
