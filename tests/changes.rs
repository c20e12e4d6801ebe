//! Changes of the classes on a living model: right at once, refused where they make no sense, undone exactly.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use support::{BANK, Daemon, QUESTIONS, probability, train_request};
use taxond::proto::v1::{
    self, LabelledText, Learn, add_classes_response, job_event::Event, remove_classes_response,
};
use tonic::Code;

fn rename(class: &str, new_name: &str) -> v1::RenameClassRequest {
    v1::RenameClassRequest {
        model: BANK.into(),
        class_name: class.into(),
        new_name: new_name.into(),
        ..Default::default()
    }
}

fn place(class: &str, parent: &str) -> v1::MoveClassRequest {
    v1::MoveClassRequest {
        model: BANK.into(),
        class_name: class.into(),
        parent: parent.into(),
        create_parent: true,
        ..Default::default()
    }
}

fn removal(classes: &[&str]) -> v1::RemoveClassesRequest {
    v1::RemoveClassesRequest {
        model: BANK.into(),
        classes: classes.iter().map(|class| (*class).into()).collect(),
        learn: Learn::None.into(),
        ..Default::default()
    }
}

fn addition(names: &[&str]) -> v1::AddClassesRequest {
    v1::AddClassesRequest {
        model: BANK.into(),
        names: names.iter().map(|name| (*name).into()).collect(),
        ..Default::default()
    }
}

