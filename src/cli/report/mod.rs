//! `taxond report`: what a version is worth and how it came to be, as one page that needs nothing else.

mod answers;
mod chart;
mod curves;
mod heat_map;
mod lineage;
mod measures;
mod order;
mod page;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tonic::Request;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        input,
        names::{self, Target},
        outlet::write_whole,
        output,
    },
    proto::v1::{
        GetHistoryRequest, GetModelRequest, GetVersionRequest, HistoryEntry, ListVersionsRequest, Model,
        SuggestMergesRequest, SuggestMergesResponse, Version,
    },
};
use answers::Answers;

/// Entries of the history, and versions, that the page shows at most; the newest.
const SHOWN: u32 = 100;

#[derive(Debug, Args)]
pub(super) struct Report {
    #[command(flatten)]
    target: Target,
    /// Labelled texts to measure it on, as in `examples add` [default: the validation examples of the model]
    path: Option<PathBuf>,
    /// How it is laid out [default: as its name or its content says]
    #[arg(long, requires = "path")]
    format: Option<input::Format>,
    /// Where to write the page [default: MODEL.html]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Leave bad rows out instead of refusing the file
    #[arg(long)]
    skip_bad: bool,
}

/// What the page tells.
struct Facts {
    model: Model,
    version: Version,
    /// How the version answers; none without a text to measure it on.
    answers: Option<Answers>,
    history: Vec<HistoryEntry>,
    /// Newest first.
    versions: Vec<Version>,
    /// None where another version than the serving one is shown.
    suggestions: Option<SuggestMergesResponse>,
}

impl Report {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let model = self.target.name()?;
        let input =
            self.path.as_deref().map(|path| input::read(path, self.format, self.skip_bad)).transpose()?;
        let examples = input.map(|input| {
            input.faults.tell_skipped();
            input.examples
        });
        let connection = Connection::open(global).await?;
        let facts = Facts::gather(&connection, &model, examples).await?;
        let name = names::short(&facts.model.name).to_owned();
        let out = self.out.unwrap_or_else(|| PathBuf::from(format!("{name}.html")));
        write_whole(&out, page::html(&facts))?;
        let measured = facts.answers.as_ref().map_or(0, |answers| answers.len());
        if global.json {
            return output::json(&json!({
                "version": facts.version.name,
                "file": out.display().to_string(),
                "examples": measured,
                "accuracy": facts.answers.as_ref().map(Answers::accuracy),
            }));
        }
        output::line(format!("{} is in {}", names::short(&facts.version.name), out.display()))
    }
}

impl Facts {
    async fn gather(
        connection: &Connection,
        target: &str,
        examples: Option<Vec<crate::proto::v1::LabelledText>>,
    ) -> Result<Self, Failure> {
        let mut registry = connection.registry();
        let model = format!("models/{}", names::model_of(target));
        let request = GetModelRequest { name: model.clone() };
        let model =
            registry.get_model(connection.request(request)).await?.into_inner().model.unwrap_or_default();
        let answers = Answers::ask(connection, &model, target, examples).await?;
        let request = GetVersionRequest { name: target.to_owned() };
        let version = registry.get_version(connection.request(request)).await?.into_inner();
        let version = version.version.unwrap_or_default();
        let request =
            ListVersionsRequest { model: model.name.clone(), page_size: SHOWN, ..Default::default() };
        let mut versions = registry.list_versions(connection.request(request)).await?.into_inner().versions;
        // Lists leave out what is long.
        for listed in versions.iter_mut().filter(|listed| listed.report.is_some()).take(curves::LINES) {
            let request = GetVersionRequest { name: listed.name.clone() };
            if let Some(whole) = registry.get_version(connection.request(request)).await?.into_inner().version
            {
                *listed = whole;
            }
        }
        let request = GetHistoryRequest { model: model.name.clone(), page_size: SHOWN, ..Default::default() };
        let history = connection.taxonomy().get_history(connection.request(request)).await?;
        let serving = model.aliases.get("serving") == Some(&version.number);
        let suggestions = match serving {
            true => {
                let request = SuggestMergesRequest { model: model.name.clone(), ..Default::default() };
                Some(
                    connection
                        .taxonomy()
                        .suggest_merges(connection.patient(Request::new(request)))
                        .await?
                        .into_inner(),
                )
            }
            false => None,
        };
        let history = history.into_inner().entries;
        Ok(Self { model, version, answers, history, versions, suggestions })
    }
}
