//! Changes of the classes on a living model: right at once, refused where they make no sense, undone exactly.

mod support;

use support::{BANK, Daemon, QUESTIONS, probability, train_request};
use taxond::proto::v1::{self, Learn, job_event::Event};
use tonic::Code;

fn rename(class: &str, new_name: &str) -> v1::RenameClassRequest {
    v1::RenameClassRequest {
        model: BANK.into(),
        class_name: class.into(),
        new_name: new_name.into(),
        ..Default::default()
    }
}

/// The mode that a training of the model is planned in, and why.
async fn plan(daemon: &mut Daemon) -> v1::JobPlanned {
    let events = daemon.train(v1::TrainRequest { epochs: Some(1), ..train_request() }).await;
    support::assert_succeeded(&events);
    let planned = events.into_iter().find_map(|event| match event.event {
        Some(Event::Planned(planned)) => Some(planned),
        _ => None,
    });
    planned.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_changes_the_name_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let before = daemon.ask(BANK, &QUESTIONS).await;

    let trial = v1::RenameClassRequest { validate_only: true, ..rename("balance", "Kontostand") };
    let tried = daemon.taxonomy.rename_class(trial).await.unwrap().into_inner();
    assert_eq!(tried.manifest.unwrap().description, "rename balance to Kontostand");
    assert!(tried.version.is_none());
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await, before);

    let request = v1::RenameClassRequest {
        request_id: "rename-1".into(),
        expected_revision: Some(1),
        reason: "the bank speaks German".into(),
        ..rename("balance", "Kontostand")
    };
    let renamed = daemon.taxonomy.rename_class(request.clone()).await.unwrap().into_inner();
    let again = daemon.taxonomy.rename_class(request).await.unwrap().into_inner();
    assert_eq!(again, renamed);
    let manifest = renamed.manifest.unwrap();
    assert_eq!((manifest.revision, manifest.change()), (2, v1::ChangeKind::Rename));
    assert_eq!(manifest.reason, "the bank speaks German");
    let class = manifest.classes.iter().find(|class| class.name == "Kontostand").unwrap();
    assert_eq!(class.former_names, ["balance"]);

    let after = daemon.ask(BANK, &QUESTIONS).await;
    for (old, new) in before.predictions.iter().zip(&after.predictions) {
        assert_eq!(probability(new, "Kontostand"), probability(old, "balance"));
        assert_eq!(probability(new, "card lost"), probability(old, "card lost"));
    }
    // The examples follow, and nothing is to be learnt anew.
    let stats = v1::GetStatsRequest { model: BANK.into() };
    let stats = daemon.dataset.get_stats(stats).await.unwrap().into_inner();
    let label = stats.labels.iter().find(|label| label.label == "balance").unwrap();
    assert_eq!(label.class_name, "Kontostand");
    let planned = plan(&mut daemon).await;
    assert_eq!(planned.mode(), v1::TrainingMode::Continue, "{}", planned.reason);

    daemon.undo().await;
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions, before.predictions);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_does_not_end_the_learning_of_the_change_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let (merged, _stream) = daemon.merge(Learn::Auto).await;
    let renamed = daemon.taxonomy.rename_class(rename("balance", "saldo")).await.unwrap().into_inner();
    let first = daemon.job(&merged.job).await;
    if renamed.job.is_empty() {
        // The merge was learnt before the rename came.
        assert_eq!(first.state(), v1::JobState::Succeeded);
    } else {
        let watch = v1::WatchJobRequest { name: renamed.job.clone() };
        let mut stream = daemon.training.watch_job(watch).await.unwrap().into_inner();
        while stream.message().await.unwrap().is_some() {}
        let job = daemon.job(&renamed.job).await;
        assert_eq!(job.state(), v1::JobState::Succeeded, "{}", job.message);
        assert!(job.mode_reason.contains("changed since"), "{}", job.mode_reason);
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_makes_no_sense_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    for (request, code, part) in [
        (rename("balanse", "x"), Code::NotFound, "did you mean 'balance'?"),
        (rename("balance", "card lost"), Code::InvalidArgument, "name of another class"),
        (
            v1::RenameClassRequest { expected_revision: Some(7), ..rename("balance", "x") },
            Code::Aborted,
            "expected_revision is 7",
        ),
        (
            v1::RenameClassRequest { reason: "x".repeat(1025), ..rename("balance", "x") },
            Code::InvalidArgument,
            "got 1025",
        ),
    ] {
        let status = daemon.taxonomy.rename_class(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(part), "{status}");
    }
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.manifest_revision, 1);
    daemon.stop().await;
}
