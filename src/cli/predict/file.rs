//! `taxond predict --file`: the rows of a file, answered through one stream.

use std::{sync::Arc, time::Instant};

use serde_json::Value;
use tonic::Request;

use super::{Predict, calls, output_file::Rows};
use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::{Exit, Failure},
        input::{self, Sheet},
        json, names,
        output::{self, count, percent, seconds},
        progress::ProgressView,
    },
    proto::v1::{PredictStreamRequest, PredictStreamResponse, Prediction},
};

/// What the run has come to.
#[derive(Debug, Default)]
struct Told {
    texts: usize,
    /// The versions that answered, in their order.
    versions: Vec<String>,
    threshold: Option<f64>,
}

impl Predict {
    pub(super) async fn ask_file(self, model: String, global: &Global) -> Result<(), Failure> {
        if !global.json && self.top_k.is_some_and(|top_k| top_k != 1) {
            let what = "a row has room for the best class alone; --top-k goes with --json";
            return Err(Failure::new(Exit::Usage, what));
        }
        let mut cells = vec!["label", "score", "version"];
        if self.min_precision.is_some() {
            cells.push("rejected");
        }
        let file = self.file.as_deref().unwrap_or("-");
        // Documents leave no room for cells, so there is nothing for these to be named after.
        let cells = if global.json { &[] } else { &cells[..] };
        let sheet = Arc::new(input::read_sheet(file, self.format, cells, self.skip_bad)?);
        sheet.faults.tell_skipped();
        let connection = Connection::open(global).await?;
        let started = Instant::now();
        let mut rows = Rows::open(self.out.as_deref())?;
        let told = tokio::select! {
            told = self.ask_sheet(&connection, model, &sheet, &mut rows, global) => told,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        };
        let told = told.map_err(|failure| rows.tell(failure))?;
        rows.finish()?;
        if !global.json {
            output::aside(summary(&told, sheet.faults.count(), started.elapsed().as_secs_f64()));
        }
        Ok(())
    }

    async fn ask_sheet(
        &self,
        connection: &Connection,
        model: String,
        sheet: &Arc<Sheet>,
        rows: &mut Rows,
        global: &Global,
    ) -> Result<Told, Failure> {
        if let Some(head) = sheet.head().filter(|_| !global.json) {
            rows.head(&head)?;
        }
        let ranges = calls(&sheet.texts, self.top_k);
        let request = connection.patient(Request::new(tokio_stream::iter(self.messages(model, sheet))));
        let mut answers = connection.predict().predict_stream(request).await?.into_inner();
        let mut view = ProgressView::new(global.json || rows.is_terminal());
        let mut told = Told::default();
        for range in ranges {
            let answer = answers.message().await?.ok_or_else(|| short(told.texts, sheet))?;
            if answer.predictions.len() != range.len() {
                return Err(short(told.texts, sheet));
            }
            let lines = range.zip(&answer.predictions).map(|(index, prediction)| match global.json {
                true => document(&sheet.texts[index], prediction, &answer),
                false => sheet.line(index, &row(prediction, &answer)),
            });
            rows.write(&lines.collect::<Vec<_>>())?;
            told.texts += answer.predictions.len();
            told.threshold = answer.rejection_threshold;
            if told.versions.last() != Some(&answer.version) {
                told.versions.push(answer.version);
            }
            view.counted(told.texts as u64, sheet.texts.len() as u64, "texts");
        }
        view.clear();
        Ok(told)
    }

    /// The messages of the stream, each made when there is room for it on the connection.
    fn messages(
        &self,
        model: String,
        sheet: &Arc<Sheet>,
    ) -> impl Iterator<Item = PredictStreamRequest> + Send + 'static {
        let sheet = Arc::clone(sheet);
        let mut opening = Some(PredictStreamRequest {
            model,
            texts: Vec::new(),
            top_k: self.top_k,
            min_confidence: self.min_confidence,
            min_precision: self.min_precision,
            level: self.level,
            manifest_revision: self.revision,
        });
        calls(&sheet.texts, self.top_k).into_iter().map(move |range| PredictStreamRequest {
            texts: sheet.texts[range].to_vec(),
            ..opening.take().unwrap_or_default()
        })
    }
}

/// The cells of an answer: label, score and version, and whether it is rejected, which is left out where none can be.
fn row(prediction: &Prediction, answer: &PredictStreamResponse) -> Vec<Value> {
    let best = prediction.classes.first();
    let mut cells = vec![
        best.map_or(Value::Null, |class| class.name.as_str().into()),
        best.map_or(Value::Null, |class| class.probability.into()),
        names::last(&answer.version).parse::<u64>().map_or(Value::Null, Value::from),
    ];
    if answer.rejection_threshold.is_some() {
        cells.push(prediction.rejected.into());
    }
    cells
}

fn document(text: &str, prediction: &Prediction, answer: &PredictStreamResponse) -> Vec<u8> {
    let of = (answer.version.as_str(), answer.manifest_revision, answer.unresolved.as_slice());
    let document = json::prediction(text, prediction, of);
    format!("{document}\n").into_bytes()
}

fn short(answered: usize, sheet: &Sheet) -> Failure {
    let what = format!("the daemon answered {answered} of {} texts and ended the stream", sheet.texts.len());
    Failure::new(Exit::Failed, what)
}

/// `1,000 texts in 2.1 s, 476/s; answered by version 3 of bank`
fn summary(told: &Told, skipped: u64, took: f64) -> String {
    let rate = count((told.texts as f64 / took.max(1e-9)) as u64);
    let texts = if told.texts == 1 { "text" } else { "texts" };
    let mut line = format!("{} {texts} in {}, {rate}/s", count(told.texts as u64), seconds(took));
    let numbers: Vec<&str> = told.versions.iter().map(|version| names::last(version)).collect();
    if let Some(first) = told.versions.first() {
        let versions = if numbers.len() == 1 { "version" } else { "versions" };
        line += &format!("; answered by {versions} {} of {}", numbers.join(", "), names::model_of(first));
    }
    if let Some(threshold) = told.threshold {
        line += &format!("; answers below {} are rejected", percent(threshold));
    }
    if skipped > 0 {
        line += &format!("; {} bad rows skipped", count(skipped));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_tells_texts_speed_and_versions() {
        let version = |number: u32| format!("models/bank/versions/{number}");
        let mut told = Told { texts: 1000, versions: vec![version(3)], threshold: None };
        assert_eq!(summary(&told, 0, 2.0), "1,000 texts in 2.0 s, 500/s; answered by version 3 of bank");
        told.versions.push(version(4));
        told.threshold = Some(0.5);
        assert_eq!(
            summary(&told, 2, 2.0),
            "1,000 texts in 2.0 s, 500/s; answered by versions 3, 4 of bank; answers below 50.0 % are rejected; 2 bad rows skipped"
        );
    }
}
