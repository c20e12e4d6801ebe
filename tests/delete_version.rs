//! Versions that are deleted: what keeps one, and what stays of one that went.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use support::{BANK, Daemon, QUESTIONS, assert_succeeded, long_train_request, merge_request, train_request};
use taxond::{
    proto::v1::{self, Learn},
    store::{Store, StoreOptions, Tree},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

fn delete(number: u64) -> v1::DeleteVersionRequest {
    v1::DeleteVersionRequest { name: format!("{BANK}/versions/{number}"), ..Default::default() }
}

async fn numbers(daemon: &mut Daemon) -> Vec<u64> {
    let request = v1::ListVersionsRequest { model: BANK.into(), ..Default::default() };
    let page = daemon.registry.list_versions(request).await.unwrap().into_inner();
    page.versions.iter().map(|version| version.number).collect()
}

async fn point(daemon: &mut Daemon, alias: &str, version: u64) {
    let request =
        v1::SetAliasRequest { model: BANK.into(), alias: alias.into(), version, ..Default::default() };
    daemon.registry.set_alias(request).await.unwrap();
}

fn assert_refused(status: &Status, code: Code, reason: &str, part: &str) {
    assert_eq!(status.code(), code, "{status}");
    assert_eq!(status.get_error_details().error_info().unwrap().reason, reason, "{status}");
    assert!(status.message().contains(part), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_version_is_gone_and_those_made_of_it_answer_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let (applied, _) = daemon.merge(Learn::None).await;
    assert_eq!(applied.version.unwrap().number, 2);
    let precise = v1::PredictRequest {
        model: format!("{BANK}/versions/2"),
        texts: QUESTIONS.map(String::from).to_vec(),
        top_k: Some(10),
        min_precision: Some(0.5),
        ..Default::default()
    };
    let before = daemon.predict.predict(precise.clone()).await.unwrap().into_inner();

    let status = daemon.registry.delete_version(delete(2)).await.unwrap_err();
    assert_refused(&status, Code::FailedPrecondition, "VERSION_HAS_ALIASES", "has the alias serving");
    let status = daemon.registry.delete_version(delete(1)).await.unwrap_err();
    assert_refused(&status, Code::FailedPrecondition, "VERSION_NEEDED_FOR_UNDO", "an undo of revision 2");
    let forced = v1::DeleteVersionRequest { forget_undo: true, request_id: "delete-1".into(), ..delete(1) };
    daemon.registry.delete_version(forced.clone()).await.unwrap();
    // A repeat finds the receipt, another call nothing.
    daemon.registry.delete_version(forced.clone()).await.unwrap();
    let gone = "version 'models/bank/versions/1' not found";
    let status = daemon.registry.delete_version(delete(1)).await.unwrap_err();
    assert_refused(&status, Code::NotFound, "NOT_FOUND", gone);
    let question = v1::PredictRequest {
        model: format!("{BANK}/versions/1"),
        texts: vec!["hi".into()],
        ..Default::default()
    };
    let status = daemon.predict.predict(question).await.unwrap_err();
    assert_refused(&status, Code::NotFound, "NOT_FOUND", gone);
    let alias = v1::SetAliasRequest { model: BANK.into(), version: 1, ..Default::default() };
    let status = daemon.registry.set_alias(alias).await.unwrap_err();
    assert_refused(&status, Code::NotFound, "NOT_FOUND", gone);
    assert_eq!(numbers(&mut daemon).await, [2]);
    let undo = v1::UndoChangeRequest { model: BANK.into(), ..Default::default() };
    let status = daemon.taxonomy.undo_change(undo).await.unwrap_err();
    assert_refused(&status, Code::FailedPrecondition, "UNDO_VERSION_DELETED", "versions/1, which an undo");

    // What version 2 has from version 1, its rejection curve, is read again after a restart.
    daemon.stop().await;
    let mut daemon = Daemon::start(dir.path()).await;
    daemon.registry.delete_version(forced).await.unwrap();
    assert_eq!(daemon.predict.predict(precise).await.unwrap().into_inner(), before);
    let name = format!("{BANK}/versions/2");
    let version = daemon.registry.get_version(v1::GetVersionRequest { name }).await.unwrap().into_inner();
    assert_eq!(version.version.unwrap().parent, 1);
    let history = v1::GetHistoryRequest { model: BANK.into(), ..Default::default() };
    let entries = daemon.taxonomy.get_history(history).await.unwrap().into_inner().entries;
    let counts: Vec<usize> = entries.iter().map(|entry| entry.versions.len()).collect();
    assert_eq!(counts, [1, 0]);
    let events = daemon.train(train_request()).await;
    assert_succeeded(&events);
    let stored = numbers(&mut daemon).await;
    assert!(stored.ends_with(&[3, 2]), "a number is never given again: {stored:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_no_other_version_has_are_freed() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = |path: &std::path::Path| {
        let store = Store::open(path, StoreOptions::default()).unwrap();
        store.scan(Tree::Chunks, &[], None).map(|blob| blob.unwrap().1.len()).sum::<usize>()
    };
    let mut daemon = Daemon::trained(dir.path()).await;
    daemon.stop().await;
    let one = blobs(dir.path());
    daemon = Daemon::start(dir.path()).await;
    // Version 2 shares all tensors with version 1, version 3 none of the head.
    let merge = merge_request(Learn::None);
    let mut told = daemon.taxonomy.merge_classes(merge).await.unwrap().into_inner();
    while told.message().await.unwrap().is_some() {}
    assert_succeeded(&daemon.train(train_request()).await);
    point(&mut daemon, "serving", 2).await;
    let newest = numbers(&mut daemon).await[0];
    for number in 3..=newest {
        daemon.registry.delete_version(delete(number)).await.unwrap();
    }
    assert_eq!(numbers(&mut daemon).await, [2, 1]);
    let answers = daemon.ask(BANK, &QUESTIONS).await;
    daemon.stop().await;
    assert_eq!(blobs(dir.path()), one);
    daemon = Daemon::start(dir.path()).await;
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await, answers);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_under_a_job_or_by_a_wrong_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    assert_succeeded(&daemon.train(train_request()).await);
    let newest = numbers(&mut daemon).await[0];
    point(&mut daemon, "serving", newest).await;
    point(&mut daemon, "canary", 1).await;
    let status = daemon.registry.delete_version(delete(1)).await.unwrap_err();
    assert_refused(&status, Code::FailedPrecondition, "VERSION_HAS_ALIASES", "has the alias canary");
    point(&mut daemon, "canary", newest).await;
    for (name, code) in [
        (BANK, Code::InvalidArgument),
        ("models/bank@serving", Code::InvalidArgument),
        ("models/bank/versions/77", Code::NotFound),
        ("models/shop/versions/1", Code::NotFound),
    ] {
        let request = v1::DeleteVersionRequest { name: name.into(), ..Default::default() };
        let status = daemon.registry.delete_version(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{name}: {status}");
    }

    let mut job = daemon.training.train(long_train_request()).await.unwrap().into_inner();
    let name = job.message().await.unwrap().unwrap().event.unwrap().job;
    let status = daemon.registry.delete_version(delete(1)).await.unwrap_err();
    assert_refused(&status, Code::Aborted, "MODEL_TRAINING", &name);
    daemon.training.cancel_job(v1::CancelJobRequest { name }).await.unwrap();
    while job.message().await.unwrap().is_some() {}
    daemon.registry.delete_version(delete(1)).await.unwrap();
    assert!(!numbers(&mut daemon).await.contains(&1));
    daemon.stop().await;
}
