//! From the features of a text to the probabilities of the leaves.

use candle_core::{Result, Tensor};

use super::kernels::Linear;

/// The rows of the softmax, one a leaf.
#[derive(Debug, Clone)]
pub struct Head(Linear);

/// Probabilities of the leaves of some texts, row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct LeafProbabilities {
    leaves: usize,
    data: Vec<f32>,
}

impl Head {
    /// From a weight `[C, F]` and a bias `[C]`.
    pub fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        Ok(Self(Linear::new(weight.clone(), bias.clone())?))
    }

    /// Logits `[B, C]` of features `[B, F]`, on the caller's thread.
    pub fn logits(&self, features: &[f32]) -> Vec<f32> {
        self.0.map_here(features)
    }
}

impl LeafProbabilities {
    /// Zeros for so many texts and leaves, to be filled by [`LeafProbabilities::set`].
    pub(super) fn zeros(texts: usize, leaves: usize) -> Self {
        Self { leaves, data: vec![0.0; texts * leaves] }
    }

    /// Sets the probabilities of a text to the softmax of its logits.
    pub(super) fn set(&mut self, text: usize, logits: &[f32]) {
        let row = &mut self.data[text * self.leaves..][..self.leaves];
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut total = 0.0;
        for (p, z) in row.iter_mut().zip(logits) {
            let e = f64::from(z - max).exp();
            total += e;
            *p = e as f32;
        }
        row.iter_mut().for_each(|p| *p = (f64::from(*p) / total) as f32);
    }

    /// Texts.
    pub fn len(&self) -> usize {
        self.data.len() / self.leaves
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The probabilities of a text, in the order of the head's rows; they sum to 1.
    pub fn row(&self, text: usize) -> &[f32] {
        &self.data[text * self.leaves..][..self.leaves]
    }

    /// The probabilities of a range of the texts.
    pub fn slice(&self, texts: std::ops::Range<usize>) -> Self {
        let data = self.data[texts.start * self.leaves..texts.end * self.leaves].to_vec();
        Self { leaves: self.leaves, data }
    }

    /// Puts the texts of another behind these.
    ///
    /// # Panics
    /// If they are about another number of leaves.
    pub fn append(&mut self, other: Self) {
        assert_eq!(self.leaves, other.leaves, "the rows stand for the same leaves");
        self.data.extend(other.data);
    }

    /// All rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.data.chunks_exact(self.leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_is_exact_enough_and_safe_for_large_logits() {
        let mut probabilities = LeafProbabilities::zeros(2, 3);
        probabilities.set(1, &[1000.0, 1001.0, -1000.0]);
        assert_eq!(probabilities.row(0), [0.0; 3]);
        let row = probabilities.row(1);
        assert!((row[1] - 0.731_058_6).abs() < 1e-6 && row[2] == 0.0, "{row:?}");
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!((probabilities.len(), probabilities.iter().len()), (2, 2));
        assert_eq!(probabilities.slice(1..2).row(0), probabilities.row(1));
        assert!(probabilities.slice(1..1).is_empty());
        let mut joined = probabilities.slice(1..2);
        joined.append(probabilities.slice(0..1));
        assert_eq!((joined.row(0), joined.row(1)), (probabilities.row(1), probabilities.row(0)));
    }
}
