//! Clients that know the classes of one revision are answered in them, whatever version serves.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use support::{BANK, Daemon, QUESTIONS, probability};
use taxond::proto::v1::{self, LabelledText, Learn, UnresolvedClass};
use tonic::Code;
use tonic_types::StatusExt as _;

fn question(model: &str, revision: u64) -> v1::PredictRequest {
    v1::PredictRequest {
        model: model.into(),
        texts: QUESTIONS.map(String::from).to_vec(),
        top_k: Some(1000),
        manifest_revision: Some(revision),
        ..Default::default()
    }
}

async fn ask_in(daemon: &mut Daemon, revision: u64) -> v1::PredictResponse {
    daemon.predict.predict(question(BANK, revision)).await.unwrap().into_inner()
}

async fn rename(daemon: &mut Daemon, class: &str, new_name: &str) {
    let request = v1::RenameClassRequest {
        model: BANK.into(),
        class_name: class.into(),
        new_name: new_name.into(),
        ..Default::default()
    };
    daemon.taxonomy.rename_class(request).await.unwrap();
}

async fn place(daemon: &mut Daemon, class: &str, parent: &str) {
    let request = v1::MoveClassRequest {
        model: BANK.into(),
        class_name: class.into(),
        parent: parent.into(),
        create_parent: true,
        ..Default::default()
    };
    daemon.taxonomy.move_class(request).await.unwrap();
}

async fn add(daemon: &mut Daemon, name: &str, learn: Learn) {
    let request = v1::AddClassesRequest {
        model: BANK.into(),
        names: vec![name.into()],
        learn: learn.into(),
        ..Default::default()
    };
    let mut stream = daemon.taxonomy.add_classes(request).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
}

async fn remove(daemon: &mut Daemon, class: &str) {
    let request = v1::RemoveClassesRequest {
        model: BANK.into(),
        classes: vec![class.into()],
        learn: Learn::None.into(),
        ..Default::default()
    };
    let mut stream = daemon.taxonomy.remove_classes(request).await.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
}

fn total(prediction: &v1::Prediction) -> f64 {
    prediction.classes.iter().map(|class| class.probability).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_merged_renamed_and_moved_answers_as_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let first = daemon.ask(BANK, &QUESTIONS).await;
    assert_eq!(ask_in(&mut daemon, 1).await, first);

    let (merged, _) = daemon.merge(Learn::None).await;
    let merged = merged.version.unwrap().name;
    let in_merged = daemon.ask(BANK, &QUESTIONS).await;
    rename(&mut daemon, "balance", "Kontostand").await;
    place(&mut daemon, "withdraw", "counter").await;
    let serving = daemon.ask(BANK, &QUESTIONS).await;
    for (revision, then) in [(1, &first), (2, &in_merged), (4, &serving)] {
        let answer = ask_in(&mut daemon, revision).await;
        assert_eq!(answer.predictions, then.predictions, "revision {revision}");
        assert_eq!((answer.version, answer.manifest_revision), (serving.version.clone(), revision));
        assert!(answer.unresolved.is_empty());
    }
    // A version that is older than the revision answers in it too.
    let before = daemon.predict.predict(question("models/bank/versions/1", 2)).await.unwrap().into_inner();
    assert_eq!(before.predictions, in_merged.predictions);
    assert_eq!((before.version.as_str(), before.manifest_revision), ("models/bank/versions/1", 2));
    assert_eq!(daemon.ask(&merged, &QUESTIONS).await.predictions, in_merged.predictions);

    // Levels are those of the revision.
    let top = v1::PredictRequest { level: Some(0), ..question("models/bank/versions/1", 4) };
    let top = daemon.predict.predict(top).await.unwrap().into_inner();
    assert_eq!(
        probability(&top.predictions[0], "counter"),
        probability(&in_merged.predictions[0], "withdraw")
    );
    let flat = v1::PredictRequest { level: Some(0), ..question(BANK, 1) };
    assert_eq!(daemon.predict.predict(flat).await.unwrap().into_inner().predictions, first.predictions);

    for _ in 0..3 {
        daemon.undo().await;
        assert_eq!(ask_in(&mut daemon, 1).await.predictions, first.predictions);
        assert_eq!(ask_in(&mut daemon, 2).await.predictions, in_merged.predictions);
    }
    daemon.stop().await;
    let mut daemon = Daemon::start(dir.path()).await;
    assert_eq!(ask_in(&mut daemon, 2).await.predictions, in_merged.predictions);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_revision_does_not_know_is_marked_and_what_is_gone_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let loans = (0..60)
        .map(|n| LabelledText { text: format!("i want a loan of {n} thousand"), label: "loan".into() });
    daemon.add(BANK, loans.collect()).await;
    add(&mut daemon, "loan", Learn::Auto).await;
    remove(&mut daemon, "card lost").await;

    let answer = ask_in(&mut daemon, 1).await;
    let manifest = v1::GetManifestRequest { name: "models/bank/manifests/1".into(), ..Default::default() };
    let manifest = daemon.taxonomy.get_manifest(manifest).await.unwrap().into_inner().manifest.unwrap();
    let known = |id| manifest.classes.iter().find(|class| class.id == id);
    let id = manifest.classes.iter().find(|class| class.name == "card lost").unwrap().id;
    let gone = UnresolvedClass { id, name: "card lost".into(), answered_under: vec![], silent: true };
    assert_eq!(answer.unresolved, [gone]);
    for prediction in &answer.predictions {
        assert!((total(prediction) - 1.0).abs() < 1e-5);
        assert_eq!(prediction.classes.len(), 4);
        for class in &prediction.classes {
            assert_eq!(class.newer, known(class.id).is_none(), "{class:?}");
            assert_eq!(class.newer, class.name == "loan");
        }
    }
    let own = daemon.ask(BANK, &QUESTIONS).await;
    assert!(own.unresolved.is_empty());
    assert!(own.predictions.iter().flat_map(|prediction| &prediction.classes).all(|class| !class.newer));
    // Added again it is another class, which the client sees by its id.
    add(&mut daemon, "card lost", Learn::None).await;
    let answer = ask_in(&mut daemon, 1).await;
    assert_eq!(answer.unresolved.len(), 1);
    let newer = answer.predictions[0].classes.iter().find(|class| class.name == "card lost").unwrap();
    assert!(newer.newer && newer.id != answer.unresolved[0].id);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_does_not_make_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let refused = daemon.predict.predict(question(BANK, 99)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let details = refused.get_error_details();
    let resource = details.resource_info().unwrap();
    assert_eq!(resource.resource_name, "models/bank/manifests/99");
    assert_eq!(resource.resource_type, "taxond.v1/Manifest");

    let request = v1::PredictRequest { min_precision: Some(0.5), ..question(BANK, 1) };
    let refused = daemon.predict.predict(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let details = refused.get_error_details();
    let violation = &details.bad_request().unwrap().field_violations[0];
    assert_eq!(violation.field, "min_precision");
    assert!(violation.description.contains("together with manifest_revision, got 0.5 and 1"), "{refused}");
    daemon.stop().await;
}
