//! `taxond examples delete`

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
    proto::v1::{DeleteExamplesRequest, DeleteExamplesResponse},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct Delete {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    #[command(flatten)]
    chosen: ChosenOptions,
}

impl Delete {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let mut client = connection.dataset();
        let request = DeleteExamplesRequest {
            model: self.model.clone(),
            filter: Some(self.chosen.filter()),
            validate_only: true,
            ..DeleteExamplesRequest::default()
        };
        let name = names::short(&self.model);
        if self.chosen.dry_run || !self.chosen.yes {
            let tried = client.delete_examples(connection.request(request.clone())).await?.into_inner();
            if self.chosen.dry_run || tried.deleted == 0 {
                return self.tell(&tried, global.json);
            }
            confirm(&format!("this removes {} of {name} for good", examples(tried.deleted)))?;
        }
        let request = connection.request(DeleteExamplesRequest { validate_only: false, ..request });
        let done = client.delete_examples(request).await?.into_inner();
        self.tell(&done, global.json)
    }

    fn tell(&self, of: &DeleteExamplesResponse, json: bool) -> Result<(), Failure> {
        if json {
            return output::json(&json!({
                "model": self.model,
                "dry_run": self.chosen.dry_run,
                "deleted": of.deleted,
                "total": of.total,
            }));
        }
        let (name, deleted) = (names::short(&self.model), examples(of.deleted));
        if of.deleted == 0 {
            return output::line("no example matches; nothing is changed");
        }
        if self.chosen.dry_run {
            return output::line(format!("this removes {deleted} of {name}; nothing is changed"));
        }
        output::line(format!("{deleted} removed; {name} has {} now", output::count(of.total)))
    }
}
