//! The tensors of a network at work, for answering.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::{
    Architecture, Array, Encoder, Head, LeafProbabilities, Wide,
    checkpoint::{
        EMBEDDING, HEAD_BIAS, HEAD_WEIGHT, LSTM_BIAS, LSTM_INPUT, LSTM_RECURRENT, OUTPUT_SCALES,
        PROJECTION_BIAS, PROJECTION_WEIGHT,
    },
    encoder::EncoderTensors,
    kernels::{LstmWeights, ProjectionWeights, RecurrentWeights, embedding_bag},
    numeric,
    tokens::{TokenMemory, Tokens},
};
use crate::{
    error::{Error, Result},
    text::{EncodedText, PackedBatch},
};

/// Embedding, encoder and head, the wide branch beside them, and the scales that join the two. The tables are the arrays
/// of the checkpoint; clones share them and the tokens that were read before.
#[derive(Debug, Clone)]
pub struct Network {
    embedding: Array,
    width: usize,
    tokens: Arc<Tokens>,
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
            let mut logits = deep.to_vec();
            join(scales, &mut logits, wide);
            probabilities.set(text, &logits);
        }
        probabilities
    }
}

/// Makes deep logits those of the network.
fn join(scales: [f32; 2], deep: &mut [f32], wide: &[f32]) {
    deep.iter_mut().zip(wide).for_each(|(d, u)| *d = scales[0] * *d + scales[1] * u);
}

impl Network {
    /// Texts that are computed with at a time: enough to fill the processor, and memory stays bounded whatever is asked.
    pub const BATCH: usize = 64;
    /// Memory for the numbers of tokens that were read before, at most: 2,900 of the default preset, 900 of the large one.
    pub const TOKEN_BYTES: usize = 16 << 20;

    /// Puts the tensors of a checkpoint to work. The names and shapes are those of [`super::Checkpoint`].
    ///
    /// # Errors
    /// [`Error::Internal`] if a tensor is missing or of the wrong shape.
    pub fn new(architecture: &Architecture, tensors: &BTreeMap<String, Array>) -> Result<Self> {
        Self::with_weights(architecture, tensors, RecurrentWeights::Exact)
    }

