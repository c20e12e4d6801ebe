//! What the commands that change classes have in common: their options, and how they tell what a change does.

use clap::{Args, ValueEnum};
use serde_json::json;
use tokio_stream::StreamExt as _;
use tonic::Streaming;

use crate::{
    cli::{
        failure::{Exit, Failure},
        follow::Follower,
        json, names, output,
    },
    proto::v1::{ChangeApplied, ChangePreview, DividedClass, JobEvent, Learn, Manifest, Version},
};

/// Options of every change.
#[derive(Debug, Args)]
pub(super) struct ChangeOptions {
    /// Say what the change would do and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Only if the manifest being served has this revision
    #[arg(long, value_name = "N")]
    pub(super) expected_revision: Option<u64>,
    /// Why, kept in the manifest
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) reason: String,
}

/// Options of a change that may be learnt.
#[derive(Debug, Args)]
pub(super) struct LearnOptions {
    /// How the change is learnt
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    learn: How,
    /// Do not learn afterwards; the same as `--learn none`
    #[arg(long, conflicts_with = "learn")]
    no_learn: bool,
    /// Promote what is learnt also where the gate would refuse it
    #[arg(long)]
    pub(super) force: bool,
    /// Do not wait for the learning
    #[arg(long)]
    pub(super) detach: bool,
}

/// How to learn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum How {
    /// As the case asks for: where classes came first the rows of the softmax, then everything
    #[default]
    Auto,
    /// Not at all
    None,
    /// The rows of the softmax, on top of the encoder as it is
    HeadOnly,
    /// Everything, a few epochs at a small rate
    FineTune,
    /// The softmax anew from random rows, and everything trained on
    Seed,
    /// Everything anew
    Scratch,
}

impl From<How> for Learn {
    fn from(how: How) -> Self {
        match how {
            How::Auto => Self::Auto,
            How::None => Self::None,
            How::HeadOnly => Self::HeadOnly,
            How::FineTune => Self::FineTune,
            How::Seed => Self::Seed,
            How::Scratch => Self::Scratch,
        }
    }
}

/// A message of a change that may be learnt.
pub(super) enum Told {
    Preview(ChangePreview),
    Applied(ChangeApplied),
    Event(JobEvent),
}

/// Defines `told`, which takes a message out of a response; `$step` is the oneof that all responses of such changes have.
macro_rules! told {
    ($response:ident, $step:ident) => {
        fn told(response: $response) -> Option<change::Told> {
            Some(match response.result? {
                $step::Preview(preview) => change::Told::Preview(preview),
                $step::Applied(applied) => change::Told::Applied(applied),
                $step::Event(event) => change::Told::Event(event),
            })
        }
    };
}
pub(super) use told;

impl LearnOptions {
    pub(super) fn learn(&self) -> Learn {
        if self.no_learn { Learn::None } else { self.learn.into() }
    }
}

/// Tells of a change to the end of what it says, which is that of the learning unless it is to detach. `told` reads its
/// messages.
pub(super) async fn follow<R>(
    model: &str,
    mut steps: Streaming<R>,
    told: fn(R) -> Option<Told>,
    detach: bool,
    json: bool,
) -> Result<(), Failure> {
    match steps.message().await?.and_then(told) {
        Some(Told::Preview(change)) => preview(&change, json),
        Some(Told::Applied(change)) => {
            applied(model, &change, detach, json)?;
            if change.job.is_empty() || detach {
                return Ok(());
            }
            let events = steps.filter_map(move |response| match response.map(told) {
                Ok(Some(Told::Event(event))) => Some(Ok(event)),
                Ok(_) => None,
                Err(status) => Some(Err(status)),
            });
            Follower::new(json).follow(events).await.map(drop)
        }
        Some(Told::Event(_)) | None => {
            Err(Failure::new(Exit::Failed, "the daemon did not say what the change did"))
        }
    }
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
                "splits": change.splits.iter().map(json::divided).collect::<Vec<_>>(),
            }
        }));
    }
    output::line(format!("would {}; nothing is changed", manifest.description))?;
    divided(&change.splits)?;
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
                "splits": change.splits.iter().map(json::divided).collect::<Vec<_>>(),
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
    divided(&change.splits)?;
    if detached && !change.job.is_empty() {
        output::line(format!("{0} learns; follow it with `taxond watch {0}`", change.job))?;
    }
    Ok(())
}

/// Tells how splits divide the examples.
fn divided(splits: &[DividedClass]) -> Result<(), Failure> {
    for split in splits {
        for part in &split.parts {
            output::line(format!(
                "  {}: {} examples train, {} validate",
                part.name,
                output::count(part.train),
                output::count(part.validation)
            ))?;
        }
        if split.unassigned > 0 {
            output::line(format!(
                "  no part takes {} examples of {}; they take no part in training",
                output::count(split.unassigned),
                split.class_name
            ))?;
        }
        if split.unmatched_texts > 0 {
            let unmatched = output::count(split.unmatched_texts);
            output::line(format!(
                "  {unmatched} texts given are those of no example of {}",
                split.class_name
            ))?;
        }
    }
    Ok(())
}

/// Tells of a change that leaves nothing to learn; without a version it was only tried.
pub(super) fn renamed(
    model: &str,
    manifest: &Manifest,
    version: Option<&Version>,
    job: &str,
    json: bool,
) -> Result<(), Failure> {
    if json {
        return output::json(&json!({
            "manifest": json::manifest(manifest),
            "version": version.map(json::version),
            "job": job,
        }));
    }
    let Some(version) = version else {
        return output::line(format!("would {}; nothing is changed", manifest.description));
    };
    output::line(format!(
        "{}: {}; version {} answers in revision {}",
        names::short(model),
        manifest.description,
        version.number,
        manifest.revision
    ))?;
    if job.is_empty() { Ok(()) } else { output::line(format!("{job} goes on learning the change before")) }
}
