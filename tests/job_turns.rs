//! Jobs of several models side by side: they take turns, wait for room, and end at once when they are told
//! to.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use support::{Daemon, QUESTIONS, finished, merge_request, texts, train_request};
use taxond::{
    config::Settings,
    proto::v1::{
        self, CancelJobRequest, DeleteModelRequest, JobEvent, JobState, Learn, MergeClassesRequest,
        TrainRequest, WatchJobRequest, job_event::Event, merge_classes_response,
    },
};
use tonic::Request;

/// Starts a training of a model that takes as many epochs; the name of its job.
async fn start(daemon: &mut Daemon, id: &str, epochs: u32) -> String {
    start_as(daemon, id, epochs, "tests").await
}

async fn start_as(daemon: &mut Daemon, id: &str, epochs: u32, user: &str) -> String {
    let mut request = Request::new(TrainRequest {
        model: format!("models/{id}"),
        epochs: Some(epochs),
        seed: Some(7),
        detach: true,
        ..Default::default()
    });
    request.metadata_mut().insert("taxond-user", user.parse().unwrap());
    let mut stream = daemon.training.train(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap().event.unwrap().job
}

/// Follows a job until an event, or to its end.
async fn follow(daemon: &mut Daemon, name: &str, until: impl Fn(&Event) -> bool) -> Vec<JobEvent> {
    let request = WatchJobRequest { name: name.into() };
    let mut stream = daemon.training.watch_job(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        let event = response.event.unwrap();
        let is_last = until(event.event.as_ref().unwrap());
        events.push(event);
        if is_last {
            break;
        }
    }
    events
}

async fn succeeds(daemon: &mut Daemon, name: &str) -> Vec<JobEvent> {
    let events = follow(daemon, name, |_| false).await;
    support::assert_succeeded(&events);
    events
}

/// Waits until a job is in an epoch of its network.
async fn until_epoch(daemon: &mut Daemon, name: &str, epoch: u32) {
    let reached = |event: &Event| matches!(event, Event::Progress(progress) if progress.epoch >= epoch);
    let events = follow(daemon, name, reached).await;
    assert!(reached(events.last().unwrap().event.as_ref().unwrap()), "{events:?}");
}

async fn cancel(daemon: &mut Daemon, name: &str) -> v1::Job {
    let request = CancelJobRequest { name: name.into() };
    daemon.training.cancel_job(request).await.unwrap().into_inner().job.unwrap()
}

async fn state(daemon: &mut Daemon, name: &str) -> JobState {
    daemon.job(name).await.state()
}

/// A model with a part of the small data set.
async fn create(daemon: &mut Daemon, id: &str) {
    daemon.create(id).await;
    let examples = texts().into_iter().step_by(3).collect();
    daemon.add(&format!("models/{id}"), examples).await;
}

/// A model that answers.
async fn create_trained(daemon: &mut Daemon, id: &str) {
    create(daemon, id).await;
    let job = start(daemon, id, 2).await;
    succeeds(daemon, &job).await;
}

/// Merges classes of a model, or does what an earlier merge did again in other words; the job that learns.
async fn merge(daemon: &mut Daemon, id: &str, classes: [&str; 2], into: &str, learn: Learn) -> String {
    let request = MergeClassesRequest {
        model: format!("models/{id}"),
        classes: classes.map(str::to_owned).to_vec(),
        into: into.into(),
        ..merge_request(learn)
    };
    let mut stream = daemon.taxonomy.merge_classes(request).await.unwrap().into_inner();
    match stream.message().await.unwrap().unwrap().result.unwrap() {
        merge_classes_response::Result::Applied(applied) => applied.job,
        other => panic!("not applied: {other:?}"),
    }
}

const WITHDRAWALS: [&str; 2] = ["withdraw under 20k", "withdraw over 20k"];

/// Settings under which two trainings of these examples are not in progress at once.
async fn room_for_one(dir: &std::path::Path) -> Settings {
    let tiny = Settings { training_memory_limit: Some(16 << 20), ..Settings::default() };
    let mut daemon = Daemon::start_with(dir, tiny).await;
    create(&mut daemon, "bank").await;
    let message = finished(&daemon.train(train_request()).await).message;
    daemon.stop().await;
    let estimate = message.split("would take about ").nth(1).and_then(|rest| rest.split(" MiB").next());
    let mebibytes: f64 = estimate.unwrap_or_else(|| panic!("{message}")).parse().unwrap();
    let limit = (mebibytes * 1.5) as u64 + 1;
    Settings { training_memory_limit: Some(limit << 20), ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_ends_with_the_call_that_cancels_it() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let settings = room_for_one(dirs[0].path()).await;
    let mut daemon = Daemon::start_with(dirs[1].path(), settings).await;
    create_trained(&mut daemon, "bank").await;
    create(&mut daemon, "other").await;
    let long = start(&mut daemon, "other", 1000).await;
    until_epoch(&mut daemon, &long, 1).await;

    let waits = start(&mut daemon, "bank", 4).await;
    let cancelled = cancel(&mut daemon, &waits).await;
    assert_eq!(cancelled.state(), JobState::Cancelled);
    assert!(cancelled.end_time.is_some() && cancelled.versions.is_empty(), "{cancelled:?}");
    assert_eq!(state(&mut daemon, &waits).await, JobState::Cancelled);
    let events = follow(&mut daemon, &waits, |_| false).await;
    assert_eq!(finished(&events).state(), JobState::Cancelled, "who follows it is told");

    // The model is free: for a change, whose job waits now, and for one that supersedes this in the same
    // commit.
    let first = merge(&mut daemon, "bank", WITHDRAWALS, "withdraw", Learn::HeadOnly).await;
    assert!(!first.is_empty());
    let second = merge(&mut daemon, "bank", ["balance", "card lost"], "account", Learn::HeadOnly).await;
    assert_eq!(state(&mut daemon, &first).await, JobState::Superseded);
    assert_eq!(state(&mut daemon, &long).await, JobState::Running, "the other one goes on");
    assert_eq!(cancel(&mut daemon, &second).await.state(), JobState::Cancelled);
    let request = DeleteModelRequest { name: "models/bank".into(), ..Default::default() };
    daemon.registry.delete_model(request).await.unwrap();
    assert_eq!(state(&mut daemon, &long).await, JobState::Running);
    assert_eq!(cancel(&mut daemon, &long).await.state(), JobState::Cancelled);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_room_beside_another_runs_when_that_has_ended() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let settings = room_for_one(dirs[0].path()).await;
    let mut daemon = Daemon::start_with(dirs[1].path(), settings.clone()).await;
    for id in ["bank", "other"] {
        create(&mut daemon, id).await;
    }
    let first = start(&mut daemon, "other", 30).await;
    let second = start(&mut daemon, "bank", 2).await;
    let second = finished(&succeeds(&mut daemon, &second).await);
    let first = daemon.job(&first).await;
    assert_eq!(first.state(), JobState::Succeeded);
    let began = |job: &v1::Job| job.end_time.map(|end| (end.seconds, end.nanos)).unwrap();
    assert!(began(&first) < began(&second), "{first:?} {second:?}");

    // One that waits when the daemon stops is done again, after the one that was in progress.
    let long = start(&mut daemon, "other", 1000).await;
    until_epoch(&mut daemon, &long, 1).await;
    let waits = start(&mut daemon, "bank", 2).await;
    daemon.stop().await;
    let mut daemon = Daemon::start_with(dirs[1].path(), settings).await;
    for (job, message) in [(&long, "does the work again"), (&waits, "does the work again")] {
        let job = daemon.job(job).await;
        assert_eq!(job.state(), JobState::Interrupted);
        assert!(job.message.contains(message), "{}", job.message);
    }
    let again = daemon.job(&long).await.continued_by;
    cancel(&mut daemon, &again).await;
    let again = daemon.job(&waits).await.continued_by;
    succeeds(&mut daemon, &again).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_training_and_a_change_end_while_a_long_training_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    for id in ["long", "short"] {
        create(&mut daemon, id).await;
    }
    create_trained(&mut daemon, "changed").await;
    let long = start(&mut daemon, "long", 1000).await;
    until_epoch(&mut daemon, &long, 1).await;
    let short = start(&mut daemon, "short", 2).await;
    let change = merge(&mut daemon, "changed", WITHDRAWALS, "withdraw", Learn::Auto).await;
    succeeds(&mut daemon, &change).await;
    succeeds(&mut daemon, &short).await;
    assert_eq!(state(&mut daemon, &long).await, JobState::Running);
    // What it learnt until it is cancelled is kept, although it was parked in between.
    until_epoch(&mut daemon, &long, 2).await;
    let job = cancel(&mut daemon, &long).await;
    assert_eq!((job.state(), job.versions.len()), (JobState::Cancelled, 1), "{}", job.message);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_long_jobs_of_one_identity_do_not_starve_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    let mut long = Vec::new();
    for number in 1..=5 {
        let id = format!("long-{number}");
        create(&mut daemon, &id).await;
        long.push(start_as(&mut daemon, &id, 1000, "ada").await);
    }
    create(&mut daemon, "short").await;
    let short = start_as(&mut daemon, "short", 2, "bob").await;
    succeeds(&mut daemon, &short).await;
    for job in &long {
        let job = daemon.job(job).await;
        assert!(job.end_time.is_none(), "{job:?}");
        cancel(&mut daemon, &job.name).await;
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_wait_for_their_turn_are_cancelled_at_once_and_survive_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    let mut jobs = Vec::new();
    for id in ["one", "two", "three"] {
        create(&mut daemon, id).await;
        jobs.push(start(&mut daemon, id, 1000).await);
    }
    for job in &jobs {
        until_epoch(&mut daemon, job, 1).await;
    }
    // At most one of them has the turn.
    let cancelled = cancel(&mut daemon, &jobs[0]).await;
    assert_eq!(cancelled.state(), JobState::Cancelled);
    daemon.stop().await;

    let mut daemon = Daemon::start(dir.path()).await;
    assert_eq!(daemon.job(&jobs[0]).await.continued_by, "");
    for job in &jobs[1..] {
        let job = daemon.job(job).await;
        assert_eq!(job.state(), JobState::Interrupted);
        until_epoch(&mut daemon, &job.continued_by, 1).await;
        assert_eq!(state(&mut daemon, &job.continued_by).await, JobState::Running);
        assert_eq!(cancel(&mut daemon, &job.continued_by).await.state(), JobState::Cancelled);
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_makes_the_same_whether_it_takes_turns_or_not() {
    /// Epochs that take several slices.
    const EPOCHS: u32 = 40;
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut daemon = Daemon::start(dirs[0].path()).await;
    create(&mut daemon, "bank").await;
    let job = start(&mut daemon, "bank", EPOCHS).await;
    succeeds(&mut daemon, &job).await;
    let alone = learnt(&mut daemon).await;
    daemon.stop().await;

    let mut daemon = Daemon::start(dirs[1].path()).await;
    create(&mut daemon, "bank").await;
    create(&mut daemon, "other").await;
    create_trained(&mut daemon, "changed").await;
    let job = start(&mut daemon, "bank", EPOCHS).await;
    until_epoch(&mut daemon, &job, 1).await;
    let other = start(&mut daemon, "other", 1000).await;
    // Jobs of changes take the turn in the middle of an epoch.
    let change = merge(&mut daemon, "changed", WITHDRAWALS, "withdraw", Learn::Auto).await;
    succeeds(&mut daemon, &change).await;
    assert_eq!(state(&mut daemon, &job).await, JobState::Running, "it was parked meanwhile");
    succeeds(&mut daemon, &job).await;
    assert!(learnt(&mut daemon).await == alone, "it learnt something else than alone");
    cancel(&mut daemon, &other).await;
    daemon.stop().await;
}

/// What the first version of `bank` answers, and how its training went but for the time.
async fn learnt(daemon: &mut Daemon) -> (Vec<v1::Prediction>, Vec<(f64, f64)>) {
    let predictions = daemon.ask("models/bank/versions/1", &QUESTIONS).await.predictions;
    let request = v1::GetVersionRequest { name: "models/bank/versions/1".into() };
    let version = daemon.registry.get_version(request).await.unwrap().into_inner().version.unwrap();
    let curve = version.report.unwrap().curve;
    (predictions, curve.into_iter().map(|epoch| (epoch.train_loss, epoch.validation_loss())).collect())
}
