//! How a network stands on samples that it does not learn from.

use super::{Confusion, Judged, Sample, calibrate::fit_scales, metrics::argmax};
use crate::{model::BranchLogits, taxonomy::LeafGroups};

/// How a network stands on the validation samples, with the scales that suit them best.
pub(super) struct Validated {
    pub(super) scales: [f32; 2],
    /// Mean of - log P[label], in nats.
    pub(super) loss: f64,
    pub(super) confusion: Confusion,
    pub(super) judged: Vec<Judged>,
}

/// Measures what both branches say about samples; `wide` says whether there is a wide branch.
pub(super) fn validate(
    logits: &BranchLogits,
    samples: &[Sample],
    groups: &LeafGroups,
    wide: bool,
) -> Validated {
    let labels: Vec<u32> = samples.iter().map(|sample| sample.class).collect();
    let scales = fit_scales(logits, &labels, groups, wide);
    let confusion = Confusion::new(groups.classes.len());
    let mut validated = Validated { scales, loss: 0.0, confusion, judged: Vec::new() };
    let probabilities = logits.probabilities(scales);
    for (&label, row) in labels.iter().zip(probabilities.iter()) {
        let classes = groups.sums(row);
        let answer = argmax(&classes);
        validated.loss -= classes[label as usize].max(f64::MIN_POSITIVE).ln() / labels.len() as f64;
        validated.confusion.add(label as usize, answer);
        validated.judged.push(Judged { confidence: classes[answer], right: answer == label as usize });
    }
    validated
}
