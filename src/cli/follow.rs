//! Follows the events of a job to its end, or until Ctrl-C, which leaves the job to itself.

use indicatif::MultiProgress;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use crate::{
    cli::{
        failure::{Exit, Failure},
        json, names, output,
        progress::ProgressView,
    },
    proto::v1::{Job, JobEvent, JobPlanned, JobState, TrainingMode, VersionPublished, job_event::Event},
};

/// Shows the events of a job.
#[derive(Debug)]
pub(crate) struct Follower {
    results: Results,
    view: ProgressView,
    job: Option<String>,
    /// Stands before every sentence, where several jobs are followed.
    name: String,
}

/// What of a job goes to the standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Results {
    /// Every event as a JSON document.
    Json,
    /// What it published, in sentences.
    Sentences,
    /// Nothing.
    None,
}

impl Follower {
    /// Shows events as JSON lines, or as a progress bar and sentences.
    pub(crate) fn new(json: bool) -> Self {
        let results = if json { Results::Json } else { Results::Sentences };
        Self { results, view: ProgressView::new(json), job: None, name: String::new() }
    }

    /// Shows the events of one job beside those of others.
    pub(crate) fn among(bars: &MultiProgress, job: &str, json: bool) -> Self {
        let view = ProgressView::among(bars, job, json);
        Self { view, name: format!("{job}: "), ..Self::new(json) }
    }

    /// Shows the progress only, on the standard error.
    pub(crate) fn progress_only() -> Self {
        Self { results: Results::None, ..Self::new(false) }
    }

    /// Follows to the end of the stream, which is that of the job unless the call was to detach; the job as it ended.
    /// A job that did not succeed is a failure.
    pub(crate) async fn follow(
        mut self,
        mut events: impl Stream<Item = Result<JobEvent, Status>> + Unpin,
    ) -> Result<Option<Job>, Failure> {
        let mut finished = None;
        loop {
            let next = tokio::select! {
                next = events.next() => next,
                _ = tokio::signal::ctrl_c() => return Err(self.detach()),
            };
            match next {
                None => break,
                Some(Err(status)) => return Err(self.broken(status)),
                Some(Ok(event)) => finished = self.show(&event)?.or(finished),
            }
        }
        self.view.clear();
        match finished {
            Some(job) => outcome(&job).map(|()| Some(job)),
            None => self.left().map(|()| None),
        }
    }

    /// Shows one event; the last carries the job.
    fn show(&mut self, event: &JobEvent) -> Result<Option<Job>, Failure> {
        self.job = Some(event.job.clone());
        if self.results == Results::Json {
            output::json(&json::event(event))?;
        } else {
            match &event.event {
                Some(Event::Accepted(accepted)) => {
                    let job = if self.name.is_empty() { format!("{}: ", event.job) } else { String::new() };
                    self.view.note(format!("{job}training {}", names::short(&accepted.model)));
                }
                Some(Event::Planned(plan)) => {
                    self.view.note(planned(plan));
                    plan.warnings.iter().for_each(|warning| self.view.note(format!("warning: {warning}")));
                }
                Some(Event::Progress(progress)) => self.view.training(progress),
                Some(Event::Published(version)) if self.results == Results::Sentences => {
                    self.view.aside(|| output::line(format!("{}{}", self.name, published(version))))?;
                }
                Some(Event::Published(_)) => {}
                Some(Event::Finished(_)) | None => {}
            }
        }
        Ok(match &event.event {
            Some(Event::Finished(finished)) => finished.job.clone(),
            _ => None,
        })
    }

    fn detach(&self) -> Failure {
        self.view.clear();
        match &self.job {
            Some(job) => Failure::new(Exit::Interrupted, format!("detached; {job} goes on"))
                .with_hint(format!("re-attach with `taxond watch {job}`, end it with `taxond cancel {job}`")),
            None => Failure::new(Exit::Interrupted, "interrupted"),
        }
    }

    fn broken(&self, status: Status) -> Failure {
        self.view.clear();
        let failure = Failure::from(status);
        match &self.job {
            Some(job) if failure.exit == Exit::Unreachable => failure.with_hint(format!(
                "the daemon went away; once it is back, `taxond watch {job}` tells how it ended"
            )),
            _ => failure,
        }
    }

    /// The stream ended before the job did, as was asked for.
    fn left(&self) -> Result<(), Failure> {
        match &self.job {
            Some(job) if self.results == Results::Sentences => {
                output::line(format!("{job} runs; follow it with `taxond watch {job}`"))
            }
            _ => Ok(()),
        }
    }
}

