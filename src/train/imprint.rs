//! Rows for classes that came, from a part of the examples: good enough to answer with at once.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::{
    Recipe, Sample, WideRecipe,
    features::Kept,
    refit::{Featured, RefitRecipe, refit},
};
use crate::{
    dataset::{Example, Meanings, Split},
    error::Result,
    model::Checkpoint,
    registry::Mode,
    taxonomy::{ClassId, LeafGroups, LeafId, Manifest},
};

/// Examples of a class that came.
const OWN: usize = 512;
/// Examples of all other classes together.
const OTHERS: usize = 1024;

/// How rows that came are fitted: not to the end, since a job goes on.
fn recipe(network: &Checkpoint) -> RefitRecipe {
    let Recipe { label_smoothing, refit_decay, wide, .. } =
        Recipe::for_training(network.architecture.preset, Mode::Scratch, OTHERS);
    let wide = WideRecipe { epochs: wide.epochs / 2, rate: 2.0 * wide.rate, ..wide };
    RefitRecipe { decay: refit_decay, steps: 20, smoothing: label_smoothing, wide }
}

/// A network with rows of some leaves fitted to the examples that train, those of the other leaves as they are. Leaves of
/// classes without examples keep their rows as well.
///
/// # Errors
/// Those of the network.
pub(super) fn imprint(
    network: &Checkpoint,
    manifest: &Manifest,
    newcomers: &[LeafId],
    examples: &[Example],
    kept: Kept<'_>,
) -> Result<Checkpoint> {
    let came: BTreeSet<ClassId> = manifest
        .active()
        .filter(|class| class.leaves().any(|leaf| newcomers.contains(&leaf)))
        .map(|class| class.id)
        .collect();
    let training = examples.iter().filter(|example| example.split == Split::Train);
    let meanings = Meanings::new(Some(manifest.clone()));
    let meant = training.filter_map(|example| Some((example, meanings.class_id_of(example)?)));
    let (own, others): (Vec<_>, Vec<_>) = meant.partition(|(_, class)| came.contains(class));
    if own.is_empty() {
        return Ok(network.clone());
    }
    let mut by_class: BTreeMap<ClassId, Vec<(&Example, ClassId)>> = BTreeMap::new();
    own.into_iter().for_each(|meant| by_class.entry(meant.1).or_default().push(meant));
    let chosen = by_class.values().flat_map(|own| spread(own, OWN)).chain(spread(&others, OTHERS));
    let (chosen, weights): (Vec<&(&Example, ClassId)>, Vec<f32>) = chosen.unzip();

    let groups = LeafGroups::new(manifest, &network.leaves)?;
    let encoder = network.text_encoder()?;
    let samples: Vec<Sample> = chosen
        .par_iter()
        .map(|(example, class)| Sample {
            text: encoder.encode(&example.text),
            // Active classes have a column.
            class: groups.column(*class).unwrap_or_default(),
        })
        .collect();
    let samples: Vec<&Sample> = samples.iter().collect();
    let free =
        by_class.keys().filter_map(|class| manifest.classes.get(class)).flat_map(|class| class.leaves());
    let ids: Vec<u64> = chosen.iter().map(|(example, _)| example.id).collect();
    let features = kept.features(network, &samples, &ids, &mut |_| Ok(()))?;
    let data = Featured { samples: &samples, features: &features, weights: &weights };
    refit(network, data, &groups, &free.collect(), &recipe(network), 0)
}

/// At most so many of some things, spread evenly, each with how many it stands for.
fn spread<T>(all: &[T], at_most: usize) -> impl Iterator<Item = (&T, f32)> {
    let every = all.len().div_ceil(at_most).max(1);
    all.iter().step_by(every).map(move |one| (one, every as f32))
}
