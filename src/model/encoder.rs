//! From the tokens of texts to one vector a text: LSTM and pooling.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::{
    Architecture, Pooling,
    kernels::{
        Directions, Lstm, LstmWeights, Pool,
        storage::{numbers, tensor},
    },
};
use crate::text::Packing;

/// The encoder above the embedding, at work.
#[derive(Debug, Clone)]
pub struct Encoder {
    lstm: Lstm,
    pooling: Pooling,
    embedding: usize,
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
            lstm: Lstm::new(weights, architecture.lstm_directions(), embedding),
            pooling: architecture.pooling,
            embedding,
        })
    }

    /// Features `[B, F]`, in the order of the batch as given, of packed token embeddings `[N, E]`.
    ///
    /// # Errors
    /// If the tokens do not fit the batch.
    pub fn forward(&self, tokens: &Tensor, packing: &Arc<Packing>) -> Result<Tensor> {
        if tokens.dims2()? != (packing.tokens(), self.embedding) {
            bail!("tokens {:?} do not fit the batch", tokens.shape());
        }
        let tokens = numbers(tokens)?;
        let (states, _) = self.lstm.forward(&tokens, packing);
        let pool =
            Pool { packing, pooling: self.pooling, states: self.lstm.states(), embedding: self.embedding };
        let features = pool.forward(&states, &tokens);
        let width = features.len() / packing.texts().max(1);
        tensor(features, (packing.texts(), width))
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
