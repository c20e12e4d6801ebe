//! One training step at a time: a batch, its gradients, an update of the parameters.
//!
//! The parameters live here as plain arrays. Each step puts them on the device, with only those rows of the embedding
//! that the batch touches, and takes the gradients back; so nothing grows with the vocabulary but memory.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::{Device, Tensor, Var};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::{
    Optimiser, Recipe, Sample, batches,
    optimiser::{Moments, Update, square_norm},
    sgd::Descent,
};
use crate::{
    error::{Error, Result},
    model::{
        Architecture, Array, Checkpoint, Encoder, Head,
        checkpoint::{EMBEDDING, HEAD_BIAS, HEAD_WEIGHT, LSTM_BIAS, LSTM_INPUT, LSTM_RECURRENT},
        kernels::{ClassTargets, embedding_bag, group_cross_entropy},
        numeric,
    },
    taxonomy::LeafGroups,
    text::PackedBatch,
};

/// Steps in a row without a finite gradient after which the network is taken for broken.
pub(super) const MAX_BROKEN_STEPS: u32 = 8;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// The parameters were updated; the loss before that, in nats.
    Learnt(f64),
    /// Loss or gradient were not finite and the batch was left out.
    Skipped,
    /// So were several before it.
    Broken,
}

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
    pub(super) step: usize,
    pub(super) steps: usize,
    /// Learning rate of the last step.
    pub(super) rate: f64,
    /// What the recipe's rate is multiplied with.
    slowdown: f64,
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
            let moments = Moments::new(match recipe.optimiser {
                Optimiser::AdamW => data.len(),
                Optimiser::Sgd => 0,
            });
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
            rate: 0.0,
            slowdown: 1.0,
            steps: steps_per_epoch * recipe.epochs as usize,
            updates: 0,
            broken: 0,
        })
    }

    /// One step on a batch.
    pub(super) fn step<'s>(&mut self, samples: impl Iterator<Item = &'s Sample>) -> Result<Step> {
        let samples: Vec<&Sample> = samples.collect();
        let gradients = self.gradients(&samples).map_err(numeric)?;
        let norm = gradients.norm();
        let rate = self.slowdown * self.recipe.rate(self.step, self.steps);
        (self.step, self.rate) = (self.step + 1, rate);
        if !(gradients.loss.is_finite() && norm.is_finite()) {
            self.broken += 1;
            return Ok(if self.broken < MAX_BROKEN_STEPS { Step::Skipped } else { Step::Broken });
        }
        self.broken = 0;
        self.updates += 1;
        let gradient_scale = (self.recipe.clip_norm / norm.max(1e-12)).min(1.0);
        match self.recipe.optimiser {
            Optimiser::AdamW => self.update(&gradients, rate, gradient_scale),
            Optimiser::Sgd => self.descend(&gradients, rate, gradient_scale),
        }
        Ok(Step::Learnt(gradients.loss))
    }

    fn update(&mut self, gradients: &Gradients, rate: f64, gradient_scale: f64) {
        let update = Update::new(self.updates, rate, gradient_scale);
        for (parameter, gradient) in self.dense.iter_mut().zip(&gradients.dense) {
            update.dense(&mut parameter.values, gradient, &mut parameter.moments, parameter.decay);
        }
        let (table, width) = (&mut self.table, self.architecture.embedding);
        let update = Update::new(self.updates, rate * self.recipe.embedding_rate, gradient_scale);
        update.rows(&mut table.values, width, &gradients.rows, &gradients.table, &mut table.moments);
    }

    fn descend(&mut self, gradients: &Gradients, rate: f64, gradient_scale: f64) {
        let descent = Descent::new(rate, gradient_scale);
        for (parameter, gradient) in self.dense.iter_mut().zip(&gradients.dense) {
            descent.dense(&mut parameter.values, gradient, parameter.decay);
        }
        let descent = Descent::new(rate * self.recipe.embedding_rate, gradient_scale);
        let width = self.architecture.embedding;
        descent.rows(&mut self.table.values, width, &gradients.rows, &gradients.table);
    }

    fn gradients(&mut self, samples: &[&Sample]) -> candle_core::Result<Gradients> {
        let (rows, batch) = PackedBatch::new(samples.iter().map(|sample| &sample.text)).compact();
        let Self { architecture, recipe, device, random, .. } = self;
        let mask = batches::token_mask(&batch.packing, architecture.embedding, recipe, random, device)?;
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
        let tokens = (embedding_bag(&table, &batch.bags)? * mask)?;
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
        let mut table = gradient(&table)?;
        freeze(&self.architecture, &rows, &mut table);
        Ok(Gradients {
            loss: f64::from(loss.to_scalar::<f32>()?),
            table,
            dense: dense.iter().map(|var| gradient(var)).collect::<candle_core::Result<_>>()?,
            rows,
        })
    }

    /// Whether every parameter is a number.
    pub(super) fn is_finite(&self) -> bool {
        let finite = |parameter: &Parameter| parameter.values.iter().all(|value| value.is_finite());
        finite(&self.table) && self.dense.iter().all(finite)
    }

    /// Goes back to a network as it was after so many epochs, with a fresh optimiser and at half the rate.
    pub(super) fn restore(&mut self, network: &Checkpoint, epochs: u32) -> Result<()> {
        for parameter in std::iter::once(&mut self.table).chain(&mut self.dense) {
            parameter.values.copy_from_slice(&network.tensor(parameter.name)?.data);
            parameter.moments.clear();
        }
        self.step = self.steps / self.recipe.epochs as usize * epochs as usize;
        (self.updates, self.broken) = (0, 0);
        self.slowdown *= 0.5;
        Ok(())
    }

    pub(super) fn tensors(&self) -> BTreeMap<String, Array> {
        std::iter::once(&self.table)
            .chain(&self.dense)
            .map(|parameter| {
                (parameter.name.to_owned(), Array::new(parameter.shape.clone(), &*parameter.values))
            })
            .collect()
    }
}

/// Takes the gradient of frozen rows away: no optimiser moves a row that never had one.
fn freeze(architecture: &Architecture, rows: &[u32], gradient: &mut [f32]) {
    let frozen = rows.iter().zip(gradient.chunks_exact_mut(architecture.embedding));
    frozen.filter(|(row, _)| architecture.is_frozen(**row)).for_each(|(_, gradient)| gradient.fill(0.0));
}

#[cfg(test)]
impl Trainer<'_> {
    /// Makes everything that follows not a number.
    pub(super) fn poison(&mut self) {
        self.dense[0].values.fill(f32::NAN);
    }
}

impl Parameter {
    /// Some rows of a matrix.
    fn rows(&self, rows: &[u32]) -> Vec<f32> {
        let width = self.shape[1];
        rows.iter().flat_map(|&row| &self.values[row as usize * width..][..width]).copied().collect()
    }
}

impl Gradients {
    fn norm(&self) -> f64 {
        (square_norm(&self.table) + self.dense.iter().map(|dense| square_norm(dense)).sum::<f64>()).sqrt()
    }
}
