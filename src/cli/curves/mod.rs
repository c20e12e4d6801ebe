//! `taxond curves`

mod tensorboard;

use clap::Args;
use serde_json::json;

use std::path::PathBuf;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::{Exit, Failure},
        names::{self, Target},
        output::{self, Rows, count, percent_or_dash},
    },
    proto::v1::{GetVersionRequest, TrainingEpoch, Version},
};

/// Heights of a sparkline, lowest first.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Widest sparkline; of more epochs some are left out.
const SPARK_WIDTH: usize = 60;

#[derive(Debug, Args)]
pub(super) struct Curves {
    #[command(flatten)]
    target: Target,
    /// Write the curve for TensorBoard, below this folder
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
}

impl Curves {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let name = self.target.name()?;
        let connection = Connection::open(global).await?;
        let request = connection.request(GetVersionRequest { name });
        let version = connection.registry().get_version(request).await?.into_inner().version;
        let version = version.unwrap_or_default();
        let curve = version.report.as_ref().map_or(&[][..], |report| &report.curve);
        if curve.is_empty() {
            let what = format!(
                "{} has no curve: it was made without training ({})",
                names::short(&version.name),
                version.reason
            );
            return Err(Failure::new(Exit::Invalid, what));
        }
        if global.json {
            curve.iter().try_for_each(|epoch| output::json(&document(&version, epoch)))?;
        } else {
            print(&version, curve)?;
        }
        let Some(folder) = &self.tensorboard else { return Ok(()) };
        let path = tensorboard::write(folder, names::model_of(&version.name), &version, curve)?;
        let path = path.display().to_string();
        if global.json {
            output::json(&json!({ "tensorboard": path }))
        } else {
            output::line(format!("\nwrote {path}"))
        }
    }
}

fn document(version: &Version, epoch: &TrainingEpoch) -> serde_json::Value {
    json!({
        "version": version.name,
        "epoch": epoch.epoch,
        "step": epoch.step,
        "train_loss": epoch.train_loss,
        "learning_rate": epoch.learning_rate,
        "validation_accuracy": epoch.validation_accuracy,
        "validation_loss": epoch.validation_loss,
        "seconds": epoch.seconds,
    })
}

fn print(version: &Version, curve: &[TrainingEpoch]) -> Result<(), Failure> {
    let best = version.report.as_ref().map_or(0, |report| report.best_epoch);
    let mut rows =
        Rows::new(&[">epoch", ">steps", ">loss", ">validation", ">accuracy", ">rate", ">time", ""]);
    for epoch in curve {
        rows.push([
            epoch.epoch.to_string(),
            count(epoch.step),
            format!("{:.4}", epoch.train_loss),
            epoch.validation_loss.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}")),
            percent_or_dash(epoch.validation_accuracy),
            format!("{:.2e}", epoch.learning_rate),
            output::seconds(epoch.seconds),
            if epoch.epoch == best { "kept" } else { "" }.to_owned(),
        ]);
    }
    rows.print("")?;
    let losses: Vec<f64> = curve.iter().map(|epoch| epoch.train_loss).collect();
    let accuracies: Vec<f64> = curve.iter().filter_map(|epoch| epoch.validation_accuracy).collect();
    output::line(format!("\nloss      {}", sparkline(&losses)))?;
    match accuracies.is_empty() {
        true => Ok(()),
        false => output::line(format!("accuracy  {}", sparkline(&accuracies))),
    }
}

/// Numbers as blocks between the lowest and the highest of them.
fn sparkline(numbers: &[f64]) -> String {
    let finite = || numbers.iter().copied().filter(|number| number.is_finite());
    let (low, high) = (finite().fold(f64::MAX, f64::min), finite().fold(f64::MIN, f64::max));
    let width = numbers.len().min(SPARK_WIDTH);
    (0..width)
        .map(|column| numbers[column * numbers.len() / width])
        .map(|number| {
            let share = if high > low { (number - low) / (high - low) } else { 0.0 };
            BLOCKS[((share * BLOCKS.len() as f64) as usize).min(BLOCKS.len() - 1)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparklines_reach_from_the_lowest_to_the_highest() {
        assert_eq!(sparkline(&[4.0, 2.0, 1.0, 0.0]), "█▅▃▁");
        assert_eq!(sparkline(&[0.5, 0.5]), "▁▁");
        assert_eq!(sparkline(&[f64::NAN, 0.0, 1.0]).chars().count(), 3);
        assert_eq!(sparkline(&[]), "");
        let many: Vec<f64> = (0..1000).map(f64::from).collect();
        assert_eq!(sparkline(&many).chars().count(), SPARK_WIDTH);
    }
}
