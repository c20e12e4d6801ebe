//! How a network is trained: every number that is not learnt.

use serde::{Deserialize, Serialize};

use super::{WideRecipe, optimiser::one_cycle, sgd::step_decay};
use crate::{model::Preset, registry::Mode};

/// Optimiser steps below which a network from scratch has hardly begun, however small the data.
const MIN_STEPS_FROM_SCRATCH: usize = 400;

/// Most passes over the examples that a recipe asks for by itself.
const MAX_EPOCHS: u32 = 60;

/// The settings of a training.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Passes over the examples; at least 1.
    pub epochs: u32,
    /// Learning rate at its peak.
    pub learning_rate: f64,
    /// Learning rate of the embedding, as a multiple of the others'. A row moves only when a batch touches it, so that
    /// rare features would hardly move at the common rate.
    pub embedding_rate: f64,
    /// Share of the steps over which the rate climbs to its peak; after that it falls as a cosine to 0.
    pub warmup: f64,
    /// Examples a step.
    pub batch: usize,
    /// Shrinkage of weight matrices a step, as a share of the rate. Biases and embeddings do not shrink.
    pub weight_decay: f32,
    /// Largest norm of the gradient of all parameters together.
    pub clip_norm: f64,
    /// Probability that the target spreads over all classes.
    pub label_smoothing: f32,
    /// Probability that a token is not seen at all.
    pub word_dropout: f32,
    /// Probability that a feature of a token is not seen, where the token has several.
    pub feature_dropout: f32,
    /// Probability that a column of the embedding is not seen throughout a text.
    pub embedding_dropout: f32,
    /// Probability that a feature is not seen by the head.
    pub output_dropout: f32,
    /// How the wide branch is fitted, where there is one.
    pub wide: WideRecipe,
    /// Half of what a squared unit that a row of the softmax moves in a refit costs, in nats.
    pub refit_decay: f64,
    /// Probability that the words of a text are read in random order.
    pub word_shuffle: f32,
    /// How gradients become updates, and the schedule of the rate with it.
    pub optimiser: Optimiser,
}

/// How gradients become updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Optimiser {
    /// Adam with decoupled weight decay; the rate climbs over the warm-up, then falls as a cosine.
    AdamW,
    /// Plain gradient descent; the rate stays, and halves each epoch after the thirtieth.
    Sgd,
}

impl Recipe {
    /// The recipe for a preset, a mode, and a number of examples that train.
    ///
    /// From scratch the default preset takes 12 epochs at 3e-3, and more of smaller batches where the examples are few;
    /// a network that has learnt takes 3 at three tenths of the rate, or 2 after a change of the classes, whose rows were fitted
    /// before: enough to learn what is new and not so much that it forgets.
    pub fn for_training(preset: Preset, mode: Mode, examples: usize) -> Self {
        let (epochs, learning_rate) = match preset {
            Preset::Default => (12, 3e-3),
            Preset::Seed => (8, 1e-3),
        };
        let batch = match examples {
            0..500 => 16,
            500..3_000 => 32,
            _ => 64,
        };
        let (wide_epochs, wide_rate) = match mode {
            Mode::Scratch => (12, 0.1),
            Mode::Continue | Mode::Transfer => (3, 0.05),
        };
        let (epochs, learning_rate) = match mode {
            Mode::Scratch => {
                let needed = MIN_STEPS_FROM_SCRATCH.div_ceil(examples.div_ceil(batch).max(1));
                (u32::try_from(needed).unwrap_or(MAX_EPOCHS).clamp(epochs, MAX_EPOCHS), learning_rate)
            }
            Mode::Continue => (3, 0.3 * learning_rate),
            Mode::Transfer => (2, 0.3 * learning_rate),
        };
        Self {
            epochs,
            learning_rate,
            embedding_rate: 5.0,
            warmup: 0.1,
            batch,
            weight_decay: 0.01,
            clip_norm: 1.0,
            label_smoothing: 0.1,
            word_dropout: 0.1,
            feature_dropout: 0.2,
            embedding_dropout: 0.2,
            output_dropout: 0.4,
            wide: WideRecipe { epochs: wide_epochs, rate: wide_rate, batch: 32, dropout: 0.6 },
            refit_decay: 1e-3,
            word_shuffle: 0.0,
            optimiser: Optimiser::AdamW,
        }
    }

    /// The same training by another optimiser. For gradient descent that is the classic recipe: rate 0.1, clip 5, dropout
    /// 0.5 before the head and no other regularisation. A network that has learnt takes three tenths of the rate.
    #[must_use]
    pub fn with_optimiser(self, optimiser: Optimiser, mode: Mode) -> Self {
        if optimiser == self.optimiser {
            return self;
        }
        match optimiser {
            Optimiser::AdamW => Self { optimiser, ..self },
            Optimiser::Sgd => Self {
                optimiser,
                learning_rate: if mode == Mode::Scratch { 0.1 } else { 0.03 },
                embedding_rate: 1.0,
                weight_decay: 0.0,
                clip_norm: 5.0,
                label_smoothing: 0.0,
                word_dropout: 0.0,
                feature_dropout: 0.0,
                embedding_dropout: 0.0,
                output_dropout: 0.5,
                ..self
            },
        }
    }

    /// The learning rate of a step, counted from 0, of so many.
    pub(super) fn rate(&self, step: usize, steps: usize) -> f64 {
        match self.optimiser {
            Optimiser::AdamW => one_cycle(step, steps, self.learning_rate, self.warmup),
            Optimiser::Sgd => step_decay(step, steps / self.epochs.max(1) as usize, self.learning_rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_examples_are_passed_more_often() {
        let recipe = |examples| Recipe::for_training(Preset::Default, Mode::Scratch, examples);
        assert_eq!(recipe(10_000).epochs, 12);
        assert_eq!((recipe(1_000).batch, recipe(1_000).epochs), (32, 13));
        assert_eq!((recipe(100).batch, recipe(100).epochs), (16, 58));
        assert_eq!(recipe(0).epochs, MAX_EPOCHS);
    }

    #[test]
    fn gradient_descent_is_the_classic_recipe_with_a_rate_that_stays() {
        let recipe = Recipe::for_training(Preset::Seed, Mode::Scratch, 10_000);
        let classic = recipe.clone().with_optimiser(Optimiser::Sgd, Mode::Scratch);
        assert_eq!((classic.learning_rate, classic.clip_norm, classic.output_dropout), (0.1, 5.0, 0.5));
        assert_eq!((classic.epochs, classic.batch), (recipe.epochs, recipe.batch));
        assert_eq!((classic.rate(0, 800), classic.rate(799, 800)), (0.1, 0.1));
        assert!(recipe.rate(799, 800) < 0.01 * recipe.learning_rate);
        assert_eq!(recipe.clone().with_optimiser(Optimiser::AdamW, Mode::Scratch), recipe);
    }

    #[test]
    fn what_has_been_learnt_is_changed_gently() {
        let scratch = Recipe::for_training(Preset::Default, Mode::Scratch, 10_000);
        let transfer = Recipe::for_training(Preset::Default, Mode::Transfer, 10_000);
        assert!(transfer.epochs < scratch.epochs && transfer.learning_rate < scratch.learning_rate);
    }
}
