//! Everything a network has learnt, as plain arrays: no device, no generator, no optimiser.
//!
//! Tensors and their shapes (V vocabulary rows, E embedding, H hidden, D directions, C leaves, F features, U terms; the
//! four blocks of 4H are the gates input, forget, cell, output; those of the wide branch only where there is one):
//!
//! ```text
//! embedding.weight  [V, E]       lstm.weight_ih  [D, 4H, E]     head.weight  [C, F]
//!                                lstm.weight_hh  [D, 4H, H]     head.bias    [C]
//!                                lstm.bias       [D, 4H]     output.scales  [2]
//! projection.weight  [S, S + E]     projection.bias  [S]        where states are projected, S = D H
//! wide.idf          [U]
//! wide.weight       [U, C]
//! wide.bias         [C]
//! ```

use std::collections::BTreeMap;

use super::{Architecture, Numbers};
use crate::{
    error::{Error, Result},
    taxonomy::LeafId,
    text::{Terms, TextEncoder, Vocabulary},
};

/// Token embeddings, `[V, E]`.
pub const EMBEDDING: &str = "embedding.weight";
/// Weights from the token to the gates, `[D, 4H, E]`.
pub const LSTM_INPUT: &str = "lstm.weight_ih";
/// Weights from the state before to the gates, `[D, 4H, H]`.
pub const LSTM_RECURRENT: &str = "lstm.weight_hh";
/// Biases of the gates, `[D, 4H]`.
pub const LSTM_BIAS: &str = "lstm.bias";
/// Weights that project states and embeddings, `[S, S + E]`.
pub const PROJECTION_WEIGHT: &str = "projection.weight";
/// Biases of the projection, `[S]`.
pub const PROJECTION_BIAS: &str = "projection.bias";
/// Weights of the leaves, `[C, F]`.
pub const HEAD_WEIGHT: &str = "head.weight";
/// Biases of the leaves, `[C]`.
pub const HEAD_BIAS: &str = "head.bias";

/// idf of the terms, `[U]`.
pub const WIDE_IDF: &str = "wide.idf";
/// Weights of the terms for the leaves, `[U, C]`.
pub const WIDE_WEIGHT: &str = "wide.weight";
/// Biases of the leaves in the wide branch, `[C]`.
pub const WIDE_BIAS: &str = "wide.bias";
/// What the deep and the wide logits are multiplied with, `[2]`; their softmax is then calibrated.
pub const OUTPUT_SCALES: &str = "output.scales";

/// The tensors that make the features of a text, as far as a network has them.
pub const BELOW_HEAD: [&str; 6] =
    [EMBEDDING, LSTM_INPUT, LSTM_RECURRENT, LSTM_BIAS, PROJECTION_WEIGHT, PROJECTION_BIAS];

const REMEDY: &str = "restore a backup, or train the model again";

/// A dense array in row-major order. Cloning shares the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The numbers; as many as the product of the shape.
    pub data: Numbers,
}

/// A network at rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Dimensions.
    pub architecture: Architecture,
    /// The feature of each row of the embedding; row 0 stands for everything unknown.
    pub vocabulary: Vec<String>,
    /// The term of each row of the wide branch, as [`Terms::ids`] gives them; none without a wide branch.
    pub terms: Vec<u64>,
    /// The leaf of each row of the head.
    pub leaves: Vec<LeafId>,
    /// The tensors by name.
    pub tensors: BTreeMap<String, Array>,
}

impl Array {
    /// An array of a shape.
    ///
    /// # Panics
    /// If the shape and the data disagree.
    pub fn new(shape: impl Into<Vec<usize>>, data: impl Into<Numbers>) -> Self {
        let (shape, data) = (shape.into(), data.into());
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "as many numbers as the shape {shape:?} says"
        );
        Self { shape, data }
    }

    /// Row `index` along the first axis, as one slice.
    pub fn row(&self, index: usize) -> &[f32] {
        let width = self.shape[1..].iter().product::<usize>();
        &self.data[index * width..(index + 1) * width]
    }
}

impl Checkpoint {
    /// Tells encoders apart: blake3 of the dimensions, the vocabulary, and the tensors below the head. Networks with the same
    /// id make the same features of a text.
    pub fn encoder_id(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{:?}", self.architecture).as_bytes());
        for entry in &self.vocabulary {
            hasher.update(&(entry.len() as u64).to_le_bytes());
            hasher.update(entry.as_bytes());
        }
        let mut bytes: Vec<u8> = Vec::new();
        for name in BELOW_HEAD {
            for part in self.tensors.get(name).iter().flat_map(|array| array.data.chunks(1 << 14)) {
                bytes.resize(size_of_val(part), 0);
                let places = bytes.as_chunks_mut().0.iter_mut();
                places.zip(part).for_each(|(place, number)| *place = number.to_le_bytes());
                hasher.update(&bytes);
            }
        }
        *hasher.finalize().as_bytes()
    }

