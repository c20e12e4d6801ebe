//! What a stored version answers to examples, measured in the classes of any manifest.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::{Confusion, jobs::Shared, metrics::argmax};
use crate::{
    cancel::Cancellation,
    dataset::{Example, Split},
    error::Result,
    model::{Checkpoint, Classifier, LeafProbabilities},
    registry::ModelId,
    taxonomy::{ClassId, LeafGroups, LeafId, Manifest, VersionNumber},
};

/// Texts that are answered between two looks at whether to go on.
const CHUNK: usize = 1024;

/// Examples of a model and what the network of a version says to each.
pub(super) struct Answered {
    examples: Vec<Example>,
    /// Of each chunk of the examples.
    rows: Vec<LeafProbabilities>,
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
        examples: Vec<Example>,
        cancel: &Cancellation,
    ) -> Result<Self> {
        Self::of(&shared.registry.checkpoint(model, number)?, examples, cancel)
    }

    /// Asks a network.
    pub(super) fn of(checkpoint: &Checkpoint, examples: Vec<Example>, cancel: &Cancellation) -> Result<Self> {
        let classifier = Classifier::from_checkpoint(checkpoint)?;
        let encode = |example: &Example| {
            cancel.check()?;
            Ok(classifier.encode(&example.text))
        };
        let mut rows = Vec::with_capacity(examples.len().div_ceil(CHUNK));
        for chunk in examples.chunks(CHUNK) {
            let texts = chunk.par_iter().map(encode).collect::<Result<Vec<_>>>()?;
            rows.push(classifier.leaf_probabilities(&texts)?);
        }
        Ok(Self { examples, rows, leaves: checkpoint.leaves.clone() })
    }

    /// The leaf of each row of the answers.
    pub(super) fn leaves(&self) -> &[LeafId] {
        &self.leaves
    }

    /// The examples, each with the probabilities of the leaves.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Example, &[f32])> {
        self.examples.iter().zip(self.rows.iter().flat_map(LeafProbabilities::iter))
    }

    /// Counts the answers given in the classes of `answers` by the labels as `labels` understands them, both by the columns
    /// of its active classes, which are returned: an answer is right where its class lives on in the class of the label.
    /// One that lives on nowhere counts as one for some other class. Examples that `counts` refuses are left out.
    pub(super) fn confusion(
        &self,
        answers: &Manifest,
        labels: &Manifest,
        counts: impl Fn(&Example) -> bool,
    ) -> Result<(Confusion, Vec<ClassId>)> {
        let groups = LeafGroups::new(answers, &self.leaves)?;
        let columns: Vec<ClassId> = labels.active().map(|class| class.id).collect();
        let column = |class: ClassId| columns.binary_search(&class).ok();
        let heirs: Vec<BTreeSet<ClassId>> = groups.classes.iter().map(|class| labels.heirs(*class)).collect();
        let mut confusion = Confusion::new(columns.len());
        for (example, row) in self.iter().filter(|(example, _)| counts(example)) {
            let Some((class, label)) =
                example.class_in(labels).and_then(|class| Some((class, column(class)?)))
            else {
                continue;
            };
            let heirs = &heirs[argmax(&groups.sums(row))];
            let heir = if heirs.contains(&class) { Some(class) } else { heirs.first().copied() };
            let other = (label + 1) % columns.len();
            confusion.add(label, heir.and_then(column).unwrap_or(other));
        }
        Ok((confusion, columns))
    }

    /// Scores the answers in the classes of two manifests, each by its own labels, on the examples whose label means one
    /// class in both.
    pub(super) fn compare(&self, before: &Manifest, after: &Manifest) -> Result<[Scored; 2]> {
        let manifests = [before, after];
        let groups = [LeafGroups::new(before, &self.leaves)?, LeafGroups::new(after, &self.leaves)?];
        let mut scored = [Scored::default(); 2];
        for (example, row) in self.iter() {
            let judged = [0, 1].map(|side| judge(manifests[side], &groups[side], example, row));
            if let [Some(before), Some(after)] = judged {
                scored[0].count(before);
                scored[1].count(after);
            }
        }
        Ok(scored)
    }
}

/// The examples that validate.
pub(super) fn validating(mut examples: Vec<Example>) -> Vec<Example> {
    examples.retain(|example| example.split == Split::Validation);
    examples
}

/// Whether the answer to an example is right; none where its label means no single class.
fn judge(manifest: &Manifest, groups: &LeafGroups, example: &Example, row: &[f32]) -> Option<bool> {
    let label = example.class_in(manifest)?;
    Some(groups.classes[argmax(&groups.sums(row))] == label)
}

impl Scored {
    fn count(&mut self, right: bool) {
        self.counted += 1;
        self.right += u64::from(right);
    }

    /// Share of right answers; none without examples.
    pub(super) fn accuracy(self) -> Option<f64> {
        (self.counted > 0).then(|| self.right as f64 / self.counted as f64)
    }
}