/// The failure that the end of a job means, if it means one.
fn outcome(job: &Job) -> Result<(), Failure> {
    let said = if job.message.is_empty() { String::new() } else { format!(": {}", job.message) };
    match job.state() {
        JobState::Succeeded => Ok(()),
        state => Err(Failure::new(Exit::Failed, format!("{} {}{said}", job.name, json::job_state(state)))),
    }
}

fn planned(plan: &JobPlanned) -> String {
    let added = match plan.added_classes.len() {
        // From scratch every class is new, and the reason says how many.
        _ if plan.mode() == TrainingMode::Scratch => String::new(),
        0 => String::new(),
        n => format!(", {n} new class{}: {}", if n == 1 { "" } else { "es" }, first(&plan.added_classes, 8)),
    };
    format!(
        "{}: {}{added}; {} examples train, {} validate, {} epochs",
        json::mode(plan.mode()),
        plan.reason,
        output::count(plan.train_examples),
        output::count(plan.validation_examples),
        plan.epochs,
    )
}

/// The first names of many.
fn first(names: &[String], limit: usize) -> String {
    let shown = names.iter().take(limit).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > limit { format!("{shown} and {} more", names.len() - limit) } else { shown }
}

/// `version 2 serves: validation accuracy 93.1 % (macro F1 92.8 %), after 4.2 s`, or what the gate said against it.
fn published(published: &VersionPublished) -> String {
    let version = published.version.clone().unwrap_or_default();
    let report = version.report.unwrap_or_default();
    let accuracy = report.validation_accuracy.map(|accuracy| {
        let f1 = report.validation_macro_f1.map(|f1| format!(" (macro F1 {})", output::percent(f1)));
        format!(": validation accuracy {}{}", output::percent(accuracy), f1.unwrap_or_default())
    });
    let verdict = match (published.promoted, report.gate.as_str()) {
        (true, _) => format!(" serves{}", accuracy.unwrap_or_default()),
        (false, "") => format!(" is stored, not promoted{}", accuracy.unwrap_or_default()),
        (false, gate) => format!(" is {gate}"),
    };
    format!("version {}{verdict}, after {}", version.number, output::seconds(published.seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{JobAccepted, JobFinished, TrainingReport, Version};

    fn event(event: Event) -> Result<JobEvent, Status> {
        Ok(JobEvent { job: "jobs/3".into(), event: Some(event), ..JobEvent::default() })
    }

    fn finished(state: JobState, message: &str) -> Event {
        let job =
            Job { name: "jobs/3".into(), state: state.into(), message: message.into(), ..Job::default() };
        Event::Finished(JobFinished { job: Some(job) })
    }

    fn follow(events: Vec<Result<JobEvent, Status>>) -> Result<Option<Job>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let view = ProgressView::new(true);
        let follower = Follower { results: Results::None, view, job: None, name: String::new() };
        runtime.block_on(follower.follow(tokio_stream::iter(events)))
    }

    #[test]
    fn the_end_of_the_job_decides() {
        let job = follow(vec![event(finished(JobState::Succeeded, ""))]).unwrap();
        assert_eq!(job.map(|job| job.name).as_deref(), Some("jobs/3"));
        let failure = follow(vec![event(finished(JobState::Failed, "no examples; add some"))]).unwrap_err();
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(failure.to_string(), "jobs/3 failed: no examples; add some");
    }

    #[test]
    fn a_daemon_that_goes_away_leaves_a_way_back() {
        let accepted = event(Event::Accepted(JobAccepted { model: "models/bank".into() }));
        let failure = follow(vec![accepted, Err(Status::unavailable("gone"))]).unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.to_string().contains("taxond watch jobs/3"), "{failure}");
    }

    #[test]
    fn a_stream_that_detaches_is_no_failure() {
        let accepted = event(Event::Accepted(JobAccepted { model: "models/bank".into() }));
        assert!(follow(vec![accepted]).unwrap().is_none());
    }

    #[test]
    fn versions_are_told_with_their_measures() {
        let mut report = TrainingReport { validation_accuracy: Some(0.931), ..TrainingReport::default() };
        report.gate = "stored, not promoted: validation accuracy 0.9310 is below 0.9400".into();
        let version = Version { number: 2, report: Some(report), ..Version::default() };
        let mut told = VersionPublished { version: Some(version), promoted: true, seconds: 4.21 };
        assert_eq!(published(&told), "version 2 serves: validation accuracy 93.1 %, after 4.2 s");
        told.promoted = false;
        assert_eq!(
            published(&told),
            "version 2 is stored, not promoted: validation accuracy 0.9310 is below 0.9400, after 4.2 s"
        );
    }
}
