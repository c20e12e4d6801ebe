//! Batches made ready while the step before runs: packed, and with what the step does not see.

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::{Recipe, Sample, batches};
use crate::{
    model::{
        Architecture,
        cuda::{Dropout, HostBatch, Masking, Occurrences},
        gradients::Masks,
    },
    text::PackedBatch,
};

/// What a step on the processor learns from.
#[derive(Debug)]
pub(super) struct HostStep {
    pub(super) batch: PackedBatch,
    /// The class of each text, in the order of the batch as given.
    pub(super) labels: Vec<u32>,
    pub(super) masks: Masks,
}

/// A batch as an engine takes it.
#[derive(Debug)]
pub(super) enum Prepared {
    Host(HostStep),
    Device(HostBatch),
}

/// Makes batches ready for one kind of engine.
#[derive(Debug, Clone, Copy)]
pub(super) enum Preparer {
    Host(Architecture),
    Device,
}

impl Preparer {
    /// Packs samples and draws what the step does not see; for a device, from what it will draw that.
    pub(super) fn prepare(self, samples: &[&Sample], recipe: &Recipe, random: &mut ChaCha8Rng) -> Prepared {
        let batch = PackedBatch::new(samples.iter().map(|sample| &sample.text));
        let labels = samples.iter().map(|sample| sample.class).collect();
        match self {
            Self::Host(architecture) => {
                let tokens = batches::token_mask(&batch.packing, architecture.embedding, recipe, random);
                let features = batches::feature_mask(samples.len(), architecture.features(), recipe, random);
                Prepared::Host(HostStep { batch, labels, masks: Masks { tokens, features } })
            }
            Self::Device => {
                let occurrences = Occurrences::of(&batch.bags);
                let masking = Masking::Drawn(Dropout {
                    seed: random.random(),
                    words: recipe.word_dropout,
                    embedding: recipe.embedding_dropout,
                    output: recipe.output_dropout,
                });
                Prepared::Device(HostBatch { batch, occurrences, labels, masking })
            }
        }
    }
}
