//! What a stored version answers to the validation examples, measured in the classes of any manifest.

use rayon::prelude::*;

use super::{jobs::Shared, metrics::argmax};
use crate::{
    dataset::{Example, Split},
    error::Result,
    model::{Classifier, LeafProbabilities},
    registry::ModelId,
    taxonomy::{LeafGroups, LeafId, Manifest, Meaning, VersionNumber},
};

/// The validation examples of a model and what the network of a version says to each.
pub(super) struct Answered {
    examples: Vec<Example>,
    rows: LeafProbabilities,
    leaves: Vec<LeafId>,
}

/// How many answers were right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Scored {
    pub(super) right: u64,
    /// Examples whose label means one class.
    pub(super) counted: u64,
}

impl Answered {
    /// Asks the network of a version.
    pub(super) fn by(
        shared: &Shared,
        model: &ModelId,
        number: VersionNumber,
        mut examples: Vec<Example>,
    ) -> Result<Self> {
        let checkpoint = shared.registry.checkpoint(model, number)?;
        let classifier = Classifier::from_checkpoint(&checkpoint)?;
        examples.retain(|example| example.split == Split::Validation);
        let texts: Vec<_> = examples.par_iter().map(|example| classifier.encode(&example.text)).collect();
        let rows = classifier.leaf_probabilities(&texts)?;
        Ok(Self { examples, rows, leaves: checkpoint.leaves })
    }

    /// Scores the answers given in the classes of `answers` by the labels as `labels` understands them: one is right
    /// where its class lives on in the class of the label.
    pub(super) fn score(&self, answers: &Manifest, labels: &Manifest) -> Result<Scored> {
        let groups = LeafGroups::new(answers, &self.leaves)?;
        let mut scored = Scored::default();
        for (example, row) in self.examples.iter().zip(self.rows.iter()) {
            let Meaning::Class(label) = labels.meaning(&example.label) else { continue };
            let answer = groups.classes[argmax(&groups.sums(row))];
            scored.counted += 1;
            scored.right += u64::from(labels.heirs(answer).contains(&label));
        }
        Ok(scored)
    }
}

impl Scored {
    /// Share of right answers; none without examples.
    pub(super) fn accuracy(self) -> Option<f64> {
        (self.counted > 0).then(|| self.right as f64 / self.counted as f64)
    }
}