async fn remove(daemon: &mut Daemon, request: v1::RemoveClassesRequest) -> remove_classes_response::Result {
    let mut stream = daemon.taxonomy.remove_classes(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap().result.unwrap()
}

/// Adds classes; what was answered first, and the job's events.
async fn add(
    daemon: &mut Daemon,
    request: v1::AddClassesRequest,
) -> (add_classes_response::Result, Vec<v1::JobEvent>) {
    let mut stream = daemon.taxonomy.add_classes(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().result.unwrap();
    let mut events = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        match response.result.unwrap() {
            add_classes_response::Result::Event(event) => events.push(event),
            other => panic!("{other:?}"),
        }
    }
    (first, events)
}

/// Asks about the questions at a level.
async fn ask_at(daemon: &mut Daemon, level: u32) -> Vec<v1::Prediction> {
    let request = v1::PredictRequest {
        model: BANK.into(),
        texts: QUESTIONS.map(String::from).to_vec(),
        top_k: Some(1000),
        level: Some(level),
        ..Default::default()
    };
    daemon.predict.predict(request).await.unwrap().into_inner().predictions
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
    let stats = v1::GetStatsRequest { model: BANK.into(), ..Default::default() };
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

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_class_leaves_its_probability_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let before = daemon.ask(BANK, &QUESTIONS).await;

    let trial = v1::RemoveClassesRequest { validate_only: true, ..removal(&["card lost"]) };
    let remove_classes_response::Result::Preview(preview) = remove(&mut daemon, trial).await else {
        panic!()
    };
    assert!(preview.validation_examples > 0);
    assert!(preview.validation_accuracy_after.unwrap() >= preview.validation_accuracy_before.unwrap());
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await, before);

    let request = v1::RemoveClassesRequest { request_id: "remove-1".into(), ..removal(&["card lost"]) };
    let applied = remove(&mut daemon, request.clone()).await;
    let again = remove(&mut daemon, request).await;
    let (remove_classes_response::Result::Applied(applied), remove_classes_response::Result::Applied(again)) =
        (applied, again)
    else {
        panic!()
    };
    assert_eq!((&again.version, &again.manifest), (&applied.version, &applied.manifest));
    assert_eq!(applied.manifest.unwrap().change(), v1::ChangeKind::Remove);
    let after = daemon.ask(BANK, &QUESTIONS).await;
    for (old, new) in before.predictions.iter().zip(&after.predictions) {
        let rest = 1.0 - probability(old, "card lost");
        let total: f64 = new.classes.iter().map(|class| class.probability).sum();
        assert!((total - 1.0).abs() < 1e-9, "{total}");
        if rest > 1e-3 {
            for class in &new.classes {
                assert!((class.probability - probability(old, &class.name) / rest).abs() < 1e-3);
            }
        }
    }
    // How sure an answer must be was not measured without the class.
    let question = v1::PredictRequest {
        model: BANK.into(),
        texts: vec!["x".into()],
        min_precision: Some(0.5),
        ..Default::default()
    };
    let refused = daemon.predict.predict(question).await.unwrap_err();
    assert!(refused.message().contains("since classes were last taken out"), "{refused}");

    // The examples stay, and do not bring the class back.
    let planned = plan(&mut daemon).await;
    assert_eq!(planned.mode(), v1::TrainingMode::Transfer);
    assert!(planned.added_classes.is_empty());
    assert!(planned.reason.contains("take no part: 'card lost'"), "{}", planned.reason);
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions[3].classes.len(), 3);

    daemon.undo().await;
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions, before.predictions);
    let all = removal(&["card lost", "balance", "withdraw over 20k"]);
    let refused = daemon.taxonomy.remove_classes(all).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("1 of 4 classes would be left"), "{refused}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_answer_for_what_is_in_them_at_every_level() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let before = daemon.ask(BANK, &QUESTIONS).await;
    let unknown = v1::MoveClassRequest { create_parent: false, ..place("balance", "cash") };
    assert_eq!(daemon.taxonomy.move_class(unknown).await.unwrap_err().code(), Code::NotFound);
    let trial = v1::MoveClassRequest { validate_only: true, ..place("balance", "cash") };
    let tried = daemon.taxonomy.move_class(trial).await.unwrap().into_inner();
    assert_eq!(tried.manifest.unwrap().description, "move balance under cash");
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await, before);

    for (class, parent) in [
        ("withdraw under 20k", "cash"),
        ("withdraw over 20k", "cash"),
        ("cash", "money"),
        ("balance", "money"),
    ] {
        let moved = daemon.taxonomy.move_class(place(class, parent)).await.unwrap().into_inner();
        assert_eq!(moved.manifest.unwrap().change(), v1::ChangeKind::Move);
    }
    let ends = ask_at(&mut daemon, 2).await;
    assert_eq!(ends, before.predictions);
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions, before.predictions);
    let (top, middle) = (ask_at(&mut daemon, 0).await, ask_at(&mut daemon, 1).await);
    for ((top, middle), end) in top.iter().zip(&middle).zip(&ends) {
        let cash = probability(end, "withdraw under 20k") + probability(end, "withdraw over 20k");
        assert!((probability(middle, "cash") - cash).abs() < 1e-12);
        assert!((probability(top, "money") - cash - probability(end, "balance")).abs() < 1e-12);
        assert_eq!(probability(top, "card lost"), probability(end, "card lost"));
        assert_eq!((top.classes.len(), middle.classes.len()), (2, 3));
        for prediction in [top, middle] {
            let total: f64 = prediction.classes.iter().map(|class| class.probability).sum();
            assert!((total - 1.0).abs() < 1e-5, "{total}");
        }
    }
    let planned = plan(&mut daemon).await;
    assert_eq!(planned.mode(), v1::TrainingMode::Continue, "{}", planned.reason);
    for _ in 0..4 {
        daemon.undo().await;
    }
    assert_eq!(ask_at(&mut daemon, 0).await, before.predictions);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_class_is_silent_until_it_is_learnt() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let before = daemon.ask(BANK, &QUESTIONS).await;
    let trial = v1::AddClassesRequest { validate_only: true, ..addition(&["loan", "exchange"]) };
    let (add_classes_response::Result::Preview(preview), _) = add(&mut daemon, trial).await else { panic!() };
    assert_eq!(preview.validation_accuracy_after, preview.validation_accuracy_before);

    let (first, events) = add(&mut daemon, addition(&["loan", "exchange"])).await;
    let add_classes_response::Result::Applied(applied) = first else { panic!("{first:?}") };
    // Nothing is to be learnt without examples.
    assert!(applied.job.is_empty() && events.is_empty());
    let after = daemon.ask(BANK, &QUESTIONS).await;
    assert_eq!(after.version, applied.version.unwrap().name);
    for (old, new) in before.predictions.iter().zip(&after.predictions) {
        assert_eq!(new.classes.len(), 6);
        assert!(probability(new, "loan") + probability(new, "exchange") <= 0.001_001);
        for class in &old.classes {
            assert!((probability(new, &class.name) - class.probability).abs() <= 0.001_01);
        }
        assert_eq!(new.classes[0].name, old.classes[0].name);
    }

    // Once there are examples of one, it is learnt, and the other stays silent.
    let loans = (0..60)
        .map(|n| LabelledText { text: format!("i want a loan of {n} thousand"), label: "loan".into() });
    daemon.add(BANK, loans.collect()).await;
    support::assert_succeeded(&daemon.train(v1::TrainRequest { epochs: None, ..train_request() }).await);
    let learnt = daemon.ask(BANK, &["i want a loan of 71 thousand", "my card is lost"]).await;
    assert_eq!(learnt.predictions[0].classes[0].name, "loan");
    assert!(probability(&learnt.predictions[0], "loan") > 0.5, "{:?}", learnt.predictions[0]);
    assert!(learnt.predictions.iter().all(|prediction| probability(prediction, "exchange") < 0.01));

    daemon.undo().await;
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions, before.predictions);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_class_that_is_added_again_is_learnt_from_its_examples() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    remove(&mut daemon, removal(&["card lost"])).await;
    let (first, events) = add(&mut daemon, addition(&["card lost"])).await;
    let add_classes_response::Result::Applied(applied) = first else { panic!("{first:?}") };
    assert!(!applied.job.is_empty());
    support::assert_succeeded(&events);
    let answer = daemon.ask(BANK, &["i lost my card today"]).await;
    assert_eq!(
        (answer.predictions[0].classes[0].name.as_str(), answer.predictions[0].classes[0].id),
        ("card lost", 5)
    );
    for (names, part) in [
        (&["balance"][..], "names[0]: 'balance' is the name of another class"),
        (&["a", "a"], "names[1]: 'a' is given twice"),
        (&[], "must hold 1 to 1000 names, got 0"),
    ] {
        let refused = daemon.taxonomy.add_classes(addition(names)).await.unwrap_err();
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains(part), "{refused}");
    }
    daemon.stop().await;
}
