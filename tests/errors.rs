//! Bad input: the status, the details that name field and value, and that nothing is lost by it.

mod support;

use support::{BANK, Daemon, QUESTIONS, long_train_request, merge_request};
use taxond::proto::v1::{self, Learn};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The field violations of a status, as `field: description`.
fn violations(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let details = status.get_error_details();
    let violations = &details.bad_request().expect("bad request details").field_violations;
    violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect()
}

fn assert_violation(status: &Status, field: &str, part: &str) {
    let found = violations(status);
    let hit = found.iter().any(|v| v.starts_with(&format!("{field}: ")) && v.contains(part));
    assert!(hit, "no violation of {field} with {part:?} in {found:?}");
}

fn assert_not_found(status: &Status, kind: &str, name: &str) {
    assert_eq!(status.code(), Code::NotFound, "{status}");
    let details = status.get_error_details();
    let resource = details.resource_info().expect("resource info");
    assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), (kind, name));
}

fn assert_reason(status: &Status, code: Code, reason: &str) {
    assert_eq!(status.code(), code, "{status}");
    assert_eq!(status.get_error_details().error_info().expect("error info").reason, reason);
}

fn predict(model: &str, texts: &[&str]) -> v1::PredictRequest {
    v1::PredictRequest {
        model: model.into(),
        texts: texts.iter().map(|text| (*text).into()).collect(),
        ..Default::default()
    }
}

