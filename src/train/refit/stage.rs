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

/// Samples that rows are fitted on at most, but for those of small classes; of more, every so many-th is taken.
pub(in crate::train) const MOST_SAMPLES: usize = 1 << 15;

/// Samples of a class that are taken in any case, as far as it has them.
const FEWEST: usize = 10;

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
    let taken = taken(train, MOST_SAMPLES, groups.classes.len());
    let samples: Vec<&Sample> = taken.iter().map(|&at| &train[at]).collect();
    let ids: Vec<u64> = taken.iter().map(|&at| train_ids[at]).collect();
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

/// Positions of the samples that rows are fitted on, ascending: spread evenly so that there are at most so many, and further ones
/// of classes that would be left with few.
fn taken(samples: &[Sample], most: usize, classes: usize) -> Vec<usize> {
    let every = samples.len().div_ceil(most).max(1);
    let mut of_class = vec![0; classes];
    samples.iter().step_by(every).for_each(|sample| of_class[sample.class as usize] += 1);
    let is_taken = |(at, sample): (usize, &Sample)| {
        let count = &mut of_class[sample.class as usize];
        let further = at % every != 0 && *count < FEWEST;
        *count += usize::from(further);
        (further || at % every == 0).then_some(at)
    };
    samples.iter().enumerate().filter_map(is_taken).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{EncodedText, Terms};

    #[test]
    fn a_small_class_is_never_left_out_where_only_some_samples_are_taken() {
        // Of 100 samples the last class has three, at odd places.
        let terms = Terms::default();
        let sample = |at: usize| {
            let class = if [31, 33, 35].contains(&at) { 2 } else { u32::from(at % 2 == 1) };
            Sample { text: EncodedText::of_terms("x", &terms), class }
        };
        let samples: Vec<Sample> = (0..100).map(sample).collect();
        let taken = taken(&samples, 50, 3);
        let of = |class: u32| taken.iter().filter(|&&at| samples[at].class == class).count();
        assert_eq!([of(0), of(1), of(2)], [50, FEWEST, 3]);
        assert!(taken.is_sorted_by(|a, b| a < b));
        // A class that has enough of them is thinned as evenly as before.
        let even: Vec<usize> = taken.iter().copied().filter(|&at| samples[at].class == 0).collect();
        assert!(even.into_iter().eq((0..100).step_by(2)));
        assert!(super::taken(&samples, 100, 3).into_iter().eq(0..100));
    }
}
