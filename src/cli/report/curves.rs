//! What was learnt, epoch by epoch.

use svg::node::element::SVG;

use super::chart::{COLOURS, Chart};
use crate::{
    cli::output::percent,
    proto::v1::{TrainingEpoch, Version},
};

/// Versions that are drawn at most.
pub(super) const LINES: usize = COLOURS.len();

/// The curve of a version.
pub(super) struct Curve<'a> {
    pub(super) version: &'a Version,
    pub(super) colour: &'static str,
    epochs: &'a [TrainingEpoch],
}

/// The curves of the newest versions that have one.
pub(super) fn of(versions: &[Version]) -> Vec<Curve<'_>> {
    versions
        .iter()
        .filter_map(|version| Some((version, version.report.as_ref()?.curve.as_slice())))
        .filter(|(_, epochs)| !epochs.is_empty())
        .zip(COLOURS)
        .map(|((version, epochs), colour)| Curve { version, colour, epochs })
        .collect()
}

/// Accuracy on the validation examples after each epoch. None where no version has any.
pub(super) fn accuracy(curves: &[Curve<'_>]) -> Option<SVG> {
    draw(curves, "validation accuracy", percent, |epoch| epoch.validation_accuracy)
}

/// Loss on the training examples in each epoch.
pub(super) fn loss(curves: &[Curve<'_>]) -> Option<SVG> {
    draw(curves, "training loss (nats)", |loss| format!("{loss:.4}"), |epoch| Some(epoch.train_loss))
}

fn draw(
    curves: &[Curve<'_>],
    what: &str,
    shown: impl Fn(f64) -> String,
    value: impl Fn(&TrainingEpoch) -> Option<f64>,
) -> Option<SVG> {
    let lines: Vec<(&Curve<'_>, Vec<(f64, f64)>)> = curves
        .iter()
        .map(|curve| {
            let points =
                curve.epochs.iter().filter_map(|epoch| Some((f64::from(epoch.epoch), value(epoch)?)));
            (curve, points.collect())
        })
        .filter(|(_, points): &(_, Vec<_>)| !points.is_empty())
        .collect();
    let points = || lines.iter().flat_map(|(_, points)| points);
    let last = points().map(|point| point.0).reduce(f64::max)?;
    let (low, high) =
        (points().map(|point| point.1).reduce(f64::min)?, points().map(|point| point.1).reduce(f64::max)?);
    let mut chart = Chart::new((1.0, last), (low, high), "epoch", what);
    for (curve, points) in &lines {
        chart.line(points, curve.colour, |at| {
            let (epoch, value) = points[at];
            format!("version {}, epoch {epoch}: {}", curve.version.number, shown(value))
        });
    }
    Some(chart.svg(&format!("{what} by epoch, a line for each version")))
}