fn labelled(text: &str, label: &str) -> v1::LabelledText {
    v1::LabelledText { text: text.into(), label: label.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_not_found_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;

    let status = daemon.predict.predict(predict("models/bonk", &["x"])).await.unwrap_err();
    assert_not_found(&status, "taxond.v1/Model", "models/bonk");
    assert!(status.message().contains("did you mean 'models/bank'?"), "{status}");
    let status = daemon.predict.predict(predict("models/bank/versions/9", &["x"])).await.unwrap_err();
    assert_not_found(&status, "taxond.v1/Version", "models/bank/versions/9");
    let status = daemon.predict.predict(predict("models/bank@canary", &["x"])).await.unwrap_err();
    assert_not_found(&status, "taxond.v1/Alias", "models/bank@canary");
    let request = v1::GetJobRequest { name: "jobs/99".into() };
    assert_not_found(&daemon.training.get_job(request).await.unwrap_err(), "taxond.v1/Job", "jobs/99");
    let request = v1::CancelJobRequest { name: "jobs/99".into() };
    assert_not_found(&daemon.training.cancel_job(request).await.unwrap_err(), "taxond.v1/Job", "jobs/99");
    let request = v1::GetManifestRequest { name: "models/bank/manifests/7".into(), ..Default::default() };
    let status = daemon.taxonomy.get_manifest(request).await.unwrap_err();
    assert_not_found(&status, "taxond.v1/Manifest", "models/bank/manifests/7");
    let request = v1::SetAliasRequest { model: BANK.into(), version: 9, ..Default::default() };
    let status = daemon.registry.set_alias(request).await.unwrap_err();
    assert_not_found(&status, "taxond.v1/Version", "models/bank/versions/9");
    let request = v1::MergeClassesRequest {
        classes: vec!["balance".into(), "withdraw under 20".into()],
        ..merge_request(Learn::None)
    };
    let status = daemon.taxonomy.merge_classes(request).await.unwrap_err();
    assert_not_found(&status, "taxond.v1/Class", "withdraw under 20");
    assert!(status.message().contains("did you mean 'withdraw under 20k'?"), "{status}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_predict_names_every_wrong_field() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let long = "x".repeat(65537);
    let request = v1::PredictRequest {
        top_k: Some(0),
        min_confidence: Some(f64::NAN),
        ..predict(BANK, &["fine", "  ", &long])
    };
    let status = daemon.predict.predict(request).await.unwrap_err();
    assert_eq!(violations(&status).len(), 4);
    assert_violation(&status, "texts[1]", "got '  '");
    assert_violation(&status, "texts[2]", "got 65537");
    assert_violation(&status, "top_k", "got 0");
    assert_violation(&status, "min_confidence", "got NaN");

    let status = daemon.predict.predict(predict(BANK, &[])).await.unwrap_err();
    assert_violation(&status, "texts", "at least one");
    let status = daemon.predict.predict(predict(BANK, &["x"; 257])).await.unwrap_err();
    assert_violation(&status, "texts", "got 257");
    let status = daemon.predict.predict(predict("bank", &["x"])).await.unwrap_err();
    assert_violation(&status, "model", "models/{model}, got 'bank'");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_merge_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let before = daemon.ask(BANK, &QUESTIONS).await;
    let base = merge_request(Learn::None);
    let classes = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (request, field, part) in [
        (v1::MergeClassesRequest { classes: classes(&["balance"]), ..base.clone() }, "classes", "got 1"),
        (v1::MergeClassesRequest { classes: classes(&[]), ..base.clone() }, "classes", "got 0"),
        (
            v1::MergeClassesRequest { classes: classes(&["balance", "balance"]), ..base.clone() },
            "classes[1]",
            "'balance' is given twice",
        ),
        (v1::MergeClassesRequest { into: "balance".into(), ..base.clone() }, "into", "'balance' is the name"),
        (v1::MergeClassesRequest { into: " ".into(), ..base.clone() }, "into", "empty"),
        (v1::MergeClassesRequest { into: "a\u{202e}b".into(), ..base.clone() }, "into", "U+202E"),
        (v1::MergeClassesRequest { learn: 9, ..base.clone() }, "learn", "got 9"),
        (v1::MergeClassesRequest { reason: "x".repeat(1025), ..base.clone() }, "reason", "got 1025"),
        (v1::MergeClassesRequest { model: "models/".into(), ..base.clone() }, "model", "empty"),
    ] {
        let status = daemon.taxonomy.merge_classes(request).await.unwrap_err();
        assert_violation(&status, field, part);
    }
    let stale = v1::MergeClassesRequest { expected_revision: Some(7), ..base };
    let status = daemon.taxonomy.merge_classes(stale).await.unwrap_err();
    assert_reason(&status, Code::Aborted, "REVISION_MISMATCH");
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await, before);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_one_bad_example_stores_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    daemon.create("bank").await;
    let messages = [
        (BANK, vec![labelled("take out cash", "withdraw"), labelled("my balance", "balance")]),
        ("", vec![labelled("lost my card", "card lost"), labelled(" ", "card lost"), labelled("x", "")]),
    ];
    let messages = messages.map(|(model, examples)| v1::AddExamplesRequest {
        model: model.into(),
        examples,
        ..Default::default()
    });
    let status = daemon.dataset.add_examples(tokio_stream::iter(messages)).await.unwrap_err();
    assert_violation(&status, "examples[3].text", "got ' '");
    assert_violation(&status, "examples[4].label", "empty");
    let stats = daemon
        .dataset
        .get_stats(v1::GetStatsRequest { model: BANK.into(), ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stats.total, 0);

    // The same after an empty stream, and the model takes examples as before.
    let status = daemon.dataset.add_examples(tokio_stream::empty()).await.unwrap_err();
    assert_violation(&status, "model", "no message");
    let added = daemon.add(BANK, vec![labelled("a", "x"), labelled("A ", "x"), labelled("a", "y")]).await;
    assert_eq!((added.added, added.duplicates, added.total), (2, 1, 2));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_trained_or_asked_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    daemon.create("bank").await;
    let train = v1::TrainRequest { model: BANK.into(), ..Default::default() };

    let status = daemon.training.train(train.clone()).await.unwrap_err();
    assert_reason(&status, Code::FailedPrecondition, "NO_EXAMPLES");
    let status = daemon.predict.predict(predict(BANK, &["x"])).await.unwrap_err();
    assert_reason(&status, Code::FailedPrecondition, "NO_VERSION");
    let status = daemon.taxonomy.merge_classes(merge_request(Learn::None)).await.unwrap_err();
    assert_reason(&status, Code::FailedPrecondition, "NO_VERSION");

    daemon.add(BANK, vec![labelled("a", "only"), labelled("b", "only")]).await;
    let status = daemon.training.train(train.clone()).await.unwrap_err();
    assert_reason(&status, Code::FailedPrecondition, "ONE_CLASS");
    assert!(status.message().contains("'only'"), "{status}");

    for (request, field, part) in [
        (v1::TrainRequest { epochs: Some(0), ..train.clone() }, "epochs", "got 0"),
        (v1::TrainRequest { learning_rate: Some(f64::NAN), ..train.clone() }, "learning_rate", "got NaN"),
        (v1::TrainRequest { learning_rate: Some(-1.0), ..train }, "learning_rate", "got -1"),
    ] {
        assert_violation(&daemon.training.train(request).await.unwrap_err(), field, part);
    }
    let request = v1::UndoChangeRequest { model: BANK.into(), ..Default::default() };
    let status = daemon.taxonomy.undo_change(request).await.unwrap_err();
    assert_reason(&status, Code::FailedPrecondition, "NO_VERSION");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_named_checked_and_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    let model = daemon.create("bank").await;
    for (id, part) in [("", "empty"), ("Bank", "'B'"), ("a/b", "'/'")] {
        let request = v1::CreateModelRequest { model_id: id.into(), ..Default::default() };
        assert_violation(&daemon.registry.create_model(request).await.unwrap_err(), "model_id", part);
    }
    let request = v1::CreateModelRequest { model_id: "bank".into(), ..Default::default() };
    let status = daemon.registry.create_model(request).await.unwrap_err();
    assert_reason(&status, Code::AlreadyExists, "ALREADY_EXISTS");
    let request = v1::CreateModelRequest { model_id: "other".into(), preset: 77, ..Default::default() };
    assert_violation(&daemon.registry.create_model(request).await.unwrap_err(), "preset", "got 77");

    let stale = v1::DeleteModelRequest { name: BANK.into(), etag: "12345".into(), ..Default::default() };
    let status = daemon.registry.delete_model(stale).await.unwrap_err();
    assert_reason(&status, Code::Aborted, "ETAG_MISMATCH");
    let right = v1::DeleteModelRequest { name: BANK.into(), etag: model.etag, ..Default::default() };
    daemon.registry.delete_model(right).await.unwrap();
    let status = daemon.registry.get_model(v1::GetModelRequest { name: BANK.into() }).await.unwrap_err();
    assert_not_found(&status, "taxond.v1/Model", BANK);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_training_a_model_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let mut first = daemon.training.train(long_train_request()).await.unwrap().into_inner();
    let job = first.message().await.unwrap().unwrap().event.unwrap().job;

    let status = daemon.training.train(long_train_request()).await.unwrap_err();
    assert_reason(&status, Code::Aborted, "MODEL_TRAINING");
    assert!(status.message().contains(&job), "{status}");
    for status in [
        daemon.taxonomy.merge_classes(merge_request(Learn::None)).await.map(|_| ()).unwrap_err(),
        daemon
            .registry
            .delete_model(v1::DeleteModelRequest { name: BANK.into(), ..Default::default() })
            .await
            .map(|_| ())
            .unwrap_err(),
    ] {
        assert_reason(&status, Code::Aborted, "MODEL_TRAINING");
    }
    // Predict goes on meanwhile.
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.version, "models/bank/versions/1");
    daemon.training.cancel_job(v1::CancelJobRequest { name: job }).await.unwrap();
    drop(first);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_small_however_much_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let blank = " ".repeat(60_000);
    let mut texts = vec![blank.as_str(); 20];
    texts.resize(256, "\t");
    let status = daemon.predict.predict(predict(BANK, &texts)).await.unwrap_err();
    let found = violations(&status);
    assert_eq!(found.len(), 20);
    assert!(found.iter().all(|violation| violation.len() < 100), "{found:?}");
    daemon.stop().await;
}
