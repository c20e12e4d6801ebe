//! The whole way of a model: create, add, train, predict, merge, undo, restart.

mod support;

use support::{BANK, Daemon, QUESTIONS, assert_succeeded, finished, probability, texts, train_request};
use taxond::proto::v1::{self, GetManifestRequest, Learn, job_event::Event, merge_classes_response};

#[tokio::test(flavor = "multi_thread")]
async fn training_streams_its_plan_its_progress_and_its_version() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let events = daemon.train(train_request()).await;
    assert_succeeded(&events);

    assert!(events.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    let Some(Event::Accepted(_)) = &events[0].event else { panic!("{:?}", events[0]) };
    let Some(Event::Planned(planned)) = &events[1].event else { panic!("{:?}", events[1]) };
    assert_eq!(planned.mode(), v1::TrainingMode::Scratch);
    assert!(planned.reason.contains("no version yet"), "{}", planned.reason);
    assert_eq!(planned.added_classes, ["balance", "card lost", "withdraw over 20k", "withdraw under 20k"]);
    assert_eq!(planned.train_examples + planned.validation_examples, texts().len() as u64);

    let progress: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.event {
            Some(Event::Progress(progress)) => Some(progress),
            _ => None,
        })
        .collect();
    assert!(progress.iter().any(|p| p.epoch == 4) && progress.iter().all(|p| p.loss.is_finite()));
    assert!(progress.iter().all(|p| p.step <= p.steps && p.eta_seconds >= 0.0));
    let published: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.event {
            Some(Event::Published(published)) => Some(published),
            _ => None,
        })
        .collect();
    assert_eq!(published.len(), 1);
    let version = published[0].version.as_ref().unwrap();
    assert!(published[0].promoted);
    assert_eq!(version.name, "models/bank/versions/1");
    assert_eq!(version.mode(), v1::TrainingMode::Scratch);
    let report = version.report.as_ref().unwrap();
    assert!(report.validation_accuracy.unwrap() > 0.8);
    assert_eq!(finished(&events).versions, ["models/bank/versions/1"]);

    // The curve is stored with the version; lists leave it out.
    let request = v1::GetVersionRequest { name: version.name.clone() };
    let stored = daemon.registry.get_version(request).await.unwrap().into_inner().version.unwrap();
    let curve = stored.report.unwrap().curve;
    assert!(curve.iter().map(|epoch| epoch.epoch).eq(1..=4));
    let kept = &curve[report.best_epoch as usize - 1];
    assert_eq!(kept.validation_accuracy, report.validation_accuracy);
    assert_eq!(kept.train_loss, report.train_loss);
    let request = v1::ListVersionsRequest { model: BANK.into(), ..Default::default() };
    let page = daemon.registry.list_versions(request).await.unwrap().into_inner();
    let listed = page.versions[0].report.as_ref().unwrap();
    assert!(listed.curve.is_empty() && listed.rejection.is_empty());

    let answers = daemon.ask(BANK, &QUESTIONS).await;
    assert_eq!(answers.version, "models/bank/versions/1");
    assert_eq!(answers.predictions[2].classes[0].name, "balance");
    assert_eq!(answers.predictions[3].classes[0].name, "card lost");
    for prediction in &answers.predictions {
        let total: f64 = prediction.classes.iter().map(|class| class.probability).sum();
        assert!((total - 1.0).abs() < 1e-5, "{total}");
        assert!(prediction.classes.is_sorted_by(|a, b| a.probability >= b.probability));
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsure_answers_are_marked_at_the_precision_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let request = v1::GetVersionRequest { name: "models/bank/versions/1".into() };
    let report =
        daemon.registry.get_version(request).await.unwrap().into_inner().version.unwrap().report.unwrap();
    assert!(report.calibration_error.is_some());
    let surest = *report.rejection.last().unwrap();
    // An instant version has the curve of the one it came from.
    daemon.merge(Learn::None).await;
    let question = |min_precision| v1::PredictRequest {
        model: BANK.into(),
        texts: QUESTIONS.map(String::from).to_vec(),
        min_precision: Some(min_precision),
        ..Default::default()
    };
    let answers = daemon.predict.predict(question(surest.precision)).await.unwrap().into_inner();
    assert_eq!(answers.version, "models/bank/versions/2");
    assert_eq!(answers.rejection_threshold, Some(surest.min_confidence));
    for prediction in &answers.predictions {
        assert_eq!(prediction.rejected, prediction.classes[0].probability < surest.min_confidence);
    }
    assert!(daemon.ask(BANK, &QUESTIONS).await.predictions.iter().all(|prediction| !prediction.rejected));
    if surest.precision < 1.0 {
        let refused = daemon.predict.predict(question(1.0)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_answers_with_the_exact_sum_and_undo_restores_the_bits() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let before = daemon.ask(BANK, &QUESTIONS).await;

    let (applied, _stream) = daemon.merge(Learn::None).await;
    assert_eq!(applied.version.as_ref().unwrap().number, 2);
    assert_eq!(applied.version.as_ref().unwrap().origin(), v1::VersionOrigin::Instant);
    assert_eq!(applied.manifest.as_ref().unwrap().revision, 2);
    assert!(applied.job.is_empty());
    let merged = daemon.ask(BANK, &QUESTIONS).await;
    assert_eq!((merged.version.as_str(), merged.manifest_revision), ("models/bank/versions/2", 2));
    for (old, new) in before.predictions.iter().zip(&merged.predictions) {
        let sum = probability(old, "withdraw under 20k") + probability(old, "withdraw over 20k");
        assert_eq!(probability(new, "withdraw"), sum);
        for class in ["balance", "card lost"] {
            assert_eq!(probability(new, class), probability(old, class));
        }
        assert_eq!(new.classes.len(), 3);
    }

    let undone = daemon.undo().await;
    assert_eq!(undone.version.unwrap().origin(), v1::VersionOrigin::Undo);
    assert_eq!(undone.manifest.unwrap().revision, 3);
    let after = daemon.ask(BANK, &QUESTIONS).await;
    assert_eq!(after.version, "models/bank/versions/3");
    assert_eq!(after.predictions, before.predictions);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_after_a_rollback_gives_out_no_id_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let merged_id = |applied: v1::ChangeApplied| {
        let classes = applied.manifest.unwrap().classes;
        classes.iter().find(|class| class.name == "withdraw").unwrap().id
    };
    let first = merged_id(daemon.merge(Learn::None).await.0);
    let back =
        v1::SetAliasRequest { model: BANK.into(), alias: "serving".into(), version: 1, ..Default::default() };
    daemon.registry.set_alias(back).await.unwrap();
    let second = merged_id(daemon.merge(Learn::None).await.0);
    assert!(second > first, "{second} after {first}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_merge_a_job_transfers_and_publishes_what_is_not_worse() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let (applied, mut stream) = daemon.merge(Learn::Auto).await;
    assert_eq!(applied.job, "jobs/2");
    let mut events = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        match response.result.unwrap() {
            merge_classes_response::Result::Event(event) => events.push(event),
            other => panic!("{other:?}"),
        }
    }
    assert_succeeded(&events);
    let job = finished(&events);
    assert_eq!(job.mode(), v1::TrainingMode::Transfer);
    assert!(job.mode_reason.contains("merge withdraw under 20k, withdraw over 20k into withdraw"), "{job:?}");
    let published = events.iter().filter_map(|event| match &event.event {
        Some(Event::Published(published)) => Some(published),
        _ => None,
    });
    let (mut serving, mut stages) = (2, Vec::new());
    for (published, number) in published.zip(3..) {
        let version = published.version.as_ref().unwrap();
        let report = version.report.as_ref().unwrap();
        let not_worse = report.validation_accuracy.unwrap() >= report.replaced_validation_accuracy.unwrap();
        assert_eq!(published.promoted, not_worse, "{}", report.gate);
        assert_eq!((version.number, version.parent, version.manifest_revision), (number, serving, 2));
        stages.push(report.stage.clone());
        serving = if not_worse { number } else { serving };
    }
    assert_eq!(stages, ["refit", "fit"]);
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.version, format!("models/bank/versions/{serving}"));

    // Undo leads back over what was learnt since.
    daemon.undo().await;
    let first = daemon.ask("models/bank/versions/1", &QUESTIONS).await;
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions, first.predictions);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_serves_the_same_bits_in_the_same_classes() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let _merge = daemon.merge(Learn::None).await;
    let before = daemon.ask(BANK, &QUESTIONS).await;
    drop(_merge);
    daemon.stop().await;

    let mut daemon = Daemon::start(dir.path()).await;
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await, before);
    let request = GetManifestRequest { name: BANK.into(), ..Default::default() };
    let manifest = daemon.taxonomy.get_manifest(request).await.unwrap().into_inner().manifest.unwrap();
    assert_eq!(manifest.description, "merge withdraw under 20k, withdraw over 20k into withdraw");
    assert!(manifest.undoable);
    daemon.undo().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_decide_between_continue_and_transfer_and_old_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;

    let job = finished(&daemon.train(train_request()).await);
    assert_eq!(job.mode(), v1::TrainingMode::Continue);

    // A new label makes the next training a transfer; classes without new examples stay.
    let loans =
        (0..40).map(|i| v1::LabelledText { text: format!("i need a loan of {i}000"), label: "loan".into() });
    daemon.add(BANK, loans.collect()).await;
    let events = daemon.train(train_request()).await;
    let job = finished(&events);
    assert_eq!(job.mode(), v1::TrainingMode::Transfer);
    assert!(job.mode_reason.contains("'loan'"), "{}", job.mode_reason);
    let answers = daemon.ask(BANK, &["i need a loan of 7500", "my card is lost"]).await;
    assert_eq!(answers.predictions[0].classes.len(), 5);
    assert_eq!(answers.predictions[0].classes[0].name, "loan");
    assert_eq!(answers.predictions[1].classes[0].name, "card lost");
    daemon.stop().await;
}
