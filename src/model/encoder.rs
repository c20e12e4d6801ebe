//! From the tokens of texts to one vector a text: LSTM and pooling.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::{
    Architecture, Pooling,
    kernels::{Directions, Linear, Lstm, pool},
};
use crate::text::Packing;

/// The encoder above the embedding. Made anew of variables for each training step, or once of fixed tensors.
#[derive(Debug, Clone)]
pub struct Encoder {
    input: Linear,
    recurrent: Lstm,
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
        let rows = architecture.directions() * 4 * architecture.hidden;
        let directions = match (architecture.bidirectional, architecture.reversed) {
            (true, _) => Directions::Both,
            (false, false) => Directions::Forward,
            (false, true) => Directions::Backward,
        };
        Ok(Self {
            input: Linear::new(input.reshape((rows, architecture.embedding))?, bias.reshape(rows)?)?,
            recurrent: Lstm::new(recurrent.clone(), directions)?,
            pooling: architecture.pooling,
        })
    }

    /// Features `[B, F]`, in the order of the batch as given, of packed token embeddings `[N, E]`.
    pub fn forward(&self, tokens: &Tensor, packing: &Arc<Packing>) -> Result<Tensor> {
        let states = self.recurrent.forward(&self.input.forward(tokens)?, packing)?;
        pool(&states, tokens, packing, self.pooling)
    }
}
