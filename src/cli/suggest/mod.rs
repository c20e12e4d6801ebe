//! `taxond suggest`

mod labels;
mod splits;

use std::path::PathBuf;

use clap::Args;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        json, names,
        output::{self, Rows, percent},
    },
    proto::v1::{MergeSuggestion, SuggestMergesRequest, SuggestRelabelsRequest},
};

#[derive(Debug, Args)]
pub(super) struct Suggest {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// Pairs, labels or classes to print at most: 1 to 1000
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Print texts of each pair that are confused
    #[arg(long)]
    texts: bool,
    /// Instead of pairs: examples whose label the serving version contradicts
    #[arg(long, conflicts_with = "texts")]
    labels: bool,
    /// Instead of pairs: classes whose examples form two clusters
    #[arg(long, conflicts_with_all = ["texts", "labels"])]
    splits: bool,
    /// With --splits: only the class of this name
    #[arg(long, value_name = "NAME", requires = "splits")]
    class: Option<String>,
    /// With --splits: write the first class's texts, by part, for `taxond split --file`; a name ending in .csv
    #[arg(long, value_name = "FILE", requires = "splits")]
    out: Option<PathBuf>,
    /// With --labels: only where it is at least this sure, 0 to 1
    #[arg(long, default_value_t = 0.9, value_name = "P", requires = "labels")]
    min_confidence: f64,
}

impl Suggest {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        if self.labels {
            let (min_confidence, limit) = (Some(self.min_confidence), self.limit);
            let request = SuggestRelabelsRequest { model: self.model, min_confidence, limit };
            return labels::run(request, global).await;
        }
        if self.splits {
            let (class, out) = (self.class, self.out.as_deref());
            let wanted = splits::Wanted { model: self.model, limit: self.limit, class, out };
            return splits::run(wanted, global).await;
        }
        let connection = Connection::open(global).await?;
        let request = SuggestMergesRequest { model: self.model.clone(), limit: self.limit };
        let answer = connection.taxonomy().suggest_merges(request).await?.into_inner();
        if global.json {
            return output::json(&json::suggestions(&answer));
        }
        let Some(accuracy) = answer.validation_accuracy else {
            return output::line("there are no validation examples to tell from");
        };
        let mut rows = Rows::new(&["merge", ">gain", ">confused"]);
        for pair in &answer.suggestions {
            let gain = format!("+{}", percent(pair.accuracy_gain));
            rows.push([pair.classes.join(" + "), gain, output::count(pair.confused)]);
        }
        rows.print("no merge of two classes would gain validation accuracy")?;
        if self.texts {
            answer.suggestions.iter().try_for_each(texts)?;
        }
        output::line(format!(
            "version {} answers {} of {} validation examples right",
            names::last(&answer.version),
            percent(accuracy),
            output::count(answer.validation_examples)
        ))
    }
}

fn texts(pair: &MergeSuggestion) -> Result<(), Failure> {
    pair.examples.iter().try_for_each(|example| {
        let (text, probability) = (output::excerpt(&example.text, 80), percent(example.probability));
        output::line(format!("{text}  is {}, answered {} ({probability})", example.label, example.answer))
    })
}
