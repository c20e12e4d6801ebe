//! `taxond delete`

use clap::Args;
use serde_json::json;

use crate::{
    cli::{Global, confirm::confirm, connection::Connection, failure::Failure, names, output},
    proto::v1::DeleteModelRequest,
};

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// Yes, with all its examples, manifests and versions: there is no way back
    #[arg(long)]
    yes: bool,
}

impl Delete {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let name = names::short(&self.model).to_owned();
        if !self.yes {
            confirm(&format!("this removes {name} with its examples, manifests and versions for good"))?;
        }
        let connection = Connection::open(global).await?;
        let request = DeleteModelRequest { name: self.model.clone(), ..DeleteModelRequest::default() };
        connection.registry().delete_model(connection.request(request)).await?;
        if global.json {
            output::json(&json!({ "deleted": self.model }))
        } else {
            output::line(format!("{name} is gone"))
        }
    }
}
