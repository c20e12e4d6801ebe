//! The wide branch of a network: a weight for each term and leaf, beside the encoder (Cheng et al. 2016, "Wide & deep
//! learning").
//!
//! ```text
//! wide logits   u[C] = x W + b       x [U] weights of the text's terms, W [U, C], b [C]
//! logits        z = s0 d + s1 u      d [C] the logits of the deep branch
//! ```
//!
//! It knows names and phrases by heart that an LSTM has seen too seldom to learn, the LSTM knows order and words never
//! seen; together they are better than either. Each branch is fitted apart; the scales s are fitted on validation
//! examples and so are the temperature of the softmax as well.

use std::collections::BTreeMap;

use super::{
    Array,
    checkpoint::{WIDE_BIAS, WIDE_WEIGHT},
    kernels::add_rows,
};
use crate::text::MAX_TERMS;

/// Most bytes of a table of weights. With more leaves fewer terms have a place.
const MAX_WIDE_BYTES: usize = 64 * 1024 * 1024;

/// Scales of the deep and of the wide logits where there was nothing to fit them on: between those of English questions
/// (0.85, 0.6) and of Chinese titles (0.45, 1.1).
pub const DEFAULT_SCALES: [f32; 2] = [0.7, 0.8];

/// The wide branch, sharing the arrays of its checkpoint.
#[derive(Debug, Clone)]
pub struct Wide {
    weight: Array,
    bias: Array,
}

impl Wide {
    /// The wide branch of a valid checkpoint's tensors; none if it has none.
    pub fn new(tensors: &BTreeMap<String, Array>) -> Option<Self> {
        let tensor = |name| tensors.get(name).cloned();
        Some(Self { weight: tensor(WIDE_WEIGHT)?, bias: tensor(WIDE_BIAS)? })
    }

    /// The most terms for so many leaves.
    pub fn term_limit(leaves: usize) -> usize {
        MAX_TERMS.min(MAX_WIDE_BYTES / size_of::<f32>() / leaves.max(1))
    }

    /// Sets the wide logits of a text, `[C]`.
    pub fn logits(&self, terms: &[(u32, f32)], logits: &mut [f32]) {
        logits.copy_from_slice(&self.bias.data);
        add_rows(terms, &self.weight.data, logits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_are_bias_and_weighted_rows() {
        let tensors = BTreeMap::from([
            (WIDE_WEIGHT.to_owned(), Array::new([2, 3], vec![1.0, 2.0, 3.0, 10.0, 20.0, 30.0])),
            (WIDE_BIAS.to_owned(), Array::new([3], vec![0.5, 0.0, -0.5])),
        ]);
        let wide = Wide::new(&tensors).unwrap();
        let mut logits = [9.0; 3];
        wide.logits(&[(1, 0.5), (0, 1.0)], &mut logits);
        assert_eq!(logits, [6.5, 12.0, 17.5]);
        assert!(Wide::new(&BTreeMap::new()).is_none());
    }

    #[test]
    fn the_table_stays_within_its_bytes() {
        assert_eq!(Wide::term_limit(2), MAX_TERMS);
        assert!(Wide::term_limit(1000) * 1000 * 4 <= MAX_WIDE_BYTES);
        assert!(Wide::term_limit(1000) > 16_000);
    }
}
