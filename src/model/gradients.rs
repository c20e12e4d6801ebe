//! The loss of a batch and its gradients: the network forwards and back, without a tape.
//!
//! The network is one fixed chain, so its derivative is written out, and each result is dropped where it is last used.
//! Nothing here depends on the number of threads: sums run in an order that the batch alone decides.

use super::{
    Architecture,
    kernels::{
        Buffer, ClassTargets, Linear, Lstm, LstmWeights, Pool, Projection, ProjectionWeights, TokenMask,
        bag_backward, bag_forward,
    },
};
use crate::text::PackedBatch;

/// All parameters, as plain numbers in the shapes of [`super::checkpoint`].
#[derive(Debug, Clone, Copy)]
pub struct Parameters<'a> {
    /// The embedding, `[V, E]`.
    pub table: &'a [f32],
    /// The LSTM's.
    pub lstm: LstmWeights<&'a [f32]>,
    /// The projection's; empty without one.
    pub projection: ProjectionWeights<&'a [f32]>,
    /// The head's weight, `[C, F]`.
    pub head_weight: &'a [f32],
    /// The head's bias, `[C]`.
    pub head_bias: &'a [f32],
}

/// What the network does not see in training.
#[derive(Debug)]
pub struct Masks {
    /// What token embeddings are multiplied with.
    pub tokens: TokenMask,
    /// What features are multiplied with, `[B, F]`.
    pub features: Vec<f32>,
}

/// What a batch says about the parameters.
#[derive(Debug, PartialEq)]
pub struct Gradients {
    /// The mean loss, in nats.
    pub loss: f64,
    /// Rows of the embedding that the batch touches, ascending, `[R]`.
    pub rows: Vec<u32>,
    /// Of these rows, `[R, E]`.
    pub table: Buffer,
    /// Of the LSTM.
    pub lstm: LstmWeights<Buffer>,
    /// Of the projection; empty without one.
    pub projection: ProjectionWeights<Buffer>,
    /// Of the head's weight, `[C, F]`.
    pub head_weight: Buffer,
    /// Of the head's bias, `[C]`.
    pub head_bias: Buffer,
}

/// The gradients of the loss of a batch under its labels, `[B]`, in the order of the batch as given.
///
/// # Panics
/// If batch, masks, labels and parameters do not fit one another.
pub fn gradients(
    architecture: &Architecture,
    parameters: Parameters<'_>,
    batch: PackedBatch,
    labels: &[u32],
    targets: &ClassTargets,
    masks: Option<&Masks>,
) -> Gradients {
    let width = architecture.embedding;
    let token_mask = masks.map(|masks| &masks.tokens);
    let tokens = bag_forward(parameters.table, width, &batch.bags, token_mask);
    let lstm = Lstm::new(parameters.lstm, architecture.lstm_directions(), width);
    let (states, trace) = lstm.forward(&tokens, &batch.packing);
    let pool = Pool {
        packing: &batch.packing,
        pooling: architecture.pooling,
        states: lstm.states(),
        embedding: width,
    };
    let mut pooled = pool.forward(&states, &tokens);
    let projection =
        Projection { weights: parameters.projection, packing: &batch.packing, states: lstm.states() };
    let projects = architecture.projects();
    let strongest = projects.then(|| projection.forward(&states, &tokens, &mut pooled, pool.projected()));
    let masked = |numbers: &[f32]| match masks {
        Some(masks) => numbers.iter().zip(&masks.features).map(|(x, factor)| x * factor).collect(),
        None => numbers.to_vec(),
    };
    let features: Vec<f32> = masked(&pooled);
    let head = Linear::from_slices(parameters.head_weight, parameters.head_bias);
    let (loss, dlogits) = targets.loss_and_gradient(&head.map(&features), labels);

    let head = head.backward(&features, parameters.head_weight, &dlogits);
    let dpooled = masked(&head.x);
    let (mut dstates, mut dtokens) = pool.backward(&states, &pooled, &dpooled);
    let projection = strongest.map_or_else(ProjectionWeights::default, |strongest| {
        let below = (&mut *dstates, &mut *dtokens);
        projection.backward(&strongest, (&states, &tokens), (&pooled, &dpooled), pool.projected(), below)
    });
    let (lstm, (rows, compact)) =
        rayon::join(|| lstm.backward(&trace, &dstates, &mut dtokens), || batch.compact());
    let table = bag_backward(&dtokens, width, rows.len(), &compact.bags, token_mask);
    Gradients { loss, rows, table, lstm, projection, head_weight: head.weight, head_bias: head.bias }
}

#[cfg(test)]
mod tests;
