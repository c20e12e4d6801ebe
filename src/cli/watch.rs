//! `taxond watch`

use std::{collections::BTreeSet, pin::Pin};

use clap::Args;
use indicatif::MultiProgress;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::{Exit, Failure},
        follow::Follower,
        names, output,
    },
    proto::v1::{JobEvent, JobState, ListJobsRequest, WatchJobRequest},
};

/// Largest page that the daemon gives: no more than so many jobs ended after one that runs still, it is taken.
const PAGE: u32 = 1000;

type Events = Pin<Box<dyn Stream<Item = Result<JobEvent, Status>> + Send>>;

#[derive(Debug, Args)]
pub(super) struct Watch {
    /// The jobs: 3 or jobs/3, as many as you like [default: those that run or wait now]
    #[arg(value_parser = names::job, value_name = "JOB")]
    jobs: Vec<String>,
}

impl Watch {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let mut jobs = if self.jobs.is_empty() { unended(&connection).await? } else { self.jobs };
        let mut seen = BTreeSet::new();
        jobs.retain(|job| seen.insert(job.clone()));
        let mut streams = Vec::new();
        for job in &jobs {
            streams.push(events(&connection, job).await?);
        }
        match jobs.len() {
            0 if global.json => Ok(()),
            0 => output::line("no job runs or waits; `taxond jobs` lists those that ended"),
            1 => Follower::new(global.json).follow(streams.remove(0)).await.map(drop),
            _ => all(jobs, streams, global.json).await,
        }
    }
}

async fn events(connection: &Connection, job: &str) -> Result<Events, Failure> {
    let request = WatchJobRequest { name: job.to_owned() };
    let events = connection.training().watch_job(request).await?.into_inner();
    Ok(Box::pin(events.map(|response| response.map(|response| response.event.unwrap_or_default()))))
}

/// The jobs that run or wait, oldest first.
async fn unended(connection: &Connection) -> Result<Vec<String>, Failure> {
    let request = ListJobsRequest { page_size: PAGE, ..ListJobsRequest::default() };
    let jobs = connection.training().list_jobs(connection.request(request)).await?.into_inner().jobs;
    let unended = jobs.into_iter().filter(|job| matches!(job.state(), JobState::Queued | JobState::Running));
    let mut names: Vec<_> = unended.map(|job| job.name).collect();
    names.reverse();
    Ok(names)
}

/// Follows several jobs at once, each with a bar of its own.
async fn all(jobs: Vec<String>, streams: Vec<Events>, json: bool) -> Result<(), Failure> {
    let bars = MultiProgress::new();
    let following: Vec<_> = jobs
        .iter()
        .zip(streams)
        .map(|(job, events)| tokio::spawn(Follower::among(&bars, job, json).follow(events)))
        .collect();
    let mut failures = Vec::new();
    for (job, following) in jobs.into_iter().zip(following) {
        let ended = following.await.unwrap_or_else(|cause| {
            Err(Failure::new(Exit::Failed, format!("following {job} panicked: {cause}")))
        });
        failures.extend(ended.err().map(|failure| (job, failure)));
    }
    if failures.is_empty() { Ok(()) } else { Err(together(failures)) }
}

/// One failure of several: how to come back to the jobs that go on, else what the first came to, and the others.
fn together(failures: Vec<(String, Failure)>) -> Failure {
    let interrupted = failures.iter().filter(|(_, failure)| failure.exit == Exit::Interrupted);
    let left: Vec<_> = interrupted.map(|(job, _)| job.as_str()).collect();
    if let [_, ..] = left[..] {
        return Failure::new(Exit::Interrupted, format!("detached; {} go on", left.join(", ")))
            .with_hint(format!("re-attach with `taxond watch {}`", left.join(" ")));
    }
    let mut failures = failures.into_iter().map(|(_, failure)| failure);
    match failures.next() {
        Some(first) => first.with_details(failures.map(|other| other.to_string())),
        None => Failure::new(Exit::Failed, "a job failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_failures_are_one() {
        let failed = |job: &str, exit, what: &str| (job.to_owned(), Failure::new(exit, what));
        let two = vec![
            failed("jobs/3", Exit::Failed, "jobs/3 failed: no examples"),
            failed("jobs/4", Exit::Unreachable, "gone"),
        ];
        let told = together(two);
        assert_eq!(
            (told.exit, told.to_string().as_str()),
            (Exit::Failed, "jobs/3 failed: no examples\n  gone")
        );
        let two = vec![
            failed("jobs/3", Exit::Failed, "jobs/3 failed: no examples"),
            failed("jobs/4", Exit::Interrupted, "detached"),
        ];
        let told = together(two);
        assert_eq!(told.exit, Exit::Interrupted);
        assert!(told.to_string().contains("`taxond watch jobs/4`"), "{told}");
    }
}
