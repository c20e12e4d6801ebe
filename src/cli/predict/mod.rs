//! `taxond predict`

mod file;
mod output_file;

use std::{ops::Range, path::PathBuf};

use clap::Args;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        input::Layout,
        json,
        names::{self, Target},
        output::{self, Rows, percent},
    },
    proto::v1::{PredictRequest, Prediction, UnresolvedClass},
};

/// Texts of a call; the daemon takes no more.
const CALL_TEXTS: usize = 256;
/// Classes in an answer: with the longest names they stay below the 4 MiB of a message.
const CALL_CLASSES: usize = 25_000;
/// Bytes of a call, below the 4 MiB that the daemon takes.
const CALL_BYTES: usize = 3 * 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct Predict {
    #[command(flatten)]
    target: Target,
    /// The texts
    #[arg(required_unless_present = "file")]
    texts: Vec<String>,
    /// Read the texts from a file, also one of gzip or zstd, `-` for the standard input, and write its rows with label, score
    /// and version added
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    file: Option<String>,
    /// How the file is laid out [default: by the ending of its name; a text a line]
    #[arg(long, value_name = "LAYOUT", conflicts_with = "texts")]
    format: Option<Layout>,
    /// Write the rows to this file instead of the standard output; it appears when it is whole
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    out: Option<PathBuf>,
    /// Leave bad rows out instead of refusing the file
    #[arg(long, conflicts_with = "texts")]
    skip_bad: bool,
    /// Classes to print for each text, best first: 1 to 1000 [default: 1; for rows of a file always 1]
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,
    /// Leave out classes below this probability
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_confidence: Option<f64>,
    /// Mark answers that are too unsure for this share of the others to be right: 0 to 1
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_precision: Option<f64>,
    /// Answer in the classes of this level: 0 is the top, where a group answers for all below it
    #[arg(long, value_name = "N")]
    level: Option<u32>,
    /// Answer in the classes of this revision, whatever version answers
    #[arg(long, value_name = "N", conflicts_with = "min_precision")]
    revision: Option<u64>,
}

impl Predict {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let model = self.target.name()?;
        if self.file.is_some() {
            return self.ask_file(model, global).await;
        }
        let connection = Connection::open(global).await?;
        let mut rows = Rows::new(&["text", "class", ">probability"]);
        let (mut version, mut threshold, mut unresolved) = (String::new(), None, Vec::new());
        for range in calls(&self.texts, self.top_k) {
            let texts = &self.texts[range];
            let request = PredictRequest {
                model: model.clone(),
                texts: texts.to_vec(),
                top_k: self.top_k,
                min_confidence: self.min_confidence,
                min_precision: self.min_precision,
                level: self.level,
                manifest_revision: self.revision,
            };
            let answer = connection.predict().predict(connection.request(request)).await?.into_inner();
            for (text, prediction) in texts.iter().zip(&answer.predictions) {
                if global.json {
                    let of =
                        (answer.version.as_str(), answer.manifest_revision, answer.unresolved.as_slice());
                    output::json(&json::prediction(text, prediction, of))?;
                } else {
                    push(&mut rows, text, prediction);
                }
            }
            (version, threshold, unresolved) =
                (answer.version, answer.rejection_threshold, answer.unresolved);
        }
        if global.json {
            return Ok(());
        }
        rows.print("")?;
        let mut line =
            format!("answered by version {} of {}", names::last(&version), names::model_of(&version));
        if let Some(threshold) = threshold {
            line += &format!("; answers below {} are rejected", percent(threshold));
        }
        if let Some(revision) = self.revision {
            line += &format!(", in the classes of revision {revision}");
        }
        output::line(line)?;
        unresolved.iter().map(unresolved_line).try_for_each(output::line)
    }
}

/// What is no more to be had of a class.
fn unresolved_line(class: &UnresolvedClass) -> String {
    let what = match (class.answered_under.as_slice(), class.silent) {
        ([], true) => "is no more".to_owned(),
        ([], false) => "is without a part that was taken out".to_owned(),
        (ids, silent) => {
            let ids: Vec<String> = ids.iter().map(|id| format!("#{id}")).collect();
            format!("is {}in newer classes: {}", if silent { "" } else { "also " }, ids.join(", "))
        }
    };
    format!("{} (#{}) {what}", class.name, class.id)
}

/// Cuts texts into calls, whose answers of so many classes a text fit a message as well.
fn calls(texts: &[String], top_k: Option<u32>) -> Vec<Range<usize>> {
    let most = (CALL_CLASSES / top_k.unwrap_or(1).max(1) as usize).clamp(1, CALL_TEXTS);
    let mut calls = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, text) in texts.iter().enumerate() {
        if index > start && (index - start == most || bytes + text.len() > CALL_BYTES) {
            calls.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes += text.len() + 6;
    }
    calls.push(start..texts.len());
    calls
}

fn push(rows: &mut Rows, text: &str, prediction: &Prediction) {
    let mut shown = output::excerpt(text, 120);
    if prediction.truncated {
        shown += &format!(" (only {} tokens were read)", prediction.token_count);
    }
    if prediction.rejected {
        shown += " (rejected: too unsure)";
    }
    if prediction.classes.is_empty() {
        rows.push([std::mem::take(&mut shown), "(none)".to_owned(), "-".to_owned()]);
    }
    for class in &prediction.classes {
        // The text stands beside its best class only.
        let name = if class.newer { format!("{} (newer)", class.name) } else { class.name.clone() };
        rows.push([std::mem::take(&mut shown), name, percent(class.probability)]);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        predict: Predict,
    }

    #[test]
    fn a_file_replaces_the_texts_and_one_of_them_is_needed() {
        assert!(Line::try_parse_from(["predict", "bank"]).is_err());
        assert!(Line::try_parse_from(["predict", "bank", "--file", "-"]).is_ok());
        assert!(Line::try_parse_from(["predict", "bank", "text", "--file", "-"]).is_err());
        assert!(Line::try_parse_from(["predict", "bank", "text", "--out", "a.csv"]).is_err());
    }

    #[test]
    fn what_a_revision_has_no_more_is_told() {
        let line = |answered_under: &[u32], silent| {
            let (name, answered_under) = ("cash".to_owned(), answered_under.to_vec());
            unresolved_line(&UnresolvedClass { id: 3, name, answered_under, silent })
        };
        assert_eq!(line(&[], true), "cash (#3) is no more");
        assert_eq!(line(&[], false), "cash (#3) is without a part that was taken out");
        assert_eq!(line(&[7, 8], true), "cash (#3) is in newer classes: #7, #8");
        assert_eq!(line(&[7], false), "cash (#3) is also in newer classes: #7");
    }

    #[test]
    fn calls_are_bounded_and_lose_nothing() {
        let texts: Vec<String> =
            (0..600).map(|n| if n < 300 { n.to_string() } else { "x".repeat(60_000) }).collect();
        let calls: Vec<&[String]> = calls(&texts, None).into_iter().map(|range| &texts[range]).collect();
        assert!(calls.iter().all(|call| !call.is_empty() && call.len() <= CALL_TEXTS));
        assert!(
            calls.iter().all(|call| call.iter().map(|text| text.len() + 6).sum::<usize>() <= CALL_BYTES + 6)
        );
        assert_eq!(calls.concat(), texts);
        let few = super::calls(&texts, Some(1000));
        assert!(few.iter().all(|range| (1..=25).contains(&range.len())));
        assert_eq!(few.last().map(|range| range.end), Some(600));
    }
}
