//! `taxond cancel`

use clap::Args;

use crate::{
    cli::{Global, connection::Connection, failure::Failure, json, names, output},
    proto::v1::{CancelJobRequest, JobState},
};

#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// The job: 3 or jobs/3
    #[arg(value_parser = names::job)]
    job: String,
}

impl Cancel {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let request = connection.request(CancelJobRequest { name: self.job });
        let job = connection.training().cancel_job(request).await?.into_inner().job.unwrap_or_default();
        if global.json {
            return output::json(&json::job(&job));
        }
        let kept = match job.versions.len() {
            0 => String::new(),
            _ => "; the versions it had published stay".to_owned(),
        };
        // One that computes a long step ends after it, for which the answer does not wait.
        let state = match job.state() {
            JobState::Running => "is about to end".to_owned(),
            state => format!("is {}", json::job_state(state)),
        };
        output::line(format!("{} {state}{kept}", job.name))
    }
}
