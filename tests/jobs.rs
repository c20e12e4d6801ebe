//! Jobs outlive their clients: detach, watch again, cancel, supersede, stop of the daemon.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use support::{
    BANK, Daemon, QUESTIONS, assert_succeeded, finished, long_train_request, texts, train_request,
};
use taxond::config::Settings;
use taxond::proto::v1::{
    self, CancelJobRequest, JobEvent, JobState, Learn, ListJobsRequest, TrainRequest, WatchJobRequest,
    job_event::Event,
};

async fn watch(daemon: &mut Daemon, name: &str) -> Vec<JobEvent> {
    let request = WatchJobRequest { name: name.into() };
    let mut stream = daemon.training.watch_job(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        events.push(response.event.unwrap());
    }
    events
}

/// Waits until a job has learnt something, by its events.
async fn until_progress(daemon: &mut Daemon, name: &str) {
    until_epoch(daemon, name, 0).await;
}

/// Waits until a job has come to an epoch, by its events.
async fn until_epoch(daemon: &mut Daemon, name: &str, epoch: u32) {
    let request = WatchJobRequest { name: name.into() };
    let mut stream = daemon.training.watch_job(request).await.unwrap().into_inner();
    while let Some(response) = stream.message().await.unwrap() {
        match response.event.unwrap().event.unwrap() {
            Event::Progress(progress) if progress.epoch >= epoch => return,
            Event::Finished(finished) => panic!("{finished:?}"),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_training_goes_on_and_can_be_watched() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let events = daemon.train(TrainRequest { detach: true, ..train_request() }).await;
    assert_eq!(events.len(), 1);
    let Some(Event::Accepted(_)) = &events[0].event else { panic!("{events:?}") };

    let watched = watch(&mut daemon, &events[0].job).await;
    assert_eq!(watched[0].sequence, 1, "what was before is told again");
    assert_succeeded(&watched);
    // A job that ended is told from its record, as often as asked.
    assert_succeeded(&watch(&mut daemon, &events[0].job).await);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_does_not_stop_the_job() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let mut stream = daemon.training.train(train_request()).await.unwrap().into_inner();
    let job = stream.message().await.unwrap().unwrap().event.unwrap().job;
    drop(stream);
    assert_succeeded(&watch(&mut daemon, &job).await);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_says_so_and_the_model_is_free_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let started = daemon.train(TrainRequest { detach: true, ..long_train_request() }).await;
    let name = started[0].job.clone();
    until_progress(&mut daemon, &name).await;
    let running = daemon.job(&name).await;
    assert_eq!(running.state(), JobState::Running);
    assert!(running.progress.unwrap().steps > 0);

    daemon.training.cancel_job(CancelJobRequest { name: name.clone() }).await.unwrap();
    let job = finished(&watch(&mut daemon, &name).await);
    assert_eq!(job.state(), JobState::Cancelled);
    assert!(job.end_time.is_some());
    let status = daemon.training.cancel_job(CancelJobRequest { name }).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);

    assert_succeeded(&daemon.train(train_request()).await);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_keeps_what_its_best_epoch_learnt_without_promoting_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let started = daemon.train(TrainRequest { detach: true, ..long_train_request() }).await;
    let name = started[0].job.clone();
    until_epoch(&mut daemon, &name, 2).await;
    daemon.training.cancel_job(CancelJobRequest { name: name.clone() }).await.unwrap();
    let events = watch(&mut daemon, &name).await;
    let job = finished(&events);
    assert_eq!(
        (job.state(), &*job.versions),
        (JobState::Cancelled, &["models/bank/versions/1".to_owned()][..])
    );
    assert!(job.message.contains("version 1, not promoted"), "{}", job.message);
    let Some(Event::Published(published)) = &events[events.len() - 2].event else { panic!("{events:?}") };
    let report = published.version.clone().unwrap().report.unwrap();
    assert!(!published.promoted && report.gate.contains("cancelled after"), "{}", report.gate);
    assert!((1..1000).contains(&report.epochs) && report.curve.len() == report.epochs as usize);
    // It answers when asked by number, and nobody else.
    assert_eq!(daemon.ask("models/bank/versions/1", &QUESTIONS).await.predictions.len(), QUESTIONS.len());
    let request = v1::GetModelRequest { name: BANK.into() };
    let model = daemon.registry.get_model(request).await.unwrap().into_inner().model.unwrap();
    assert!(model.aliases.is_empty());

    // The next training starts anew, and classes keep their ids though one came in between.
    let old = manifest(&mut daemon, 1).await;
    daemon.add(BANK, vec![v1::LabelledText { text: "a loan please".into(), label: "a loan".into() }]).await;
    assert_succeeded(&daemon.train(train_request()).await);
    let new = manifest(&mut daemon, 2).await;
    assert_eq!(new.classes.len(), old.classes.len() + 1);
    assert!(old.classes.iter().all(|class| new.classes.contains(class)));
    daemon.stop().await;
}

async fn manifest(daemon: &mut Daemon, revision: u64) -> v1::Manifest {
    let request =
        v1::GetManifestRequest { name: format!("{BANK}/manifests/{revision}"), ..Default::default() };
    daemon.taxonomy.get_manifest(request).await.unwrap().into_inner().manifest.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_supersedes_the_learning_of_the_change_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let (applied, _stream) = daemon.merge(Learn::Auto).await;
    // Whether the job was faster or not, the undo stands and nothing of the job serves.
    daemon.undo().await;
    let job = finished(&watch(&mut daemon, &applied.job).await);
    assert!(matches!(job.state(), JobState::Superseded | JobState::Succeeded), "{job:?}");
    let answers = daemon.ask(BANK, &QUESTIONS).await;
    let first = daemon.ask("models/bank/versions/1", &QUESTIONS).await;
    assert_eq!(answers.predictions, first.predictions);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_the_stop_of_the_daemon_ends_is_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let mut stream = daemon.training.train(long_train_request()).await.unwrap().into_inner();
    let job = stream.message().await.unwrap().unwrap().event.unwrap().job;
    until_progress(&mut daemon, &job).await;
    let follower = tokio::spawn(async move {
        let mut last = None;
        while let Ok(Some(response)) = stream.message().await {
            last = response.event;
        }
        last
    });
    daemon.stop().await;
    let last = follower.await.unwrap().expect("the stream told the end");
    let Some(Event::Finished(told)) = last.event else { panic!("{last:?}") };
    assert_eq!(told.job.unwrap().state(), JobState::Interrupted);

    let mut daemon = Daemon::start(dir.path()).await;
    let stored = daemon.job(&job).await;
    assert_eq!(stored.state(), JobState::Interrupted);
    assert_eq!(stored.continued_by, "jobs/2");
    assert!(stored.message.contains("jobs/2 does the work again"), "{}", stored.message);
    // The work goes on over as many stops as there are, and ends when somebody says so.
    until_progress(&mut daemon, "jobs/2").await;
    daemon.stop().await;
    let mut daemon = Daemon::start(dir.path()).await;
    assert_eq!(daemon.job("jobs/2").await.continued_by, "jobs/3");
    let again = daemon.job("jobs/3").await;
    assert_eq!((again.continues.as_str(), again.continued_by.as_str()), ("jobs/2", ""));
    let cancel = v1::CancelJobRequest { name: "jobs/3".into() };
    daemon.training.cancel_job(cancel).await.unwrap();
    while daemon.job("jobs/3").await.end_time.is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    daemon.stop().await;
    let mut daemon = Daemon::start(dir.path()).await;
    assert_eq!(daemon.job("jobs/3").await.continued_by, "", "it was cancelled");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_done_again_makes_what_it_would_have_made() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let request = || TrainRequest { epochs: Some(6), seed: Some(7), ..long_train_request() };
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let mut stream = daemon.training.train(request()).await.unwrap().into_inner();
    let job = stream.message().await.unwrap().unwrap().event.unwrap().job;
    until_progress(&mut daemon, &job).await;
    drop(stream);
    daemon.stop().await;
    let mut daemon = Daemon::start(dir.path()).await;
    let watch = v1::WatchJobRequest { name: daemon.job(&job).await.continued_by };
    let mut stream = daemon.training.watch_job(watch).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
    let again = daemon.ask(BANK, &QUESTIONS).await;
    daemon.stop().await;

    let mut daemon = Daemon::with_examples(other.path()).await;
    support::assert_succeeded(&daemon.train(request()).await);
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions, again.predictions);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_over_the_memory_limit_is_refused_with_its_estimate() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { training_memory_limit: Some(16 << 20), ..Settings::default() };
    let mut daemon = Daemon::start_with(dir.path(), settings).await;
    let request = v1::CreateModelRequest {
        model_id: "bank".into(),
        preset: v1::Preset::Seed.into(),
        ..Default::default()
    };
    daemon.registry.create_model(request).await.unwrap();
    daemon.add(BANK, texts()).await;
    let job = finished(&daemon.train(train_request()).await);
    assert_eq!(job.state(), JobState::Failed);
    assert!(job.message.contains("would take about"), "{}", job.message);
    assert!(job.message.contains("the limit is 16.0 MiB"), "{}", job.message);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_newest_first_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    for _ in 0..2 {
        daemon.train(TrainRequest { epochs: Some(1), ..train_request() }).await;
    }
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let request = ListJobsRequest { model: BANK.into(), page_size: 2, page_token: token };
        let page = daemon.training.list_jobs(request).await.unwrap().into_inner();
        names.extend(page.jobs.into_iter().map(|job| job.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["jobs/3", "jobs/2", "jobs/1"]);
    let request = v1::ListJobsRequest { page_token: "x".into(), ..Default::default() };
    assert_eq!(daemon.training.list_jobs(request).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_a_row_never_meet_the_publication_of_a_job() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let first = daemon.ask(BANK, &QUESTIONS).await;
    // The pauses let each learning job come to another point, its publication among them.
    for round in 0..8 {
        let (applied, _stream) = daemon.merge(Learn::Auto).await;
        tokio::time::sleep(std::time::Duration::from_millis(60 * round)).await;
        daemon.undo().await;
        let job = finished(&watch(&mut daemon, &applied.job).await);
        assert!(matches!(job.state(), JobState::Superseded | JobState::Succeeded), "{job:?}");
        assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions, first.predictions);
    }
    daemon.stop().await;
}