    /// The tensors that a network of these dimensions consists of, with their shapes.
    pub fn shapes(
        architecture: &Architecture,
        vocabulary: usize,
        terms: usize,
        leaves: usize,
    ) -> BTreeMap<&'static str, Vec<usize>> {
        let (directions, gates) = (architecture.directions(), 4 * architecture.hidden);
        let mut shapes = BTreeMap::from([
            (EMBEDDING, vec![vocabulary, architecture.embedding]),
            (LSTM_INPUT, vec![directions, gates, architecture.embedding]),
            (LSTM_RECURRENT, vec![directions, gates, architecture.hidden]),
            (LSTM_BIAS, vec![directions, gates]),
            (HEAD_WEIGHT, vec![leaves, architecture.features()]),
            (HEAD_BIAS, vec![leaves]),
            (OUTPUT_SCALES, vec![2]),
        ]);
        if architecture.projects() {
            let states = architecture.states();
            shapes.extend([
                (PROJECTION_WEIGHT, vec![states, states + architecture.embedding]),
                (PROJECTION_BIAS, vec![states]),
            ]);
        }
        if architecture.wide {
            shapes.extend([
                (WIDE_IDF, vec![terms]),
                (WIDE_WEIGHT, vec![terms, leaves]),
                (WIDE_BIAS, vec![leaves]),
            ]);
        }
        shapes
    }

    /// A tensor by name.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is not there.
    pub fn tensor(&self, name: &str) -> Result<&Array> {
        self.tensors.get(name).ok_or_else(|| missing(name))
    }

    /// The numbers of a tensor, to be changed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is not there.
    pub fn numbers_mut(&mut self, name: &str) -> Result<&mut [f32]> {
        self.tensors.get_mut(name).map(|array| array.data.to_mut()).ok_or_else(|| missing(name))
    }

    /// How texts are encoded for this network.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a vocabulary that cannot be.
    pub fn text_encoder(&self) -> Result<TextEncoder> {
        let Architecture { subwords, segmentation, max_tokens, .. } = self.architecture;
        let vocabulary = Vocabulary::from_entries(self.vocabulary.clone(), subwords)?;
        Ok(TextEncoder::new(vocabulary.segmented(segmentation), max_tokens, self.term_table()?))
    }

    /// The terms of the wide branch; empty without one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for terms that cannot be.
    pub fn term_table(&self) -> Result<Terms> {
        let idf = if self.architecture.wide { self.tensor(WIDE_IDF)?.data.to_vec() } else { Vec::new() };
        Terms::from_parts(self.terms.clone(), idf)
    }

    /// Checks that the tensors are those of the dimensions, all of them and no other, and hold finite numbers.
    ///
    /// # Errors
    /// [`Error::Corrupt`] saying which tensor is wrong and how.
    pub fn validate(&self) -> Result<()> {
        let shapes =
            Self::shapes(&self.architecture, self.vocabulary.len(), self.terms.len(), self.leaves.len());
        if self.vocabulary.is_empty() || self.leaves.is_empty() {
            return Err(damaged("there is no vocabulary or no leaf".into()));
        }
        if self.architecture.frozen_rows >= self.vocabulary.len() {
            let rows = self.architecture.frozen_rows;
            return Err(damaged(format!("{rows} rows are frozen, more than the vocabulary has")));
        }
        let mut leaves = self.leaves.clone();
        leaves.sort_unstable();
        if let Some(twice) = leaves.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(damaged(format!("leaf {} owns two rows of the head", twice[0])));
        }
        if let Some(stranger) = self.tensors.keys().find(|name| !shapes.contains_key(name.as_str())) {
            return Err(damaged(format!("tensor {stranger} is unknown")));
        }
        for (name, shape) in &shapes {
            let array = self.tensor(name)?;
            if array.shape != *shape {
                return Err(damaged(format!("tensor {name} has shape {:?}, not {shape:?}", array.shape)));
            }
            if array.data.len() != shape.iter().product::<usize>() {
                return Err(damaged(format!("tensor {name} holds {} numbers", array.data.len())));
            }
            if let Some(at) = first_that_is_not_finite(&array.data) {
                return Err(damaged(format!("tensor {name} is not finite at {at}")));
            }
        }
        Ok(())
    }
}

/// Where it is among the numbers.
fn first_that_is_not_finite(numbers: &[f32]) -> Option<usize> {
    // Block by block, since without a way out the processor looks at many at once.
    const BLOCK: usize = 1 << 10;
    let is_finite = |block: &[f32]| block.iter().fold(true, |all, number| all & number.is_finite());
    let block = numbers.chunks(BLOCK).position(|block| !is_finite(block))?;
    let within = numbers[block * BLOCK..].iter().position(|number| !number.is_finite())?;
    Some(block * BLOCK + within)
}

fn missing(name: &str) -> Error {
    damaged(format!("tensor {name} is missing"))
}

fn damaged(detail: String) -> Error {
    Error::Corrupt { what: "checkpoint".into(), detail, remedy: REMEDY }
}
