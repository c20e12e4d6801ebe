//! From the tokens of texts to one vector a text: LSTM, projection and pooling.

use candle_core::{Result, Tensor, bail};

use super::{
    Architecture, Pooling,
    kernels::{
        Buffer, Directions, LstmReader, LstmWeights, Place, PooledStates, ProjectionReader,
        ProjectionWeights, RecurrentWeights, storage::numbers,
    },
};
use crate::text::Packing;

/// The encoder above the embedding, at work.
#[derive(Debug, Clone)]
pub struct Encoder {
    lstm: LstmReader,
    projection: Option<ProjectionReader>,
    pooling: Pooling,
    embedding: usize,
    features: usize,
}

/// The tensors of an encoder, by their names in [`super::checkpoint`].
#[derive(Debug)]
pub struct EncoderTensors {
    /// `[D, 4H, E]`, `[D, 4H, H]` and `[D, 4H]`.
    pub lstm: LstmWeights<Tensor>,
    /// `[S, S + E]` and `[S]`, where states are projected.
    pub projection: Option<ProjectionWeights<Tensor>>,
}

impl Encoder {
    /// From tensors, with recurrent weights that are kept so.
    ///
    /// # Errors
    /// If the shapes are not those of the architecture.
    pub fn new(
        architecture: &Architecture,
        tensors: &EncoderTensors,
        kept: RecurrentWeights,
    ) -> Result<Self> {
        let EncoderTensors { lstm: LstmWeights { input, recurrent, bias }, projection } = tensors;
        let Architecture { embedding, hidden, .. } = *architecture;
        let (directions, gates, states) = (architecture.directions(), 4 * hidden, architecture.states());
        let mut expected = vec![
            vec![directions, gates, embedding],
            vec![directions, gates, hidden],
            vec![directions, gates],
        ];
        let mut found = vec![input.dims(), recurrent.dims(), bias.dims()];
        if architecture.projects() {
            expected.extend([vec![states, states + embedding], vec![states]]);
        }
        found.extend(projection.iter().flat_map(|of| [of.weight.dims(), of.bias.dims()]));
        if found != expected {
            bail!("weights of shapes {found:?} are not those of the architecture, {expected:?}");
        }
        let (input, recurrent, bias) = (numbers(input)?, numbers(recurrent)?, numbers(bias)?);
        let weights = LstmWeights { input: &*input, recurrent: &*recurrent, bias: &*bias };
        let reader = |of: &ProjectionWeights<Tensor>| {
            let (weight, bias) = (numbers(&of.weight)?, numbers(&of.bias)?);
            let weights = ProjectionWeights { weight: &*weight, bias: &*bias };
            Ok::<_, candle_core::Error>(ProjectionReader::new(weights, states))
        };
        Ok(Self {
            lstm: LstmReader::new(weights, architecture.lstm_directions(), embedding, kept),
            projection: projection.as_ref().map(reader).transpose()?,
            pooling: architecture.pooling,
            embedding,
            features: architecture.features(),
        })
    }

    /// F.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Numbers that a token is before it is read: its embedding, what it adds to the gates, and what to the projection.
    pub fn token_width(&self) -> usize {
        let projected = self.projection.as_ref().map_or(0, ProjectionReader::columns);
        self.embedding + self.lstm.gate_columns() + projected
    }

    /// Tokens before they are read, [`Encoder::token_width`] numbers each, from their embeddings `[m, E]`. A token's are the
    /// same to the bit alone and among others.
    pub fn tokens(&self, embeddings: &[f32]) -> Vec<f32> {
        let gates = self.lstm.gates(embeddings);
        let projected = self.projection.as_ref().map(|projection| projection.tokens(embeddings));
        let rows = embeddings.len() / self.embedding;
        let parts = [embeddings, &gates, projected.as_deref().unwrap_or_default()];
        let row = |at: usize| parts.map(|part| &part[at * (part.len() / rows)..][..part.len() / rows]);
        (0..rows).flat_map(row).flatten().copied().collect()
    }

    /// Features `[B, F]`, in the order of the batch as given, on the caller's thread. `token` gives a packed token as
    /// [`Encoder::tokens`] made it.
    pub fn forward<'a>(&self, packing: &Packing, token: impl Fn(usize) -> &'a [f32] + Sync) -> Vec<f32> {
        let (states, columns) = (self.lstm.states(), self.features);
        let mut features = vec![0.0; packing.texts() * columns];
        let mut kept = self.projection.as_ref().map(|_| Buffer::stale(packing.tokens() * states));
        let mut pooled = PooledStates {
            rows: &mut features,
            columns,
            with_max: self.pooling == Pooling::MeanMaxInput,
            states: kept.as_deref_mut(),
        };
        let gates = |row: usize| &token(row)[self.embedding..][..self.lstm.gate_columns()];
        self.lstm.pool(packing, gates, &mut pooled);
        if let (Some(projection), Some(kept)) = (&self.projection, kept) {
            let projected = |row: usize| &token(row)[self.embedding + self.lstm.gate_columns()..];
            projection.forward(packing, &kept, projected, &mut features, Place { columns, first: states });
        }
        if self.pooling != Pooling::Mean {
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
