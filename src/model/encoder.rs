//! From the tokens of texts to one vector a text: LSTM and pooling.

use candle_core::{Result, Tensor, bail};

use super::{
    Architecture, Pooling,
    kernels::{Directions, LstmReader, LstmWeights, PooledStates, RecurrentWeights, storage::numbers},
};
use crate::text::Packing;

/// The encoder above the embedding, at work.
#[derive(Debug, Clone)]
pub struct Encoder {
    lstm: LstmReader,
    pooling: Pooling,
    embedding: usize,
    features: usize,
}

impl Encoder {
    /// From the weights `[D, 4H, E]` of the tokens, `[D, 4H, H]` of the states before, and the biases `[D, 4H]`.
    ///
    /// # Errors
    /// If the shapes are not those of the architecture.
    pub fn new(
        architecture: &Architecture,
        input: &Tensor,
        recurrent: &Tensor,
        bias: &Tensor,
        kept: RecurrentWeights,
    ) -> Result<Self> {
        let Architecture { embedding, hidden, .. } = *architecture;
        let (directions, gates) = (architecture.directions(), 4 * hidden);
        let expected =
            [&[directions, gates, embedding][..], &[directions, gates, hidden], &[directions, gates]];
        let found = [input.dims(), recurrent.dims(), bias.dims()];
        if found != expected {
            bail!("weights of shapes {found:?} are not those of the architecture, {expected:?}");
        }
        let (input, recurrent, bias) = (numbers(input)?, numbers(recurrent)?, numbers(bias)?);
        let weights = LstmWeights { input: &*input, recurrent: &*recurrent, bias: &*bias };
        Ok(Self {
            lstm: LstmReader::new(weights, architecture.lstm_directions(), embedding, kept),
            pooling: architecture.pooling,
            embedding,
            features: architecture.features(),
        })
    }

    /// F.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Numbers that a token is before it is read: its embedding and what it adds to the gates.
    pub fn token_width(&self) -> usize {
        self.embedding + self.lstm.gate_columns()
    }

    /// Tokens before they are read, [`Encoder::token_width`] numbers each, from their embeddings `[m, E]`. A token's are the
    /// same to the bit alone and among others.
    pub fn tokens(&self, embeddings: &[f32]) -> Vec<f32> {
        let gates = self.lstm.gates(embeddings);
        let rows = embeddings.chunks_exact(self.embedding).zip(gates.chunks_exact(self.lstm.gate_columns()));
        rows.flat_map(|(embedding, gates)| [embedding, gates]).flatten().copied().collect()
    }

    /// Features `[B, F]`, in the order of the batch as given, on the caller's thread. `token` gives a packed token as
    /// [`Encoder::tokens`] made it.
    pub fn forward<'a>(&self, packing: &Packing, token: impl Fn(usize) -> &'a [f32]) -> Vec<f32> {
        let states = self.lstm.states();
        let (with_max, columns) = (self.pooling == Pooling::MeanMaxInput, self.features);
        let mut features = vec![0.0; packing.texts() * columns];
        let gates = |row: usize| &token(row)[self.embedding..];
        self.lstm.pool(packing, gates, &mut PooledStates { rows: &mut features, columns, with_max });
        if with_max {
            for (rank, (&text, &length)) in packing.order.iter().zip(&packing.lengths).enumerate() {
                let mean = &mut features[text * columns + 2 * states..][..self.embedding];
                for start in &packing.starts[..length] {
                    mean.iter_mut().zip(token(start + rank)).for_each(|(mean, x)| *mean += x);
                }
                let share = 1.0 / length as f32;
                mean.iter_mut().for_each(|mean| *mean *= share);
            }
        }
        features
    }
}

impl Architecture {
    /// Which ways the LSTMs read.
    pub(super) fn lstm_directions(&self) -> Directions {
        match (self.bidirectional, self.reversed) {
            (true, _) => Directions::Both,
            (false, false) => Directions::Forward,
            (false, true) => Directions::Backward,
        }
    }
}
