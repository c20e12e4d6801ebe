//! What a training starts from: the network, the encoded examples, and the recipe.

use rayon::prelude::*;

use super::{
    Recipe, Sample, Strategy, TrainOptions,
    imprint::{Grown, imprint},
    jobs::Shared,
    leaves::Leaves,
};
use crate::{
    cancel::Cancellation,
    dataset::{Example, Meanings, Split},
    error::Result,
    model::{Architecture, Checkpoint, Preset, VectorFile, from_vectors, surgery, with_newcomers},
    registry::{Mode, Model, PretrainedVectors},
    taxonomy::{LeafGroups, LeafId, Manifest},
    text::TextEncoder,
};

/// The examples of a model, ready to learn from: each with the column of its class.
#[derive(Default)]
pub(super) struct Samples {
    pub(super) train: Vec<Sample>,
    /// Ids of the examples that train, ascending.
    pub(super) train_ids: Vec<u64>,
    pub(super) validation: Vec<Sample>,
    /// Ids of those that validate, ascending.
    pub(super) validation_ids: Vec<u64>,
}

/// The network that the training starts from: new, with word vectors if the model was made with some, or the serving one
/// with the rows that the manifest needs and the vocabulary that the examples bring. Rows of leaves that are learnt for the
/// first time are fitted to a part of the examples or, where the whole softmax is to be learnt anew, are random.
pub(super) fn start_network(
    shared: &Shared,
    model: &Model,
    leaves: &Leaves,
    manifest: &Manifest,
    examples: &[Example],
    mode: Mode,
    options: &TrainOptions,
) -> Result<Checkpoint> {
    let seed = options.seed;
    let all: Vec<LeafId> = leaves.all.iter().copied().collect();
    let texts = || examples.iter().filter(|e| e.split == Split::Train).map(|e| e.text.as_str());
    let architecture = Architecture::preset(model.preset);
    match (model.serving().filter(|_| mode != Mode::Scratch), &model.word_vectors) {
        (None, None) => Ok(surgery::from_scratch(architecture, texts(), &all, seed)),
        (None, Some(PretrainedVectors { file, frozen })) => {
            let input = shared.vectors.open(file)?;
            let file = VectorFile { name: file.to_string(), input, frozen: *frozen };
            from_vectors(architecture, texts(), &all, seed, file)
        }
        (Some(number), _) => {
            let serving = shared.registry.checkpoint(&model.id, number)?;
            let grown = surgery::with_vocabulary_of(&serving, texts(), seed)?;
            let fresh = match options.strategy {
                Strategy::Seed => leaves.all.clone(),
                _ => leaves.fresh(),
            };
            let kept: Vec<LeafId> = all.iter().filter(|leaf| !fresh.contains(leaf)).copied().collect();
            let known = surgery::with_leaves(&grown, &kept, seed)?;
            if fresh.is_empty() || kept.is_empty() {
                return surgery::with_leaves(&known, &all, seed);
            }
            let fresh: Vec<LeafId> = fresh.into_iter().collect();
            let silent = with_newcomers(&known, &kept.iter().copied().collect(), &fresh)?;
            let kept = shared.kept(model.uid);
            let before =
                shared.registry.manifest(&model.id, shared.registry.version(&model.id, number)?.revision)?;
            let grown = Grown { network: silent, before: &before, newcomers: &fresh };
            surgery::with_leaves(
                &imprint(grown, manifest, examples, kept, &Cancellation::default())?.network,
                &all,
                seed,
            )
        }
    }
}

/// Encodes the examples whose label means one class of the manifest.
pub(super) fn samples(
    manifest: &Manifest,
    groups: &LeafGroups,
    encoder: &TextEncoder,
    examples: &[Example],
) -> Samples {
    let meanings = Meanings::new(Some(manifest.clone()));
    let meant: Vec<(&Example, u32)> = examples
        .iter()
        .filter_map(|example| Some((example, groups.column(meanings.class_id_of(example)?)?)))
        .collect();
    let encode = |&(example, class): &(&Example, u32)| Sample { text: encoder.encode(&example.text), class };
    let encoded: Vec<Sample> = meant.par_iter().map(encode).collect();
    let mut samples = Samples::default();
    for ((example, _), sample) in meant.into_iter().zip(encoded) {
        match example.split {
            Split::Train => {
                samples.train.push(sample);
                samples.train_ids.push(example.id);
            }
            Split::Validation => {
                samples.validation.push(sample);
                samples.validation_ids.push(example.id);
            }
        }
    }
    samples
}

/// The recipe of a training, with what its caller chose.
pub(super) fn recipe(preset: Preset, mode: Mode, examples: usize, options: &TrainOptions) -> Recipe {
    let recipe = Recipe::for_training(preset, mode, examples);
    let recipe = match options.optimiser {
        Some(optimiser) => recipe.with_optimiser(optimiser, mode),
        None => recipe,
    };
    Recipe {
        epochs: options.epochs.unwrap_or(recipe.epochs),
        learning_rate: options.learning_rate.unwrap_or(recipe.learning_rate),
        word_shuffle: options.word_shuffle.unwrap_or(recipe.word_shuffle),
        ..recipe
    }
}
