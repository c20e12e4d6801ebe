//! The tensors of a network at work, for answering.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::{
    Architecture, Array, Encoder, Head, LeafProbabilities,
    checkpoint::{EMBEDDING, HEAD_BIAS, HEAD_WEIGHT, LSTM_BIAS, LSTM_INPUT, LSTM_RECURRENT},
    kernels::embedding_bag,
    numeric,
};
use crate::{
    error::{Error, Result},
    text::{EncodedText, PackedBatch},
};

/// Texts that are computed with at a time: enough to fill the processor, and memory stays bounded whatever is asked.
const BATCH: usize = 64;

/// Embedding, encoder and head on a device.
#[derive(Debug, Clone)]
pub struct Network {
    embedding: Tensor,
    encoder: Encoder,
    head: Head,
    leaves: usize,
}

impl Network {
    /// Puts the tensors of a checkpoint on a device. The names and shapes are those of [`super::Checkpoint`].
    ///
    /// # Errors
    /// [`Error::Internal`] if a tensor is missing or of the wrong shape.
    pub fn new(
        architecture: &Architecture,
        tensors: &BTreeMap<String, Array>,
        device: &Device,
    ) -> Result<Self> {
        let tensor = |name: &str| {
            let array =
                tensors.get(name).ok_or_else(|| Error::Internal(format!("tensor {name} is missing")))?;
            Tensor::from_slice(&array.data, &*array.shape, device).map_err(numeric)
        };
        let bias = tensor(HEAD_BIAS)?;
        Ok(Self {
            embedding: tensor(EMBEDDING)?,
            encoder: Encoder::new(
                architecture,
                &tensor(LSTM_INPUT)?,
                &tensor(LSTM_RECURRENT)?,
                &tensor(LSTM_BIAS)?,
            )
            .map_err(numeric)?,
            head: Head::new(&tensor(HEAD_WEIGHT)?, &bias).map_err(numeric)?,
            leaves: bias.elem_count(),
        })
    }

    /// Probabilities of the leaves, in the order of the texts. A text's are the same to the bit alone and among others.
    ///
    /// # Errors
    /// [`Error::Internal`] if a text was encoded with another vocabulary.
    pub fn leaf_probabilities(&self, texts: &[&EncodedText]) -> Result<LeafProbabilities> {
        let mut probabilities = LeafProbabilities::zeros(texts.len(), self.leaves);
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&text| texts[text].tokens);
        for order in order.chunks(BATCH) {
            let batch = PackedBatch::new(order.iter().map(|&text| texts[text]));
            let logits = self.logits(&batch).and_then(|logits| logits.to_vec2::<f32>()).map_err(numeric)?;
            order.iter().zip(logits).for_each(|(&text, logits)| probabilities.set(text, &logits));
        }
        Ok(probabilities)
    }

    fn logits(&self, batch: &PackedBatch) -> candle_core::Result<Tensor> {
        let tokens = embedding_bag(&self.embedding, &batch.bags)?;
        self.head.forward(&self.encoder.forward(&tokens, &batch.packing)?)
    }
}
