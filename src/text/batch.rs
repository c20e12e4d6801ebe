//! Texts of unequal length side by side without padding.
//!
//! The texts are sorted by falling length and their tokens laid out time-major: first the first token of every text, then
//! the second of those that have one, and so on. The texts that run at a step are then always the first ones, and
//! the state before is a prefix of rows.
//!
//! ```text
//! texts  a b c | d e | f     order   the text of each rank: a.., d.., f
//! packed a d f | b e | c     starts  0 3 5 6
//! ```

use std::sync::Arc;

use super::EncodedText;

/// Which text and step each packed row is: B texts, T steps, N tokens in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packing {
    /// Index, in the batch as given, of the text of each rank, longest first; `[B]`.
    pub order: Vec<usize>,
    /// Tokens of the text of each rank; `[B]`.
    pub lengths: Vec<usize>,
    /// First packed row of each step, then N; `[T + 1]`. Rank `r` at step `t` is row `starts[t] + r`.
    pub starts: Vec<usize>,
}

/// Bags of rows of an embedding, one a packed token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bags {
    /// Rows of all tokens, token after token.
    pub rows: Vec<u32>,
    /// Where each token's rows begin, and the end; `[N + 1]`.
    pub offsets: Vec<u32>,
}

/// A batch of texts as the network takes it.
#[derive(Debug, Clone)]
pub struct PackedBatch {
    /// Texts and steps.
    pub packing: Arc<Packing>,
    /// Features of the tokens.
    pub bags: Arc<Bags>,
}

impl Packing {
    /// Packs texts of these lengths, each at least 1. Texts of equal length keep their order.
    pub fn new(lengths: &[usize]) -> Self {
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&text| std::cmp::Reverse(lengths[text]));
        let lengths: Vec<usize> = order.iter().map(|&text| lengths[text]).collect();
        let steps = lengths.first().copied().unwrap_or(0);
        let mut starts = Vec::with_capacity(steps + 1);
        starts.push(0);
        for (step, start) in (0..steps).zip(0..) {
            let running = lengths.partition_point(|&length| length > step);
            starts.push(starts[start] + running);
        }
        Self { order, lengths, starts }
    }

    /// B.
    pub fn texts(&self) -> usize {
        self.order.len()
    }

    /// T.
    pub fn steps(&self) -> usize {
        self.starts.len() - 1
    }

    /// N.
    pub fn tokens(&self) -> usize {
        self.starts[self.steps()]
    }

    /// Texts that have a token at a step; never grows from one step to the next.
    pub fn running(&self, step: usize) -> usize {
        self.starts[step + 1] - self.starts[step]
    }
}

impl Bags {
    /// The rows of a token.
    pub fn bag(&self, token: usize) -> &[u32] {
        &self.rows[self.offsets[token] as usize..self.offsets[token + 1] as usize]
    }
}

impl PackedBatch {
    /// Packs texts.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a EncodedText>) -> Self {
        let texts: Vec<&EncodedText> = texts.into_iter().collect();
        let packing = Packing::new(&texts.iter().map(|text| text.tokens).collect::<Vec<_>>());
        let mut rows = Vec::with_capacity(texts.iter().map(|text| text.features.len()).sum());
        let mut offsets = Vec::with_capacity(packing.tokens() + 1);
        offsets.push(0);
        for step in 0..packing.steps() {
            for &text in &packing.order[..packing.running(step)] {
                rows.extend_from_slice(texts[text].token(step));
                offsets.push(rows.len() as u32);
            }
        }
        Self { packing: Arc::new(packing), bags: Arc::new(Bags { rows, offsets }) }
    }

    /// The distinct rows that the batch touches, ascending, and the same batch with every row replaced by its
    /// position among them. Gradients and optimiser state then need these rows only.
    pub fn compact(self) -> (Vec<u32>, Self) {
        let mut touched = self.bags.rows.clone();
        touched.sort_unstable();
        touched.dedup();
        let rows = self
            .bags
            .rows
            .iter()
            .map(|row| touched.binary_search(row).expect("every row is among those touched") as u32)
            .collect();
        let bags = Bags { rows, offsets: self.bags.offsets.clone() };
        (touched, Self { packing: self.packing, bags: Arc::new(bags) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tokens: &[&[u32]]) -> EncodedText {
        let mut offsets = vec![0];
        offsets.extend(tokens.iter().scan(0, |end, token| {
            *end += token.len() as u32;
            Some(*end)
        }));
        EncodedText {
            features: tokens.concat(),
            offsets,
            tokens: tokens.len(),
            truncated: false,
            terms: Vec::new(),
        }
    }

    #[test]
    fn tokens_lie_step_after_step_longest_text_first() {
        let texts = [text(&[&[7]]), text(&[&[1, 2], &[3], &[9]]), text(&[&[4], &[5, 7]])];
        let batch = PackedBatch::new(&texts);
        assert_eq!(batch.packing.order, [1, 2, 0]);
        assert_eq!(batch.packing.lengths, [3, 2, 1]);
        assert_eq!(batch.packing.starts, [0, 3, 5, 6]);
        assert_eq!(batch.bags.rows, [1, 2, 4, 7, 3, 5, 7, 9]);
        assert_eq!(batch.bags.offsets, [0, 2, 3, 4, 5, 7, 8]);
    }

    #[test]
    fn compacting_only_renames_rows() {
        let texts = [text(&[&[70, 3], &[900]]), text(&[&[3]])];
        let before = PackedBatch::new(&texts);
        let (touched, after) = before.clone().compact();
        assert_eq!(touched, [3, 70, 900]);
        let back: Vec<u32> = after.bags.rows.iter().map(|&row| touched[row as usize]).collect();
        assert_eq!(back, before.bags.rows);
        assert_eq!(after.bags.offsets, before.bags.offsets);
    }

    #[test]
    fn an_empty_batch_is_empty() {
        let batch = PackedBatch::new([]);
        assert_eq!((batch.packing.texts(), batch.packing.steps(), batch.packing.tokens()), (0, 0, 0));
    }
}
