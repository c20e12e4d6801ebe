//! `taxond rename`

use clap::Args;

use crate::{
    cli::{
        Global,
        change::{self, ChangeOptions},
        connection::Connection,
        failure::Failure,
        names,
    },
    proto::v1::RenameClassRequest,
};

#[derive(Debug, Args)]
pub(super) struct Rename {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// The class, by name or by `#` and id
    class: String,
    /// Its new name
    new_name: String,
    #[command(flatten)]
    options: ChangeOptions,
}

impl Rename {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let request = RenameClassRequest {
            model: self.model.clone(),
            class_name: self.class,
            new_name: self.new_name,
            request_id: String::new(),
            validate_only: self.options.dry_run,
            expected_revision: self.options.expected_revision,
            reason: self.options.reason,
        };
        let answer = connection.taxonomy().rename_class(connection.request(request)).await?.into_inner();
        let manifest = answer.manifest.unwrap_or_default();
        change::renamed(&self.model, &manifest, answer.version.as_ref(), &answer.job, global.json)
    }
}