    /// As [`Network::new`], with recurrent weights that are kept so.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn with_weights(
        architecture: &Architecture,
        tensors: &BTreeMap<String, Array>,
        kept: RecurrentWeights,
    ) -> Result<Self> {
        let tensor = |name: &str| tensor(tensors, name);
        let Above { head, wide, scales, leaves } = Above::new(tensors)?;
        let (input, recurrent, bias) = (tensor(LSTM_INPUT)?, tensor(LSTM_RECURRENT)?, tensor(LSTM_BIAS)?);
        let projection = match architecture.projects() {
            true => {
                Some(ProjectionWeights { weight: tensor(PROJECTION_WEIGHT)?, bias: tensor(PROJECTION_BIAS)? })
            }
            false => None,
        };
        let encoder = EncoderTensors { lstm: LstmWeights { input, recurrent, bias }, projection };
        let encoder = Encoder::new(architecture, &encoder, kept).map_err(numeric)?;
        Ok(Self {
            embedding: array(tensors, EMBEDDING)?.clone(),
            width: architecture.embedding,
            tokens: Arc::new(Tokens::new(encoder.token_width(), Self::TOKEN_BYTES, Arc::default())),
            encoder,
            head,
            wide,
            scales,
            leaves,
        })
    }

    /// The same, with tokens of its own that are counted there; none are kept yet.
    #[must_use]
    pub(super) fn counted_by(self, memory: &Arc<TokenMemory>) -> Self {
        let tokens = Tokens::new(self.encoder.token_width(), Self::TOKEN_BYTES, Arc::clone(memory));
        Self { tokens: Arc::new(tokens), ..self }
    }

    /// The tokens that were read before, which networks with the same encoder share.
    pub(super) fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// The same below the head, which it shares, with the head, the wide branch and the scales of other tensors.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn with_head_of(&self, tensors: &BTreeMap<String, Array>) -> Result<Self> {
        let Above { head, wide, scales, leaves } = Above::new(tensors)?;
        Ok(Self { head, wide, scales, leaves, ..self.clone() })
    }

    /// Probabilities of the leaves, in the order of the texts. A text's are the same to the bit alone and among others. Up
    /// to [`Network::BATCH`] texts are computed on the caller's thread, more on many.
    ///
    /// # Errors
    /// [`Error::Internal`] if a text was encoded with another vocabulary.
    pub fn leaf_probabilities(&self, texts: &[&EncodedText]) -> Result<LeafProbabilities> {
        let logits = self.each(texts, self.leaves, |order, batch| {
            let mut wide = vec![0.0; self.leaves];
            let mut logits = self.batch_logits(batch)?;
            for (&text, logits) in order.iter().zip(logits.chunks_exact_mut(self.leaves)) {
                if let Some(branch) = &self.wide {
                    branch.logits(&texts[text].terms, &mut wide);
                }
                join(self.scales, logits, &wide);
            }
            Ok(logits)
        })?;
        let mut probabilities = LeafProbabilities::zeros(texts.len(), self.leaves);
        let rows = logits.chunks_exact(self.leaves).enumerate();
        rows.for_each(|(text, logits)| probabilities.set(text, logits));
        Ok(probabilities)
    }

    /// Logits of the deep branch, `[B, C]`, row after row in the order of the texts.
    ///
    /// # Errors
    /// As [`Network::leaf_probabilities`].
    pub fn deep_logits(&self, texts: &[&EncodedText]) -> Result<Vec<f32>> {
        self.each(texts, self.leaves, |_, batch| self.batch_logits(batch))
    }

    /// What the encoder makes of texts, `[B, F]`, row after row in the order of the texts.
    ///
    /// # Errors
    /// As [`Network::leaf_probabilities`].
    pub fn features(&self, texts: &[&EncodedText]) -> Result<Vec<f32>> {
        self.each(texts, self.encoder.features(), |_, batch| self.batch_features(batch))
    }

    /// Applies a function to batches of similar length, and puts the rows of so many numbers that it gives in the order of
    /// the texts.
    fn each(
        &self,
        texts: &[&EncodedText],
        width: usize,
        f: impl Fn(&[usize], &PackedBatch) -> Result<Vec<f32>> + Sync,
    ) -> Result<Vec<f32>> {
        let mut rows = vec![0.0; texts.len() * width];
        let mut place = |order: &[usize], made: &[f32]| {
            for (&text, made) in order.iter().zip(made.chunks_exact(width)) {
                rows[text * width..][..width].copy_from_slice(made);
            }
        };
        let packed = |order: &[usize]| PackedBatch::new(order.iter().map(|&text| texts[text]));
        let order = by_length(texts);
        if texts.len() <= Self::BATCH {
            place(&order, &f(&order, &packed(&order))?);
        } else {
            let batches = order.par_chunks(Self::BATCH).map(|order| Ok((order, f(order, &packed(order))?)));
            let made = batches.collect::<Result<Vec<_>>>()?;
            made.iter().for_each(|(order, made)| place(order, made));
        }
        Ok(rows)
    }

    fn batch_logits(&self, batch: &PackedBatch) -> Result<Vec<f32>> {
        Ok(self.head.logits(&self.batch_features(batch)?))
    }

    fn batch_features(&self, batch: &PackedBatch) -> Result<Vec<f32>> {
        let tokens = self.tokens.get(&batch.bags, |bags| {
            let embeddings = embedding_bag(&self.embedding.data, self.width, bags).map_err(numeric)?;
            Ok(self.encoder.tokens(&embeddings))
        })?;
        Ok(self.encoder.forward(&batch.packing, |row| &tokens[row]))
    }
}

/// What is above the encoder.
struct Above {
    head: Head,
    wide: Option<Wide>,
    scales: [f32; 2],
    leaves: usize,
}

impl Above {
    fn new(tensors: &BTreeMap<String, Array>) -> Result<Self> {
        let bias = tensor(tensors, HEAD_BIAS)?;
        let scales = <[f32; 2]>::try_from(&*array(tensors, OUTPUT_SCALES)?.data)
            .map_err(|_| Error::Internal("there are not two scales".into()))?;
        let head = Head::new(&tensor(tensors, HEAD_WEIGHT)?, &bias).map_err(numeric)?;
        Ok(Self { head, wide: Wide::new(tensors), scales, leaves: bias.elem_count() })
    }
}

fn array<'a>(tensors: &'a BTreeMap<String, Array>, name: &str) -> Result<&'a Array> {
    tensors.get(name).ok_or_else(|| Error::Internal(format!("tensor {name} is missing")))
}

fn tensor(tensors: &BTreeMap<String, Array>, name: &str) -> Result<Tensor> {
    let array = array(tensors, name)?;
    Tensor::from_slice(&array.data, &*array.shape, &Device::Cpu).map_err(numeric)
}

/// The indices of texts, the shortest first.
fn by_length(texts: &[&EncodedText]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&text| texts[text].tokens);
    order
}

/// Texts in batches of similar length, each with the indices of its texts.
pub(super) fn batches<'a>(
    texts: &'a [&EncodedText],
    size: usize,
) -> impl Iterator<Item = (Vec<usize>, PackedBatch)> + 'a {
    let order = by_length(texts);
    (0..texts.len()).step_by(size).map(move |first| {
        let order = order[first..texts.len().min(first + size)].to_vec();
        let batch = PackedBatch::new(order.iter().map(|&text| texts[text]));
        (order, batch)
    })
}
