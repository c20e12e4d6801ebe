//! `taxond merge`

use clap::Args;
use serde_json::json;
use tokio_stream::StreamExt as _;
use tonic::{Status, Streaming};

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::{Exit, Failure},
        follow::Follower,
        json, names, output,
    },
    proto::v1::{
        ChangeApplied, ChangePreview, JobEvent, Learn, MergeClassesRequest, MergeClassesResponse,
        merge_classes_response::Result as Step,
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
    /// Say what the merge would do and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not learn afterwards
    #[arg(long)]
    no_learn: bool,
    /// Do not wait for the learning
    #[arg(long)]
    detach: bool,
    /// Only if the manifest being served has this revision
    #[arg(long, value_name = "N")]
    expected_revision: Option<u64>,
    /// Why, kept in the manifest
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

impl Merge {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let learn = if self.no_learn { Learn::None } else { Learn::Auto };
        let request = MergeClassesRequest {
            model: self.model.clone(),
            classes: self.classes,
            into: self.into,
            learn: learn.into(),
            validate_only: self.dry_run,
            expected_revision: self.expected_revision,
            reason: self.reason,
            detach: self.detach,
            request_id: String::new(),
        };
        let mut steps = connection.taxonomy().merge_classes(request).await?.into_inner();
        match steps.message().await?.and_then(|response| response.result) {
            Some(Step::Preview(change)) => preview(&change, global.json),
            Some(Step::Applied(change)) => {
                applied(&self.model, &change, self.detach, global.json)?;
                if change.job.is_empty() || self.detach {
                    return Ok(());
                }
                Follower::new(global.json).follow(events(steps)).await.map(drop)
            }
            Some(Step::Event(_)) | None => {
                Err(Failure::new(Exit::Failed, "the daemon did not say what the merge did"))
            }
        }
    }
}

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

fn preview(change: &ChangePreview, json: bool) -> Result<(), Failure> {
    let manifest = change.manifest.clone().unwrap_or_default();
    if json {
        return output::json(&json!({
            "preview": {
                "manifest": json::manifest(&manifest),
                "validation_accuracy_before": change.validation_accuracy_before,
                "validation_accuracy_after": change.validation_accuracy_after,
                "validation_examples": change.validation_examples,
            }
        }));
    }
    output::line(format!("would {}; nothing is changed", manifest.description))?;
    match (change.validation_accuracy_before, change.validation_accuracy_after) {
        (Some(before), Some(after)) => output::line(format!(
            "validation accuracy {} -> {} on {} examples, without any learning",
            output::percent(before),
            output::percent(after),
            output::count(change.validation_examples)
        )),
        _ => output::line("there are no validation examples to measure it on"),
    }
}

fn applied(model: &str, change: &ChangeApplied, detached: bool, json: bool) -> Result<(), Failure> {
    let (manifest, version) =
        (change.manifest.clone().unwrap_or_default(), change.version.clone().unwrap_or_default());
    if json {
        return output::json(&json!({
            "applied": {
                "manifest": json::manifest(&manifest),
                "version": json::version(&version),
                "job": change.job,
                "seconds": change.seconds,
            }
        }));
    }
    output::line(format!(
        "{}: {}; version {} answers in revision {}, after {}",
        names::short(model),
        manifest.description,
        version.number,
        manifest.revision,
        output::seconds(change.seconds)
    ))?;
    if detached && !change.job.is_empty() {
        output::line(format!("{0} learns; follow it with `taxond watch {0}`", change.job))?;
    }
    Ok(())
}
