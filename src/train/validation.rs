//! How a network stands on samples that it does not learn from.

use candle_core::Device;

use super::{Confusion, Judged, Sample, calibrate::fit_scales, metrics::argmax};
use crate::{
    error::Result,
    model::{Checkpoint, Network},
    taxonomy::LeafGroups,
    text::EncodedText,
};

/// How a network stands on the validation samples, with the scales that suit them best.
pub(super) struct Validated {
    pub(super) scales: [f32; 2],
    /// Mean of - log P[label], in nats.
    pub(super) loss: f64,
    pub(super) confusion: Confusion,
    pub(super) judged: Vec<Judged>,
}

/// Asks the network of a checkpoint about samples.
pub(super) fn validate(
    checkpoint: &Checkpoint,
    samples: &[Sample],
    groups: &LeafGroups,
    device: &Device,
) -> Result<Validated> {
    let texts: Vec<&EncodedText> = samples.iter().map(|sample| &sample.text).collect();
    let labels: Vec<u32> = samples.iter().map(|sample| sample.class).collect();
    let architecture = &checkpoint.architecture;
    let logits = Network::new(architecture, &checkpoint.tensors, device)?.branch_logits(&texts)?;
    let scales = fit_scales(&logits, &labels, groups, architecture.wide);
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
    Ok(validated)
}
