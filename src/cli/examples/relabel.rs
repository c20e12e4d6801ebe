//! `taxond examples relabel`

use clap::Args;
use serde_json::json;

use super::filter::ChosenOptions;
use crate::{
    cli::{
        Global,
        confirm::confirm,
        connection::Connection,
        failure::Failure,
        names,
        output::{self, examples},
    },
    proto::v1::{RelabelExamplesRequest, RelabelExamplesResponse},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Relabel {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// Their new label
    #[arg(long, value_name = "LABEL")]
    to: String,
    #[command(flatten)]
    chosen: ChosenOptions,
}

impl Relabel {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let mut client = connection.dataset();
        let request = RelabelExamplesRequest {
            model: self.model.clone(),
            filter: Some(self.chosen.filter()),
            label: self.to.clone(),
            validate_only: true,
            ..RelabelExamplesRequest::default()
        };
        if self.chosen.dry_run || !self.chosen.yes {
            let request = connection.request(request.clone());
            let tried = client.relabel_examples(request).await?.into_inner();
            if self.chosen.dry_run || touched(&tried) == 0 {
                return self.tell(&tried, global.json);
            }
            confirm(&self.would(&tried))?;
        }
        let request = connection.request(RelabelExamplesRequest { validate_only: false, ..request });
        let done = client.relabel_examples(request).await?.into_inner();
        self.tell(&done, global.json)
    }

    fn tell(&self, of: &RelabelExamplesResponse, json: bool) -> Result<(), Failure> {
        if json {
            return output::json(&json!({
                "model": self.model,
                "dry_run": self.chosen.dry_run,
                "relabelled": of.relabelled,
                "duplicates": of.duplicates,
                "unchanged": of.unchanged,
                "total": of.total,
                "class_name": of.class_name,
            }));
        }
        if touched(of) == 0 {
            let unchanged = match of.unchanged {
                0 => "no example matches".to_owned(),
                unchanged => format!("{} matched and had the label already", examples(unchanged)),
            };
            return output::line(format!("{unchanged}; nothing is changed"));
        }
        if self.chosen.dry_run {
            return output::line(format!("{}; nothing is changed", self.would(of)));
        }
        let mut line = format!("{} relabelled {}", examples(of.relabelled), self.to);
        if of.duplicates > 0 {
            line += &format!(", {} removed as duplicates", output::count(of.duplicates));
        }
        if of.unchanged > 0 {
            line += &format!(", {} had the label already", output::count(of.unchanged));
        }
        let name = names::short(&self.model);
        output::line(format!("{line}; {name} has {} now", output::count(of.total)))?;
        match of.class_name.as_str() {
            "" => output::line(format!("{} means no class of today; see `taxond classes {name}`", self.to)),
            _ => Ok(()),
        }
    }

    fn would(&self, of: &RelabelExamplesResponse) -> String {
        let mut what = format!("this relabels {} {}", examples(of.relabelled), self.to);
        if of.duplicates > 0 {
            let removed = examples(of.duplicates);
            what += &format!(" and removes {removed} whose text has that label already");
        }
        what
    }
}

fn touched(of: &RelabelExamplesResponse) -> u64 {
    of.relabelled + of.duplicates
}
