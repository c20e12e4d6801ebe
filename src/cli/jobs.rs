//! `taxond jobs`

use clap::Args;

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::Failure,
        json, names,
        output::{self, Rows},
    },
    proto::v1::{Job, JobState, ListJobsRequest, TrainingMode},
};

/// Largest page that the daemon gives.
const PAGE: u64 = 1000;

#[derive(Debug, Args)]
pub(super) struct Jobs {
    /// Only jobs of this model
    #[arg(value_parser = names::model)]
    model: Option<String>,
    /// Jobs to print at most
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u64,
}

impl Jobs {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let mut client = connection.training();
        let mut rows = Rows::new(&["job", "model", "state", "mode", "versions", "began", "took or left"]);
        let (mut left, mut page_token) = (self.limit, String::new());
        let mut messages = Vec::new();
        while left > 0 {
            let request = ListJobsRequest {
                model: self.model.clone().unwrap_or_default(),
                page_size: left.min(PAGE) as u32,
                page_token,
            };
            let page = client.list_jobs(connection.request(request)).await?.into_inner();
            left -= left.min(page.jobs.len() as u64);
            for job in page.jobs {
                if global.json {
                    output::json(&json::job(&job))?;
                    continue;
                }
                if !job.message.is_empty() {
                    messages.push(format!("{}: {}", job.name, job.message));
                }
                rows.push([
                    job.name.clone(),
                    names::short(&job.model).to_owned(),
                    state(&job),
                    match job.mode() {
                        // Not known before the job is planned.
                        TrainingMode::Unspecified => String::new(),
                        mode => json::mode(mode),
                    },
                    job.versions.iter().map(|name| names::last(name)).collect::<Vec<_>>().join(" "),
                    output::moment(job.create_time.as_ref()),
                    span(&job),
                ]);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        if global.json {
            return Ok(());
        }
        rows.print("no jobs")?;
        messages.into_iter().try_for_each(output::line)
    }
}

/// The state of a job, and what it waits for.
fn state(job: &Job) -> String {
    let state = json::job_state(job.state());
    match (job.waiting, job.jobs_ahead) {
        (true, _) => format!("{state} (waiting)"),
        (false, 0) => state,
        (false, ahead) => format!("{state} ({ahead} ahead)"),
    }
}

/// How long a job took, or how long it will still take.
fn span(job: &Job) -> String {
    if let (Some(from), Some(to)) = (&job.create_time, &job.end_time) {
        let seconds = (to.seconds - from.seconds) as f64 + f64::from(to.nanos - from.nanos) / 1e9;
        return output::seconds(seconds.max(0.0));
    }
    match (&job.progress, job.state()) {
        (Some(progress), JobState::Running) => format!("{} left", output::seconds(progress.eta_seconds)),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_waits_for_stands_beside_its_state() {
        let mut job = Job::default();
        job.set_state(JobState::Queued);
        assert_eq!(state(&job), "queued");
        job.jobs_ahead = 3;
        assert_eq!(state(&job), "queued (3 ahead)");
        let mut job = Job { waiting: true, ..Job::default() };
        job.set_state(JobState::Running);
        assert_eq!(state(&job), "running (waiting)");
    }

    #[test]
    fn jobs_took_or_have_left() {
        let at = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        let done = Job { create_time: at(5, 900_000_000), end_time: at(8, 400_000_000), ..Job::default() };
        assert_eq!(span(&done), "2.5 s");
        let progress = crate::proto::v1::Progress { eta_seconds: 61.0, ..Default::default() };
        let mut running = Job { create_time: at(5, 0), progress: Some(progress), ..Job::default() };
        running.set_state(JobState::Running);
        assert_eq!(span(&running), "1 min 1 s left");
        assert_eq!(span(&Job::default()), "-");
    }
}
