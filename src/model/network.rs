//! The tensors of a network at work, for answering.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use candle_nn::Module as _;

use super::{
    Architecture, Array, Encoder, Head, LeafProbabilities, Wide,
    checkpoint::{EMBEDDING, HEAD_BIAS, HEAD_WEIGHT, LSTM_BIAS, LSTM_INPUT, LSTM_RECURRENT, OUTPUT_SCALES},
    kernels::embedding_bag,
    numeric,
};
use crate::{
    error::{Error, Result},
    text::{EncodedText, PackedBatch},
};

/// Texts that are computed with at a time: enough to fill the processor, and memory stays bounded whatever is asked.
const BATCH: usize = 64;

/// Embedding, encoder and head, the wide branch beside them, and the scales that join the two.
#[derive(Debug, Clone)]
pub struct Network {
    embedding: Tensor,
    encoder: Encoder,
    head: Head,
    wide: Option<Wide>,
    scales: [f32; 2],
    leaves: usize,
}

/// What the two branches say about some texts, before the scales; each `[B, C]`, row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct BranchLogits {
    /// Logits of the deep branch.
    pub deep: Vec<f32>,
    /// Logits of the wide branch; zeros without one.
    pub wide: Vec<f32>,
    /// C.
    pub leaves: usize,
}

impl BranchLogits {
    /// Probabilities of the leaves with these scales of the branches.
    pub fn probabilities(&self, scales: [f32; 2]) -> LeafProbabilities {
        let mut probabilities = LeafProbabilities::zeros(self.deep.len() / self.leaves, self.leaves);
        let rows = self.deep.chunks_exact(self.leaves).zip(self.wide.chunks_exact(self.leaves));
        for (text, (deep, wide)) in rows.enumerate() {
            probabilities.set(text, &joined(scales, deep, wide));
        }
        probabilities
    }
}

fn joined(scales: [f32; 2], deep: &[f32], wide: &[f32]) -> Vec<f32> {
    deep.iter().zip(wide).map(|(d, u)| scales[0] * d + scales[1] * u).collect()
}

impl Network {
    /// Puts the tensors of a checkpoint to work. The names and shapes are those of [`super::Checkpoint`].
    ///
    /// # Errors
    /// [`Error::Internal`] if a tensor is missing or of the wrong shape.
    pub fn new(architecture: &Architecture, tensors: &BTreeMap<String, Array>) -> Result<Self> {
        let array = |name: &str| {
            tensors.get(name).ok_or_else(|| Error::Internal(format!("tensor {name} is missing")))
        };
        let tensor = |name: &str| {
            let array = array(name)?;
            Tensor::from_slice(&array.data, &*array.shape, &Device::Cpu).map_err(numeric)
        };
        let bias = tensor(HEAD_BIAS)?;
        let scales = <[f32; 2]>::try_from(&*array(OUTPUT_SCALES)?.data)
            .map_err(|_| Error::Internal("there are not two scales".into()))?;
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
            wide: Wide::new(tensors),
            scales,
            leaves: bias.elem_count(),
        })
    }

    /// Probabilities of the leaves, in the order of the texts. A text's are the same to the bit alone and among others.
    ///
    /// # Errors
    /// [`Error::Internal`] if a text was encoded with another vocabulary.
    pub fn leaf_probabilities(&self, texts: &[&EncodedText]) -> Result<LeafProbabilities> {
        let mut probabilities = LeafProbabilities::zeros(texts.len(), self.leaves);
        let mut wide = vec![0.0; self.leaves];
        self.each(texts, |text, deep| {
            if let Some(branch) = &self.wide {
                branch.logits(&texts[text].terms, &mut wide);
            }
            probabilities.set(text, &joined(self.scales, deep, &wide));
        })?;
        Ok(probabilities)
    }

    /// Logits of the deep branch, `[B, C]`, row after row in the order of the texts.
    ///
    /// # Errors
    /// As [`Network::leaf_probabilities`].
    pub fn deep_logits(&self, texts: &[&EncodedText]) -> Result<Vec<f32>> {
        let mut logits = vec![0.0; texts.len() * self.leaves];
        self.each(texts, |text, deep| {
            logits[text * self.leaves..][..self.leaves].copy_from_slice(deep);
        })?;
        Ok(logits)
    }

    /// What the encoder makes of texts, `[B, F]`, row after row in the order of the texts.
    ///
    /// # Errors
    /// As [`Network::leaf_probabilities`].
    pub fn features(&self, texts: &[&EncodedText]) -> Result<Vec<f32>> {
        let mut rows: Vec<Vec<f32>> = vec![Vec::new(); texts.len()];
        for (order, batch) in batches(texts, BATCH) {
            let features =
                self.batch_features(&batch).and_then(|features| features.to_vec2()).map_err(numeric)?;
            order.into_iter().zip(features).for_each(|(text, features)| rows[text] = features);
        }
        Ok(rows.concat())
    }

    /// Visits each text, in some order, with its deep logits.
    fn each(&self, texts: &[&EncodedText], mut visit: impl FnMut(usize, &[f32])) -> Result<()> {
        for (order, batch) in batches(texts, BATCH) {
            let deep =
                self.batch_logits(&batch).and_then(|logits| logits.to_vec2::<f32>()).map_err(numeric)?;
            order.into_iter().zip(deep).for_each(|(text, deep)| visit(text, &deep));
        }
        Ok(())
    }

    fn batch_logits(&self, batch: &PackedBatch) -> candle_core::Result<Tensor> {
        self.head.forward(&self.batch_features(batch)?)
    }

    fn batch_features(&self, batch: &PackedBatch) -> candle_core::Result<Tensor> {
        let tokens = embedding_bag(&self.embedding, &batch.bags)?;
        self.encoder.forward(&tokens, &batch.packing)
    }
}

/// Texts in batches of similar length, each with the indices of its texts.
pub(super) fn batches<'a>(
    texts: &'a [&EncodedText],
    size: usize,
) -> impl Iterator<Item = (Vec<usize>, PackedBatch)> + 'a {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&text| texts[text].tokens);
    (0..texts.len()).step_by(size).map(move |first| {
        let order = order[first..texts.len().min(first + size)].to_vec();
        let batch = PackedBatch::new(order.iter().map(|&text| texts[text]));
        (order, batch)
    })
}
