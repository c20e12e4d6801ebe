//! `taxond delete`

use clap::Args;
use serde_json::json;

use crate::{
    cli::{Global, confirm::confirm, connection::Connection, failure::Failure, names, output},
    proto::v1::{DeleteModelRequest, DeleteVersionRequest},
};

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// Remove this version alone; no alias may point to it
    #[arg(long, value_parser = names::version, value_name = "N")]
    version: Option<u64>,
    /// Remove the version also where an undo would restore it; that undo is then refused
    #[arg(long, requires = "version")]
    forget_undo: bool,
    /// Yes, remove it: there is no way back
    #[arg(long)]
    yes: bool,
}

impl Delete {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let name = match self.version {
            Some(number) => format!("{}/versions/{number}", self.model),
            None => self.model.clone(),
        };
        let short = names::short(&name);
        if !self.yes {
            confirm(&match self.version {
                Some(number) => {
                    format!("this removes version {number} of {} for good", names::short(&self.model))
                }
                None => format!("this removes {short} with its examples, manifests and versions for good"),
            })?;
        }
        let connection = Connection::open(global).await?;
        let mut client = connection.registry();
        if self.version.is_some() {
            let request = DeleteVersionRequest {
                name: name.clone(),
                forget_undo: self.forget_undo,
                ..DeleteVersionRequest::default()
            };
            client.delete_version(connection.request(request)).await?;
        } else {
            let request = DeleteModelRequest { name: name.clone(), ..DeleteModelRequest::default() };
            client.delete_model(connection.request(request)).await?;
        }
        if global.json {
            output::json(&json!({ "deleted": name }))
        } else {
            output::line(format!("{short} is gone"))
        }
    }
}
