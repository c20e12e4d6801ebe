//! From the tokens of texts to one vector a text: LSTM and pooling.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::{
    Architecture, Pooling,
    kernels::{Directions, Lstm, pool},
};
use crate::text::Packing;

/// The encoder above the embedding. Made anew of variables for each training step, or once of fixed tensors.
#[derive(Debug, Clone)]
pub struct Encoder {
    lstm: Lstm,
    pooling: Pooling,
}

impl Encoder {
    /// From the weights `[D, 4H, E]` of the tokens, `[D, 4H, H]` of the states before, and the biases `[D, 4H]`.
    pub fn new(
        architecture: &Architecture,
        input: &Tensor,
        recurrent: &Tensor,
        bias: &Tensor,
    ) -> Result<Self> {
        let directions = match (architecture.bidirectional, architecture.reversed) {
            (true, _) => Directions::Both,
            (false, false) => Directions::Forward,
            (false, true) => Directions::Backward,
        };
        let lstm = Lstm::new(input, recurrent, bias, directions)?;
        Ok(Self { lstm, pooling: architecture.pooling })
    }

    /// Features `[B, F]`, in the order of the batch as given, of packed token embeddings `[N, E]`.
    pub fn forward(&self, tokens: &Tensor, packing: &Arc<Packing>) -> Result<Tensor> {
        let states = self.lstm.forward(tokens, packing)?;
        pool(&states, tokens, packing, self.pooling)
    }
}
