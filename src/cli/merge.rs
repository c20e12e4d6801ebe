//! `taxond merge`

use clap::Args;
use tokio_stream::StreamExt as _;
use tonic::{Status, Streaming};

use crate::{
    cli::{
        Global,
        change::{self, ChangeOptions, LearnOptions},
        connection::Connection,
        failure::Failure,
        names,
    },
    proto::v1::{
        JobEvent, MergeClassesRequest, MergeClassesResponse, merge_classes_response::Result as Step,
    },
};

#[derive(Debug, Args)]
pub(super) struct Merge {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// The classes to merge, by name or by `#` and id
    #[arg(required = true, num_args = 2.., value_name = "CLASS")]
    classes: Vec<String>,
    /// Name of the merged class
    #[arg(long, value_name = "NAME")]
    into: String,
    #[command(flatten)]
    options: ChangeOptions,
    #[command(flatten)]
    learning: LearnOptions,
}

impl Merge {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let detach = self.learning.detach;
        let request = MergeClassesRequest {
            model: self.model.clone(),
            classes: self.classes,
            into: self.into,
            learn: self.learning.learn().into(),
            validate_only: self.options.dry_run,
            expected_revision: self.options.expected_revision,
            reason: self.options.reason,
            detach,
            request_id: String::new(),
            force: self.learning.force,
        };
        let steps = connection.taxonomy().merge_classes(request).await?.into_inner();
        change::follow(&self.model, steps, told, detach, global.json).await
    }
}

change::told!(MergeClassesResponse, Step);

/// The job events in the rest of a merge.
pub(super) fn events(
    steps: Streaming<MergeClassesResponse>,
) -> impl tokio_stream::Stream<Item = Result<JobEvent, Status>> + Unpin {
    steps.filter_map(|response| match response {
        Ok(MergeClassesResponse { result: Some(Step::Event(event)) }) => Some(Ok(event)),
        Ok(_) => None,
        Err(status) => Some(Err(status)),
    })
}
