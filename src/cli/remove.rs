//! `taxond remove`

use clap::Args;

use crate::{
    cli::{
        Global,
        change::{self, ChangeOptions, LearnOptions},
        connection::Connection,
        failure::Failure,
        names,
    },
    proto::v1::{RemoveClassesRequest, RemoveClassesResponse, remove_classes_response::Result as Step},
};

#[derive(Debug, Args)]
pub(super) struct Remove {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// The classes, by name or by `#` and id; a group goes with all below it
    #[arg(required = true, value_name = "CLASS")]
    classes: Vec<String>,
    #[command(flatten)]
    options: ChangeOptions,
    #[command(flatten)]
    learning: LearnOptions,
}

impl Remove {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let detach = self.learning.detach;
        let request = RemoveClassesRequest {
            model: self.model.clone(),
            classes: self.classes,
            request_id: String::new(),
            learn: self.learning.learn().into(),
            validate_only: self.options.dry_run,
            expected_revision: self.options.expected_revision,
            reason: self.options.reason,
            detach,
            force: self.learning.force,
        };
        let steps = connection.taxonomy().remove_classes(request).await?.into_inner();
        change::follow(&self.model, steps, told, detach, global.json).await
    }
}

change::told!(RemoveClassesResponse, Step);
