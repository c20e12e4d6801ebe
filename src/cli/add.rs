//! `taxond add`

use clap::Args;

use crate::{
    cli::{
        Global,
        change::{self, ChangeOptions, LearnOptions},
        connection::Connection,
        failure::Failure,
        names,
    },
    proto::v1::{AddClassesRequest, AddClassesResponse, add_classes_response::Result as Step},
};

#[derive(Debug, Args)]
pub(super) struct Add {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// Names of the new classes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    options: ChangeOptions,
    #[command(flatten)]
    learning: LearnOptions,
}

impl Add {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let detach = self.learning.detach;
        let request = AddClassesRequest {
            model: self.model.clone(),
            names: self.names,
            request_id: String::new(),
            learn: self.learning.learn().into(),
            validate_only: self.options.dry_run,
            expected_revision: self.options.expected_revision,
            reason: self.options.reason,
            detach,
            force: self.learning.force,
        };
        let steps = connection.taxonomy().add_classes(request).await?.into_inner();
        change::follow(&self.model, steps, told, detach, global.json).await
    }
}

change::told!(AddClassesResponse, Step);
