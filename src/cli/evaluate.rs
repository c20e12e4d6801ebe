//! `taxond evaluate`

use std::path::PathBuf;

use clap::Args;
use tonic::Request;

use crate::{
    cli::{
        Global,
        connection::Connection,
        examples::pack,
        failure::Failure,
        input::{self, Format},
        json,
        names::{self, Target},
        output::{self, Rows, count, percent},
    },
    proto::v1::{ClassMetrics, EvaluateRequest, EvaluateResponse, LabelledText},
};

/// Classes and pairs to print without `--all`.
const SHOWN: usize = 10;

#[derive(Debug, Args)]
pub(super) struct Evaluate {
    #[command(flatten)]
    target: Target,
    /// Labelled texts, as in `examples add` [default: the validation examples of the model]
    path: Option<PathBuf>,
    /// How they are laid out [default: by the ending of the name]
    #[arg(long, requires = "path")]
    format: Option<Format>,
    /// Leave bad rows out instead of refusing the file
    #[arg(long)]
    skip_bad: bool,
    /// Print every class
    #[arg(long)]
    all: bool,
}

impl Evaluate {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let model = self.target.name()?;
        let input = self
            .path
            .as_deref()
            .map(|path| input::read(path, self.format, self.skip_bad))
            .transpose()?
            .unwrap_or_default();
        input.faults.tell_skipped();
        let connection = Connection::open(global).await?;
        let result = measure(&connection, &model, input.examples).await?;
        if global.json { output::json(&json::evaluation(&result)) } else { print(&result, self.all) }
    }
}

/// Measures a model on labelled texts, or on its validation examples if there are none.
pub(super) async fn measure(
    connection: &Connection,
    model: &str,
    examples: Vec<LabelledText>,
) -> Result<EvaluateResponse, Failure> {
    let mut messages = pack(examples);
    if messages.is_empty() {
        messages.push(Vec::new());
    }
    let model = model.to_owned();
    let messages =
        messages.into_iter().map(move |examples| EvaluateRequest { model: model.clone(), examples });
    let request = connection.patient(Request::new(tokio_stream::iter(messages)));
    Ok(connection.training().evaluate(request).await?.into_inner())
}

fn print(result: &EvaluateResponse, all: bool) -> Result<(), Failure> {
    output::line(format!(
        "{}: accuracy {}, macro F1 {}, calibration error {} on {} texts",
        names::short(&result.version),
        percent(result.accuracy),
        percent(result.macro_f1),
        percent(result.calibration_error),
        count(result.examples)
    ))?;
    if result.unknown_labels > 0 {
        output::line(format!(
            "{} texts were left out, their label is no class of this version: {}",
            count(result.unknown_labels),
            result.unknown_label_names.join(", ")
        ))?;
    }
    if !result.confused.is_empty() {
        let mut rows = Rows::new(&["label", "taken for", ">texts"]);
        for pair in result.confused.iter().take(if all { usize::MAX } else { SHOWN }) {
            rows.push([pair.label.clone(), pair.answer.clone(), count(pair.count)]);
        }
        output::line("\nMost confused")?;
        rows.print("")?;
    }

    let (title, classes) =
        if all { ("All classes", result.classes.iter().collect()) } else { ("Worst classes", worst(result)) };
    let mut rows = Rows::new(&["class", ">texts", ">precision", ">recall", ">F1"]);
    for class in classes {
        let measures = [class.precision, class.recall, class.f1].map(percent);
        let [precision, recall, f1] = measures;
        rows.push([class.name.clone(), count(class.support), precision, recall, f1]);
    }
    output::line(format!("\n{title}"))?;
    rows.print("no classes")
}

/// The classes with the lowest F1, lowest first.
fn worst(result: &EvaluateResponse) -> Vec<&ClassMetrics> {
    let mut classes: Vec<_> = result.classes.iter().collect();
    classes.sort_by(|a, b| a.f1.total_cmp(&b.f1));
    classes.truncate(SHOWN);
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_classes_come_first() {
        let class = |name: &str, f1| ClassMetrics { name: name.into(), f1, ..ClassMetrics::default() };
        let classes = (0..20).map(|n| class(&n.to_string(), f64::from(n % 7))).collect();
        let result = EvaluateResponse { classes, ..EvaluateResponse::default() };
        let worst = worst(&result);
        assert_eq!(worst.len(), SHOWN);
        assert!(worst.is_sorted_by(|a, b| a.f1 <= b.f1) && worst[0].f1 == 0.0);
    }
}
