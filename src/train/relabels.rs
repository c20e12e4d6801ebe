//! Labels that are probably wrong: examples that the serving version answers with another class, and is sure about it.
//!
//! It has learnt the labels of those that train. A network first learns what many examples agree on, and fits single ones
//! that do not late or, stopped at its lowest validation loss, never (Arpit et al. 2017, A closer look at memorization
//! in deep networks). So where it contradicts what it was taught, the label is the likelier fault.

use rayon::prelude::*;

use super::{Jobs, metrics::argmax};
use crate::{
    cancel::Cancellation,
    dataset::{Example, hold_out},
    error::Result,
    model::Classifier,
    registry::{ModelId, Selector, Version},
    taxonomy::{ClassId, LeafGroups, Manifest},
};

/// Texts whose answers are held at once: a row of leaves each.
const CHUNK: usize = 1024;

/// Examples whose label the serving version contradicts.
#[derive(Debug, Clone)]
pub struct RelabelSuggestions {
    /// The version that was asked.
    pub version: Version,
    /// The classes it answers in.
    pub manifest: Manifest,
    /// Examples whose label means one class.
    pub examples: u64,
    /// Those of them that are contradicted with the confidence asked for.
    pub contradicted: u64,
    /// The first of these, by margin, then by id.
    pub found: Vec<Contradiction>,
}

/// An example that is answered with another class than that of its label.
#[derive(Debug, Clone, PartialEq)]
pub struct Contradiction {
    /// The example, on the side of the split that a training in these classes has it on.
    pub example: Example,
    /// The class of its label.
    pub label: ClassId,
    /// The class that is answered.
    pub answer: ClassId,
    /// Probability of the answer.
    pub probability: f64,
    /// Probability of the class of the label.
    pub label_probability: f64,
}

impl Contradiction {
    /// How far the answer is ahead of the label, in probability.
    fn margin(&self) -> f64 {
        self.probability - self.label_probability
    }
}

impl Jobs {
    /// Examples, on either side of the split, that the serving version answers with another class than that of their label
    /// and with a probability of at least `min_confidence`; at most `limit`. Asks the network about all examples.
    ///
    /// # Errors
    /// [`crate::error::Error::NotFound`]; [`crate::error::Error::Precondition`] for a model without a version.
    pub fn suggest_relabels(
        &self,
        id: &ModelId,
        min_confidence: f64,
        limit: usize,
        cancel: &Cancellation,
    ) -> Result<RelabelSuggestions> {
        let registry = &self.shared.registry;
        let version = registry.version(id, registry.resolve(id, &Selector::Serving)?)?;
        let manifest = registry.manifest(id, version.revision)?;
        let classifier = Classifier::from_checkpoint(&registry.checkpoint(id, version.number)?)?;
        let groups = LeafGroups::new(&manifest, classifier.leaves())?;
        let mut examples = self.shared.dataset.until(cancel.clone()).all(registry.model(id)?.uid)?;
        hold_out(&mut examples, &manifest);
        let labelled = labelled(examples, &manifest, &groups);
        let (mut contradicted, mut found) = (0, Vec::new());
        for chunk in labelled.chunks(CHUNK) {
            let contradictions = contradictions(chunk, &classifier, &groups, min_confidence, cancel)?;
            contradicted += contradictions.len() as u64;
            found.extend(contradictions);
            found.sort_by(|a, b| b.margin().total_cmp(&a.margin()).then(a.example.id.cmp(&b.example.id)));
            found.truncate(limit);
        }
        Ok(RelabelSuggestions { version, manifest, examples: labelled.len() as u64, contradicted, found })
    }
}

/// The examples whose label means one class, each with its column.
fn labelled(examples: Vec<Example>, manifest: &Manifest, groups: &LeafGroups) -> Vec<(Example, usize)> {
    let column = |example: Example| {
        let column = groups.column(example.class_in(manifest)?)? as usize;
        Some((example, column))
    };
    examples.into_iter().filter_map(column).collect()
}

/// Those of the examples that are answered otherwise, in the same order.
fn contradictions(
    examples: &[(Example, usize)],
    classifier: &Classifier,
    groups: &LeafGroups,
    min_confidence: f64,
    cancel: &Cancellation,
) -> Result<Vec<Contradiction>> {
    let encode = |(example, _): &(Example, usize)| {
        cancel.check()?;
        Ok(classifier.encode(&example.text))
    };
    let texts = examples.par_iter().map(encode).collect::<Result<Vec<_>>>()?;
    let rows = classifier.leaf_probabilities(&texts)?;
    let contradiction = |((example, label), row): (&(Example, usize), &[f32])| {
        let sums = groups.sums(row);
        let answer = argmax(&sums);
        (answer != *label && sums[answer] >= min_confidence).then(|| Contradiction {
            example: example.clone(),
            label: groups.classes[*label],
            answer: groups.classes[answer],
            probability: sums[answer],
            label_probability: sums[*label],
        })
    };
    Ok(examples.iter().zip(rows.iter()).filter_map(contradiction).collect())
}
