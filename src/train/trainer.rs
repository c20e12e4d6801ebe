//! One training step at a time: a batch, its gradients, an update of the parameters.
//!
//! The parameters live here as plain arrays. Each step puts them on the device, with only those rows of the embedding
//! that the batch touches, and takes the gradients back; so nothing grows with the vocabulary but memory.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::{Device, Tensor, Var};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::{
    Recipe, Sample, batches,
    fit::failed,
    optimiser::{Moments, Update, one_cycle, square_norm},
};
use crate::{
    error::{Error, Result},
    model::{
        Architecture, Array, Checkpoint, Encoder, Head, Network,
        checkpoint::{EMBEDDING, HEAD_BIAS, HEAD_WEIGHT, LSTM_BIAS, LSTM_INPUT, LSTM_RECURRENT},
        kernels::{ClassTargets, group_cross_entropy, masked_embedding_bag},
        numeric,
    },
    taxonomy::LeafGroups,
    text::PackedBatch,
};

/// Steps in a row without a finite gradient after which the training has failed.
const MAX_BROKEN_STEPS: u32 = 8;

/// Parameters, optimiser state and generator of a training that runs.
pub(super) struct Trainer<'a> {
    architecture: Architecture,
    recipe: &'a Recipe,
    targets: Arc<ClassTargets>,
    device: &'a Device,
    pub(super) random: ChaCha8Rng,
    table: Parameter,
    dense: Vec<Parameter>,
    /// Steps tried so far and in all.
    step: usize,
    pub(super) steps: usize,
    /// Steps that updated something.
    updates: usize,
    broken: u32,
}

/// A tensor that is learnt.
struct Parameter {
    name: &'static str,
    shape: Vec<usize>,
    values: Vec<f32>,
    moments: Moments,
    decay: f32,
}

/// What a batch says about the parameters.
struct Gradients {
    loss: f64,
    /// Rows of the table that the batch touches, and their gradient.
    rows: Vec<u32>,
    table: Vec<f32>,
    /// In the order of [`Trainer::dense`].
    dense: Vec<Vec<f32>>,
}

