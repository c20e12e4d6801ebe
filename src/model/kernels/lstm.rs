//! Long short-term memory over packed texts, in one or two directions, with back-propagation through time.
//!
//! ```text
//! a[t] = W_ih x[t] + b + W_hh h[t-1]                 gates i, f, g, o, [4H]
//! i, f, o = sigmoid(a)     g = tanh(a)
//! c[t] = f c[t-1] + i g    h[t] = o tanh(c[t])
//! ```
//!
//! In the packed order the texts that run at a step are the first ones, so the state before is a prefix of rows, and no
//! step is spent on padding. The products with the tokens, and the gradients of the weights, are products over all steps.
//! What is sequential is in [`recurrence`](super::recurrence).
//!
//! Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000. Gate order and results are those of PyTorch.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    buffer::Buffer,
    panels::Panels,
    product::{columns_product, copy_row, pays},
    recurrence::{
        self, BackwardWeights, ForwardWeights, GateRows, Gradients, Shard, Trace, column, gate_sums,
    },
};
use crate::text::Packing;

/// Which ways the texts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directions {
    /// From the first token to the last.
    Forward,
    /// From the last token to the first.
    Backward,
    /// Both, by two sets of weights; their states stand side by side.
    Both,
}

/// Weights of an LSTM, or their gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LstmWeights<T> {
    /// W_ih, `[D, 4H, E]`.
    pub input: T,
    /// W_hh, `[D, 4H, H]`.
    pub recurrent: T,
    /// b, `[D, 4H]`.
    pub bias: T,
}

/// An LSTM with its weights ready for many steps, both ways.
#[derive(Debug)]
pub struct Lstm {
    /// Of each direction.
    forward: Vec<ForwardWeights>,
    backward: Vec<BackwardWeights>,
    directions: Directions,
    hidden: usize,
    embedding: usize,
}

/// What the way back through an [`Lstm`] needs of the way forwards.
#[derive(Debug)]
pub struct LstmTrace {
    shards: Vec<Shard>,
    /// The tokens of each shard, `[n, E]`.
    tokens: Vec<Panels>,
    /// For each direction, for each shard.
    activations: Vec<Trace>,
}

impl LstmWeights<&[f32]> {
    /// The rows of one direction's weights.
    fn rows(&self, direction: usize, hidden: usize, embedding: usize) -> [GateRows<'_>; 3] {
        [(self.input, embedding), (self.recurrent, hidden), (self.bias, 1)].map(|(weight, width)| {
            let size = 4 * hidden * width;
            GateRows { weight: &weight[direction * size..][..size], hidden, width }
        })
    }

    /// H.
    pub(super) fn hidden(&self, directions: Directions) -> usize {
        self.bias.len() / (4 * directions.count())
    }

