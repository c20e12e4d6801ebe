//! The refit of all rows as a stage of a training.

use std::{collections::BTreeSet, time::Duration};

use super::{Featured, RefitRecipe, head_logits, refit};
use crate::{
    error::Result,
    model::{BranchLogits, Checkpoint},
    taxonomy::{LeafGroups, LeafId},
    train::{
        FitProgress, Fitted, Recipe, Sample, features::Kept, fit::wide_logits, start::Samples,
        validation::validate,
    },
};

/// Samples that rows are fitted on at most; of more, every so many-th is taken.
pub(in crate::train) const MOST_SAMPLES: usize = 1 << 15;

/// Steps of the solver: from rows that stood before a change it is not far.
const STEPS: usize = 15;

/// Fits the rows of all leaves on the encoder as it is, and then the scales of the branches. `observe` is told how far it is and may break off.
///
/// # Errors
/// Those of `observe` and of the network.
pub(in crate::train) fn refit_all(
    start: &Checkpoint,
    Samples { train, train_ids, validation, validation_ids }: &Samples,
    groups: &LeafGroups,
    recipe: &Recipe,
    (seed, kept): (u64, Kept<'_>),
    observe: &mut dyn FnMut(&FitProgress) -> Result<()>,
) -> Result<Fitted> {
    let every = train.len().div_ceil(MOST_SAMPLES).max(1);
    let samples: Vec<&Sample> = train.iter().step_by(every).collect();
    let ids: Vec<u64> = train_ids.iter().step_by(every).copied().collect();
    let mut progress = FitProgress {
        stage: "features",
        epoch: 0,
        epochs: 0,
        step: 0,
        steps: samples.len() as u64,
        loss: 0.0,
        validation_accuracy: None,
        examples_per_second: 0.0,
        eta: Duration::ZERO,
    };
    let kept = kept.of(start);
    let features = kept.read(&samples, &ids, &mut |done| {
        progress.step = done as u64;
        observe(&progress)
    })?;
    let held_out: Vec<&Sample> = validation.iter().collect();
    let held_out = kept.read(&held_out, validation_ids, &mut |_| observe(&progress))?;
    progress.stage = "refit";
    observe(&progress)?;
    let weights = vec![1.0; samples.len()];
    let data = Featured { samples: &samples, features: &features, weights: &weights };
    let leaves: BTreeSet<LeafId> = start.leaves.iter().copied().collect();
    let rows = RefitRecipe {
        decay: recipe.refit_decay,
        steps: STEPS,
        smoothing: recipe.label_smoothing,
        wide: recipe.wide,
    };
    let fitted = refit(start.clone(), data, groups, &leaves, &rows, seed)?;
    observe(&progress)?;
    judged(fitted, validation, &held_out, groups)
}

/// A network with its scales fitted on samples, of which the encoder makes these features, and how it stands on them.
fn judged(network: Checkpoint, samples: &[Sample], features: &[f32], groups: &LeafGroups) -> Result<Fitted> {
    let device = "cpu".to_owned();
    if samples.is_empty() {
        return Ok(Fitted::measured(network, None, device));
    }
    let logits = BranchLogits {
        deep: head_logits(&network, features)?,
        wide: wide_logits(&network, samples),
        leaves: network.leaves.len(),
    };
    let measured = validate(&logits, samples, groups, network.architecture.wide);
    Ok(Fitted::measured(network, Some(measured), device))
}
