//! One training step at a time: a batch, its gradients, an update of the parameters.
//!
//! The parameters live here as plain arrays. Of the embedding a step reads and updates only the rows that the batch
//! touches; so nothing grows with the vocabulary but memory.

use std::collections::BTreeMap;

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
        Architecture, Array, Checkpoint,
        checkpoint::{EMBEDDING, HEAD_BIAS, HEAD_WEIGHT, LSTM_BIAS, LSTM_INPUT, LSTM_RECURRENT},
        gradients::{Gradients, Masks, Parameters, gradients},
        kernels::{ClassTargets, LstmWeights, release_memory},
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
    targets: ClassTargets,
    pub(super) random: ChaCha8Rng,
    table: Parameter,
    /// The LSTM's weights and bias, then the head's.
    dense: [Parameter; 5],
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

impl<'a> Trainer<'a> {
    pub(super) fn new(
        start: &Checkpoint,
        groups: &LeafGroups,
        recipe: &'a Recipe,
        steps_per_epoch: usize,
        seed: u64,
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
            targets: ClassTargets {
                class_of_leaf: groups.class_of_row.clone(),
                classes: groups.classes.len(),
                smoothing: recipe.label_smoothing,
            },
            random: ChaCha8Rng::seed_from_u64(seed),
            table: parameter(EMBEDDING, 0.0)?,
            dense: [
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
        // On the threads of the pool, so that handing work to them is cheap.
        let gradients = rayon::scope(|_| self.gradients(&samples));
        let (norm, dense) = norm_and_dense(&gradients);
        let rate = self.slowdown * self.recipe.rate(self.step, self.steps);
        (self.step, self.rate) = (self.step + 1, rate);
        if !(gradients.loss.is_finite() && norm.is_finite()) {
            self.broken += 1;
            return Ok(if self.broken < MAX_BROKEN_STEPS { Step::Skipped } else { Step::Broken });
        }
        self.broken = 0;
        self.updates += 1;
        let gradient_scale = (self.recipe.clip_norm / norm.max(1e-12)).min(1.0);
        rayon::scope(|_| match self.recipe.optimiser {
            Optimiser::AdamW => self.update(rate, gradient_scale, dense, &gradients),
            Optimiser::Sgd => self.descend(rate, gradient_scale, dense, &gradients),
        });
        Ok(Step::Learnt(gradients.loss))
    }

    fn update(&mut self, rate: f64, gradient_scale: f64, dense: [&[f32]; 5], gradients: &Gradients) {
        let update = Update::new(self.updates, rate, gradient_scale);
        for (parameter, gradient) in self.dense.iter_mut().zip(dense) {
            update.dense(&mut parameter.values, gradient, &mut parameter.moments, parameter.decay);
        }
        let (table, width) = (&mut self.table, self.architecture.embedding);
        let update = Update::new(self.updates, rate * self.recipe.embedding_rate, gradient_scale);
        update.rows(&mut table.values, width, &gradients.rows, &gradients.table, &mut table.moments);
    }

    fn descend(&mut self, rate: f64, gradient_scale: f64, dense: [&[f32]; 5], gradients: &Gradients) {
        let descent = Descent::new(rate, gradient_scale);
        for (parameter, gradient) in self.dense.iter_mut().zip(dense) {
            descent.dense(&mut parameter.values, gradient, parameter.decay);
        }
        let descent = Descent::new(rate * self.recipe.embedding_rate, gradient_scale);
        let width = self.architecture.embedding;
        descent.rows(&mut self.table.values, width, &gradients.rows, &gradients.table);
    }

    fn gradients(&mut self, samples: &[&Sample]) -> Gradients {
        let batch = PackedBatch::new(samples.iter().map(|sample| &sample.text));
        let Self { architecture, recipe, random, .. } = self;
        let tokens = batches::token_mask(&batch.packing, architecture.embedding, recipe, random);
        let features = batches::feature_mask(samples.len(), architecture.features(), recipe, random);
        let labels: Vec<u32> = samples.iter().map(|sample| sample.class).collect();
        let [input, recurrent, bias, head_weight, head_bias] =
            self.dense.each_ref().map(|parameter| &*parameter.values);
        let parameters = Parameters {
            table: &self.table.values,
            lstm: LstmWeights { input, recurrent, bias },
            head_weight,
            head_bias,
        };
        let masks = Masks { tokens, features };
        let mut gradients =
            gradients(&self.architecture, parameters, batch, &labels, &self.targets, Some(&masks));
        freeze(&self.architecture, &gradients.rows, &mut gradients.table);
        gradients
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

impl Drop for Trainer<'_> {
    fn drop(&mut self) {
        release_memory();
    }
}

/// The norm of all gradients together, and those of [`Trainer::dense`] in its order.
fn norm_and_dense(gradients: &Gradients) -> (f64, [&[f32]; 5]) {
    let Gradients { table, lstm, head_weight, head_bias, .. } = gradients;
    let dense = [&*lstm.input, &*lstm.recurrent, &*lstm.bias, &**head_weight, &**head_bias];
    let squares = square_norm(table) + dense.iter().map(|gradient| square_norm(gradient)).sum::<f64>();
    (squares.sqrt(), dense)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Preset, surgery},
        registry::Mode,
        taxonomy::{ClassId, LeafId},
    };

    /// Some steps on batches that are large enough to be shared, on a number of threads.
    fn trained(threads: usize) -> BTreeMap<String, Array> {
        let architecture =
            Architecture { embedding: 48, hidden: 40, ..Architecture::preset(Preset::Default) };
        let text = |index: usize| {
            let words = (0..3 + index % 9).map(|at| format!("word{}", (index * 7 + at * at) % 50));
            words.collect::<Vec<_>>().join(" ")
        };
        let texts: Vec<String> = (0..256).map(text).collect();
        let leaves = [LeafId(1), LeafId(2), LeafId(3)];
        let start = surgery::from_scratch(architecture, texts.iter().map(|text| &**text), &leaves, 1);
        let groups = LeafGroups {
            classes: vec![ClassId(1), ClassId(2), ClassId(3)],
            class_of_row: vec![Some(0), Some(1), Some(2)],
        };
        let encoder = start.text_encoder().unwrap();
        let samples: Vec<Sample> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| Sample { text: encoder.encode(text), class: index as u32 % 3 })
            .collect();
        let recipe = Recipe::for_training(Preset::Default, Mode::Scratch, 10_000);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut trainer = Trainer::new(&start, &groups, &recipe, 4, 1).unwrap();
            for batch in samples.chunks(64) {
                assert!(matches!(trainer.step(batch.iter()).unwrap(), Step::Learnt(_)));
            }
            trainer.tensors()
        })
    }

    #[test]
    fn one_thread_and_many_learn_the_same_bytes() {
        let one = trained(1);
        assert!(one == trained(2), "two threads learn something else than one");
        assert!(one == trained(5), "five threads learn something else than one");
    }
}
