//! What the demo tells: its story as it goes, the comparison at the end, and what to try next.

use serde_json::{Value, json};

use super::flow::MODEL;
use crate::{
    cli::{
        failure::Failure,
        output::{self, Rows, percent, seconds},
    },
    proto::v1::PredictResponse,
};

/// Accuracy on the held-out texts, and seconds to get there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Measured {
    pub(super) accuracy: f64,
    pub(super) seconds: f64,
}

/// The four ways side by side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Comparison {
    /// All intents, from scratch.
    pub(super) scratch: Measured,
    /// Two of them merged, by the sum of their leaves.
    pub(super) instant_merge: Measured,
    /// The same after the job that learns.
    pub(super) after_transfer: Measured,
    /// The merged intents, from scratch.
    pub(super) merged_from_scratch: Measured,
}

impl Comparison {
    pub(super) fn to_json(self) -> Value {
        let measured = |of: Measured| json!({"accuracy": of.accuracy, "seconds": of.seconds});
        json!({
            "scratch": measured(self.scratch),
            "instant_merge": measured(self.instant_merge),
            "after_transfer": measured(self.after_transfer),
            "merged_from_scratch": measured(self.merged_from_scratch),
        })
    }

    pub(super) fn print(self) -> Result<(), Failure> {
        let mut rows = Rows::new(&["", ">accuracy", ">time"]);
        for (name, of) in [
            ("from scratch, before the merge", self.scratch),
            ("merged, at once", self.instant_merge),
            ("merged, after the transfer", self.after_transfer),
            ("merged classes from scratch", self.merged_from_scratch),
        ] {
            rows.push([name.to_owned(), percent(of.accuracy), seconds(of.seconds)]);
        }
        output::line("")?;
        rows.print("")
    }
}

/// Tells the story: on the standard output, or beside it where that belongs to a JSON document.
#[derive(Debug)]
pub(super) struct Narrator {
    aside: bool,
}

impl Narrator {
    pub(super) fn new(aside: bool) -> Self {
        Self { aside }
    }

    pub(super) fn line(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        if self.aside {
            output::aside(text);
            return Ok(());
        }
        output::line(text)
    }

    /// A table of the two best classes of each text.
    pub(super) fn predictions(&self, texts: &[&str], answer: &PredictResponse) -> Result<(), Failure> {
        let mut rows = Rows::new(&["text", "class", ">", "then", ">"]).indented("   ");
        for (text, prediction) in texts.iter().zip(&answer.predictions) {
            let told = |rank: usize| match prediction.classes.get(rank) {
                Some(class) => [class.name.clone(), percent(class.probability)],
                None => [String::new(), String::new()],
            };
            let ([first, p], [second, q]) = (told(0), told(1));
            rows.push([(*text).to_owned(), first, p, second, q]);
        }
        self.line(rows.render(""))
    }
}

/// Calls to try by hand; they work while the daemon runs.
pub(super) fn what_next(address: &str, running: bool) -> Result<(), Failure> {
    let title =
        if running { "Try by hand:" } else { "With --keep-running the daemon stays, to be asked by hand:" };
    output::line(format!("\n{title}\n"))?;
    for (body, method) in [
        (
            format!(r#"{{"model": "{MODEL}", "texts": ["取 18000 块现金"], "top_k": 3}}"#),
            "PredictService/Predict",
        ),
        (format!(r#"{{"name": "{MODEL}"}}"#), "TaxonomyService/GetManifest"),
        (format!(r#"{{"model": "{MODEL}"}}"#), "TaxonomyService/UndoChange"),
    ] {
        output::line(format!("  grpcurl -plaintext -d '{body}' \\\n    {address} taxond.v1.{method}"))?;
    }
    output::line(format!("  taxond --addr {address} versions {}", MODEL.trim_start_matches("models/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_four_ways() {
        let of = |accuracy| Measured { accuracy, seconds: 1.5 };
        let comparison = Comparison {
            scratch: of(0.9),
            instant_merge: of(0.95),
            after_transfer: of(0.96),
            merged_from_scratch: of(0.955),
        };
        let expected = json!({
            "scratch": {"accuracy": 0.9, "seconds": 1.5},
            "instant_merge": {"accuracy": 0.95, "seconds": 1.5},
            "after_transfer": {"accuracy": 0.96, "seconds": 1.5},
            "merged_from_scratch": {"accuracy": 0.955, "seconds": 1.5},
        });
        assert_eq!(comparison.to_json(), expected);
    }
}