    /// The weights of each direction, made ready by `pack`.
    ///
    /// # Panics
    /// If they do not fit one another.
    pub(super) fn packed<T: Send>(
        &self,
        directions: Directions,
        embedding: usize,
        pack: impl Fn([GateRows<'_>; 3]) -> T + Sync,
    ) -> Vec<T> {
        let hidden = self.hidden(directions);
        let gates = directions.count() * 4 * hidden;
        assert_eq!(
            [self.input.len(), self.recurrent.len(), self.bias.len()],
            [gates * embedding, gates * hidden, gates],
            "the weights fit one another"
        );
        let pack = |direction| pack(self.rows(direction, hidden, embedding));
        (0..directions.count()).into_par_iter().map(pack).collect()
    }
}

impl Lstm {
    /// From weights for tokens of E numbers.
    ///
    /// # Panics
    /// If the weights do not fit one another and the directions.
    pub fn new(weights: LstmWeights<&[f32]>, directions: Directions, embedding: usize) -> Self {
        let (forward, backward) = rayon::join(
            || weights.packed(directions, embedding, ForwardWeights::new),
            || weights.packed(directions, embedding, BackwardWeights::new),
        );
        Self { forward, backward, directions, hidden: weights.hidden(directions), embedding }
    }

    /// D*H.
    pub fn states(&self) -> usize {
        self.directions.count() * self.hidden
    }

    /// The states `[N, D*H]` of packed tokens `[N, E]`, and what the way back needs.
    ///
    /// # Panics
    /// If the tokens are not as many as the batch holds.
    pub fn forward(&self, tokens: &[f32], packing: &Packing) -> (Buffer, LstmTrace) {
        assert_eq!(tokens.len(), packing.tokens() * self.embedding, "the tokens fit the batch");
        let shards = Shard::of(packing);
        let tokens: Vec<Panels> =
            shards.iter().map(|shard| gather(shard, tokens, self.embedding, 0..self.embedding)).collect();
        let activations = self.each(&shards, |direction, shard| {
            let reversed = self.directions.reversed()[direction];
            recurrence::forward(&shards[shard], reversed, &self.forward[direction], &tokens[shard])
        });
        let mut states = Buffer::stale(packing.tokens() * self.states());
        for (direction, traces) in activations.chunks(shards.len().max(1)).enumerate() {
            for (shard, trace) in shards.iter().zip(traces) {
                for (at, row) in shard.rows.iter().enumerate() {
                    let to = row * self.states() + direction * self.hidden;
                    trace.states.copy_row(at, &mut states[to..][..self.hidden]);
                }
            }
        }
        (states, LstmTrace { shards, tokens, activations })
    }

    /// The gradients of the weights from that of the states, `[N, D*H]`; that of the tokens is added to `dtokens`,
    /// `[N, E]`.
    pub fn backward(&self, trace: &LstmTrace, dstates: &[f32], dtokens: &mut [f32]) -> LstmWeights<Buffer> {
        let shards = &trace.shards;
        let gradients = self.each(shards, |direction, shard| {
            let columns = direction * self.hidden..(direction + 1) * self.hidden;
            let dstates = gather(&shards[shard], dstates, self.states(), columns);
            let activations = &trace.activations[direction * shards.len() + shard];
            let reversed = self.directions.reversed()[direction];
            recurrence::backward(&shards[shard], reversed, &self.backward[direction], activations, &dstates)
        });
        for gradients in gradients.chunks(shards.len().max(1)) {
            for (shard, gradient) in shards.iter().zip(gradients) {
                for (at, row) in shard.rows.iter().enumerate() {
                    gradient.tokens.add_row(at, &mut dtokens[row * self.embedding..][..self.embedding]);
                }
            }
        }
        self.weight_gradients(&trace.tokens, &gradients)
    }

    /// Applies a function to each direction and shard, on many threads if that pays: direction after direction.
    fn each<T: Send>(&self, shards: &[Shard], f: impl Fn(usize, usize) -> T + Sync) -> Vec<T> {
        let one = |at: usize| f(at / shards.len(), at % shards.len());
        let all = 0..self.directions.count() * shards.len();
        let tokens: usize = shards.iter().map(|shard| shard.rows.len()).sum();
        if pays(tokens * 4 * self.states() * (self.hidden + self.embedding)) {
            all.into_par_iter().with_max_len(1).map(one).collect()
        } else {
            all.map(one).collect()
        }
    }

    /// The gradients of all weights from those of the gates, for each direction, for each shard.
    fn weight_gradients(&self, tokens: &[Panels], gradients: &[Gradients]) -> LstmWeights<Buffer> {
        let (hidden, embedding, gates) = (self.hidden, self.embedding, 4 * self.hidden);
        // What no shard writes is zero.
        let make = if tokens.is_empty() { Buffer::zeros } else { Buffer::stale };
        let of = |width: usize| make(self.directions.count() * gates * width);
        let mut all = LstmWeights { input: of(embedding), recurrent: of(hidden), bias: of(1) };
        let parts = (all.input.par_chunks_exact_mut(gates * embedding))
            .zip(all.recurrent.par_chunks_exact_mut(gates * hidden))
            .zip(all.bias.par_chunks_exact_mut(gates));
        let directions = gradients.par_chunks_exact(tokens.len().max(1));
        parts.zip(directions).for_each(|(((input, recurrent), bias), gradients)| {
            let gates = gradients.iter().map(|gradient| &gradient.gates);
            let inputs: Vec<_> = gates.clone().zip(tokens).collect();
            let states: Vec<_> = gates.clone().zip(gradients.iter().map(|of| &of.states_before)).collect();
            for (to, pairs, width) in [(input, inputs, embedding), (recurrent, states, hidden)] {
                let product = columns_product(&pairs);
                for (row, to) in to.chunks_exact_mut(width).enumerate() {
                    copy_row(&product, column(row / hidden, row % hidden), to);
                }
            }
            let sums = gate_sums(gates, 4 * gradients[0].states_before.columns());
            for (row, to) in bias.iter_mut().enumerate() {
                *to = sums[column(row / hidden, row % hidden)];
            }
        });
        all
    }
}

/// Some columns of a row-major matrix, for the rows of a shard.
fn gather(shard: &Shard, matrix: &[f32], width: usize, columns: Range<usize>) -> Panels {
    let rows = &shard.rows;
    Panels::of_rows(rows.len(), columns.len(), |row| &matrix[rows[row] * width..][columns.clone()])
}

impl Directions {
    /// D.
    pub(in crate::model) fn count(self) -> usize {
        self.reversed().len()
    }

    /// For each direction, whether it reads from the end.
    pub(in crate::model) fn reversed(self) -> &'static [bool] {
        match self {
            Self::Forward => &[false],
            Self::Backward => &[true],
            Self::Both => &[false, true],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_texts_have_no_gradients() {
        let (embedding, hidden) = (20, 40);
        let numbers = |count: usize| vec![0.5; 2 * 4 * hidden * count];
        let weights = [embedding, hidden, 1].map(numbers);
        let [input, recurrent, bias] = weights.each_ref().map(|numbers| &**numbers);
        let lstm = Lstm::new(LstmWeights { input, recurrent, bias }, Directions::Both, embedding);
        let (states, trace) = lstm.forward(&[], &Packing::new(&[]));
        assert!(states.is_empty());
        // Not zeros by chance: memory that is used again.
        drop([embedding, hidden, 1].map(|count| Buffer::from(&*numbers(count))));
        let LstmWeights { input, recurrent, bias } = lstm.backward(&trace, &[], &mut []);
        assert_eq!([input.len(), recurrent.len(), bias.len()], weights.map(|numbers| numbers.len()));
        assert!([input, recurrent, bias].iter().all(|gradient| gradient.iter().all(|&g| g == 0.0)));
    }
}