impl<'a> Trainer<'a> {
    pub(super) fn new(
        start: &Checkpoint,
        groups: &LeafGroups,
        recipe: &'a Recipe,
        steps_per_epoch: usize,
        seed: u64,
        device: &'a Device,
    ) -> Result<Self> {
        let parameter = |name: &'static str, decay: f32| {
            let Array { shape, data } = start.tensor(name)?;
            let moments = Moments::new(data.len());
            Ok::<_, Error>(Parameter { name, shape: shape.clone(), values: data.to_vec(), moments, decay })
        };
        let decay = recipe.weight_decay;
        Ok(Self {
            architecture: start.architecture,
            recipe,
            targets: Arc::new(ClassTargets {
                class_of_leaf: groups.class_of_row.clone(),
                classes: groups.classes.len(),
                smoothing: recipe.label_smoothing,
            }),
            device,
            random: ChaCha8Rng::seed_from_u64(seed),
            table: parameter(EMBEDDING, 0.0)?,
            dense: vec![
                parameter(LSTM_INPUT, decay)?,
                parameter(LSTM_RECURRENT, decay)?,
                parameter(LSTM_BIAS, 0.0)?,
                parameter(HEAD_WEIGHT, decay)?,
                parameter(HEAD_BIAS, 0.0)?,
            ],
            step: 0,
            steps: steps_per_epoch * recipe.epochs as usize,
            updates: 0,
            broken: 0,
        })
    }

    /// One step on a batch: its loss, or none where it was not finite and the batch was left out.
    pub(super) fn step<'s>(
        &mut self,
        epoch: u32,
        samples: impl Iterator<Item = &'s Sample>,
    ) -> Result<Option<f64>> {
        let samples: Vec<&Sample> = samples.collect();
        let gradients = self.gradients(&samples).map_err(numeric)?;
        let norm = gradients.norm();
        let rate = one_cycle(self.step, self.steps, self.recipe.learning_rate, self.recipe.warmup);
        self.step += 1;
        if !(gradients.loss.is_finite() && norm.is_finite()) {
            self.broken += 1;
            if self.broken == MAX_BROKEN_STEPS {
                return Err(failed(
                    "TRAINING_DIVERGED",
                    format!(
                        "the loss was not finite for {MAX_BROKEN_STEPS} steps in a row, up to epoch {epoch}, \
                         step {}; train again with a lower learning rate than {:e}",
                        self.step, self.recipe.learning_rate
                    ),
                ));
            }
            return Ok(None);
        }
        self.broken = 0;
        self.updates += 1;
        let gradient_scale = (self.recipe.clip_norm / norm.max(1e-12)).min(1.0);
        let update = Update::new(self.updates, rate, gradient_scale);
        for (parameter, gradient) in self.dense.iter_mut().zip(&gradients.dense) {
            update.dense(&mut parameter.values, gradient, &mut parameter.moments, parameter.decay);
        }
        let (table, width) = (&mut self.table, self.architecture.embedding);
        let update = Update::new(self.updates, rate * self.recipe.embedding_rate, gradient_scale);
        update.rows(&mut table.values, width, &gradients.rows, &gradients.table, &mut table.moments);
        Ok(Some(gradients.loss))
    }

    fn gradients(&mut self, samples: &[&Sample]) -> candle_core::Result<Gradients> {
        let (rows, batch) = PackedBatch::new(samples.iter().map(|sample| &sample.text)).compact();
        let Self { architecture, recipe, device, random, .. } = self;
        let mask = batches::token_mask(&batch.packing, architecture.embedding, recipe, random);
        let feature_mask =
            batches::feature_mask(samples.len(), architecture.features(), recipe, random, device)?;
        let table = Var::from_vec(self.table.rows(&rows), (rows.len(), self.architecture.embedding), device)?;
        let dense: Vec<Var> = self
            .dense
            .iter()
            .map(|parameter| Var::from_slice(&parameter.values, &*parameter.shape, self.device))
            .collect::<candle_core::Result<_>>()?;
        let [input, recurrent, bias, head_weight, head_bias] = &dense[..] else {
            candle_core::bail!("there are five dense parameters")
        };
        let tokens = masked_embedding_bag(&table, &batch.bags, mask)?;
        let encoder = Encoder::new(&self.architecture, input, recurrent, bias)?;
        let features = (encoder.forward(&tokens, &batch.packing)? * feature_mask)?;
        let logits = Head::new(head_weight, head_bias)?.forward(&features)?;
        let labels = samples.iter().map(|sample| sample.class).collect();
        let loss = group_cross_entropy(&logits, labels, &self.targets)?;
        let gradients = loss.backward()?;
        let gradient = |of: &Tensor| match gradients.get(of) {
            Some(gradient) => gradient.flatten_all()?.to_vec1(),
            None => candle_core::bail!("a parameter took no part in the loss"),
        };
        Ok(Gradients {
            loss: f64::from(loss.to_scalar::<f32>()?),
            table: gradient(&table)?,
            dense: dense.iter().map(|var| gradient(var)).collect::<candle_core::Result<_>>()?,
            rows,
        })
    }

    pub(super) fn tensors(&self) -> BTreeMap<String, Array> {
        std::iter::once(&self.table)
            .chain(&self.dense)
            .map(|parameter| {
                (parameter.name.to_owned(), Array::new(parameter.shape.clone(), &*parameter.values))
            })
            .collect()
    }

    pub(super) fn network(&self) -> Result<Network> {
        Network::new(&self.architecture, &self.tensors(), self.device)
    }
}

impl Parameter {
    /// Some rows of a matrix.
    fn rows(&self, rows: &[u32]) -> Vec<f32> {
        let width = self.shape[1];
        let mut numbers = Vec::with_capacity(rows.len() * width);
        for &row in rows {
            numbers.extend_from_slice(&self.values[row as usize * width..][..width]);
        }
        numbers
    }
}

impl Gradients {
    fn norm(&self) -> f64 {
        (square_norm(&self.table) + self.dense.iter().map(|dense| square_norm(dense)).sum::<f64>()).sqrt()
    }
}
