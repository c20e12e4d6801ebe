//! `taxond promote`

use clap::Args;

use crate::{
    cli::{Global, connection::Connection, failure::Failure, json, names, output},
    proto::v1::SetAliasRequest,
};

#[derive(Debug, Args)]
pub(super) struct Promote {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// Number of the version
    #[arg(value_parser = names::version)]
    version: u64,
    /// The alias to point to it
    #[arg(long, default_value = "serving")]
    alias: String,
}

impl Promote {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let request = SetAliasRequest {
            model: self.model.clone(),
            alias: self.alias.clone(),
            version: self.version,
            ..SetAliasRequest::default()
        };
        let response = connection.registry().set_alias(connection.request(request)).await?.into_inner();
        if global.json {
            return output::json(&json::model(&response.model.unwrap_or_default()));
        }
        output::line(format!("{}@{} is version {} now", names::short(&self.model), self.alias, self.version))
    }
}
