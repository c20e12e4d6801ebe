//! A text as rows of the embedding.

use std::cell::RefCell;

use super::{
    features::Features,
    normalise,
    terms::{Terms, Weighing},
    vocabulary::{UNKNOWN_ROW, Vocabulary},
    words::Words,
};

/// A text as the network reads it: each token a bag of rows, and the whole a bag of weighted terms.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedText {
    /// Rows of all tokens, token after token.
    pub features: Vec<u32>,
    /// Where each token's rows begin in `features`, and the end: one more than there are tokens.
    pub offsets: Vec<u32>,
    /// Tokens, at least 1; each has at least one row.
    pub tokens: usize,
    /// Whether the text was longer than the network reads.
    pub truncated: bool,
    /// Rows of the wide branch and their weights, as [`Terms::weigh`] gives them.
    pub terms: Vec<(u32, f32)>,
}

impl EncodedText {
    /// Rows of one token.
    pub fn token(&self, index: usize) -> &[u32] {
        &self.features[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    /// A text, in normal form or not, as the wide branch alone reads it: without tokens.
    pub fn of_terms(text: &str, terms: &Terms) -> Self {
        let terms =
            BUFFERS.with_borrow_mut(|buffers| terms.weigh_with(&normalise(text), &mut buffers.weighing));
        Self { features: Vec::new(), offsets: vec![0], tokens: 0, truncated: false, terms }
    }
}

/// Turns texts into rows of one vocabulary and of one table of terms.
#[derive(Debug, Clone)]
pub struct TextEncoder {
    words: Words,
    vocabulary: Vocabulary,
    max_tokens: usize,
    terms: Terms,
}

/// What encoding uses again from text to text, so that a text is one allocation for each list that it is.
#[derive(Default)]
struct Buffers {
    weighing: Weighing,
    ngrams: Features,
    features: Vec<u32>,
    offsets: Vec<u32>,
}

thread_local! {
    /// Of a few hundred KiB at most, as texts are bounded.
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

impl TextEncoder {
    /// An encoder that reads so many tokens of a text, and these terms.
    pub fn new(vocabulary: Vocabulary, max_tokens: usize, terms: Terms) -> Self {
        Self { words: Words::of(&vocabulary), vocabulary, max_tokens, terms }
    }

    /// Encodes a text, in normal form or not.
    ///
    /// Features that the vocabulary does not hold are left out; a token that has no other, and a text without tokens,
    /// is the row of the unknown.
    pub fn encode(&self, text: &str) -> EncodedText {
        BUFFERS.with_borrow_mut(|buffers| self.encode_with(&normalise(text), buffers))
    }

    fn encode_with(&self, text: &str, buffers: &mut Buffers) -> EncodedText {
        let Buffers { weighing, ngrams, features, offsets } = buffers;
        features.clear();
        offsets.clear();
        offsets.push(0);
        let (mut before, mut truncated) = (None, false);
        for token in self.vocabulary.segmentation().tokens(text) {
            if offsets.len() > self.max_tokens {
                truncated = true;
                break;
            }
            match self.words.rows(token) {
                Some(rows) => features.extend_from_slice(rows),
                None => ngrams.visit(before, token, self.vocabulary.subwords(), |feature| {
                    features.extend(self.vocabulary.row(feature));
                }),
            }
            end_token(features, offsets);
            before = Some(token);
        }
        if before.is_none() {
            end_token(features, offsets);
        }
        EncodedText {
            features: features.clone(),
            tokens: offsets.len() - 1,
            offsets: offsets.clone(),
            truncated,
            terms: self.terms.weigh_with(text, weighing),
        }
    }
}

/// Ends a token whose rows are the last features; without any, its row is that of the unknown.
fn end_token(features: &mut Vec<u32>, offsets: &mut Vec<u32>) {
    if offsets.last().is_some_and(|&start| start as usize == features.len()) {
        features.push(UNKNOWN_ROW);
    }
    offsets.push(features.len() as u32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        Vocabulary::build(["my card", "my cards", "the card"], true)
    }

    fn encode(text: &str, vocabulary: &Vocabulary, max_tokens: usize) -> EncodedText {
        TextEncoder::new(vocabulary.clone(), max_tokens, Terms::default()).encode(text)
    }

    #[test]
    fn unknown_words_fall_back_to_ngrams_then_to_row_0() {
        let vocabulary = vocabulary();
        let text = encode("MY cardx zz", &vocabulary, 8);
        assert_eq!(text.tokens, 3);
        assert_eq!(text.token(0)[0], vocabulary.row("my").unwrap());
        assert!(text.token(1).contains(&vocabulary.row("#<card").unwrap()));
        assert!(!text.token(1).contains(&vocabulary.row("card").unwrap()));
        assert_eq!(text.token(2), [UNKNOWN_ROW]);
        assert!(!text.truncated);
    }

    #[test]
    fn long_texts_are_cut_and_say_so() {
        let vocabulary = vocabulary();
        let text = encode("my card my card", &vocabulary, 3);
        assert_eq!((text.tokens, text.truncated), (3, true));
        assert_eq!(text.features, encode("my card my", &vocabulary, 3).features);
        assert!(!encode("my card my", &vocabulary, 3).truncated);
    }

    #[test]
    fn a_blank_text_is_one_unknown_token() {
        let text = encode(" ", &vocabulary(), 3);
        assert_eq!((text.tokens, text.token(0)), (1, &[UNKNOWN_ROW][..]));
    }
}
