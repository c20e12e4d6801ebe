//! What bounds the space that is taken: old versions go by themselves, and nothing comes in where the disk is nearly full.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use support::{BANK, Daemon, QUESTIONS, texts, train_request};
use taxond::{
    config::Settings,
    proto::v1::{self, ExampleFilter, Learn},
    store::{Batch, Store, StoreOptions, Tree},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

async fn versions(daemon: &mut Daemon) -> Vec<String> {
    let request = v1::ListVersionsRequest { model: BANK.into(), ..Default::default() };
    let versions = daemon.registry.list_versions(request).await.unwrap().into_inner().versions;
    let number = |version: v1::Version| version.name.rsplit('/').next().unwrap().to_owned();
    versions.into_iter().map(number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_beyond_the_limit_go_and_what_is_needed_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    for _ in 0..3 {
        daemon.merge(Learn::None).await;
        daemon.undo().await;
    }
    daemon.merge(Learn::None).await;
    let canary =
        v1::SetAliasRequest { model: BANK.into(), alias: "canary".into(), version: 2, ..Default::default() };
    daemon.registry.set_alias(canary).await.unwrap();
    assert_eq!(versions(&mut daemon).await, ["8", "7", "6", "5", "4", "3", "2", "1"]);
    let said = daemon.ask("models/bank/versions/2", &QUESTIONS).await;
    daemon.stop().await;

    let settings = Settings { keep_versions: Some(2), ..Settings::default() };
    let mut daemon = Daemon::start_with(dir.path(), settings).await;
    for _ in 0..500 {
        if versions(&mut daemon).await.len() == 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // 8 serves and undoes to 7; 2 has an alias and was made of 1.
    assert_eq!(versions(&mut daemon).await, ["8", "7", "2", "1"]);
    assert_eq!(daemon.ask("models/bank@canary", &QUESTIONS).await, said);
    daemon.undo().await;
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.version, "models/bank/versions/9");
    let request = v1::GetHistoryRequest { model: BANK.into(), ..Default::default() };
    let history = daemon.taxonomy.get_history(request).await.unwrap().into_inner();
    assert_eq!(history.entries.len(), 9, "what was changed is told also of versions that are gone");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_refused_takes_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let message = |numbers: std::ops::Range<usize>, label: &str| {
        let texts = numbers.map(|number| (format!("text {number}"), label.to_owned()));
        let examples = texts.map(|(text, label)| v1::LabelledText { text, label }).collect();
        v1::AddExamplesRequest { model: BANK.into(), examples, ..Default::default() }
    };
    let stream = vec![message(0..3000, "parcel"), message(3000..3001, "")];
    let refused = daemon.dataset.add_examples(tokio_stream::iter(stream)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let again = message(0..10, "parcel");
    let added = daemon.dataset.add_examples(tokio_stream::once(again)).await.unwrap().into_inner();
    assert_eq!((added.added, added.total), (10, texts().len() as u64 + 10));
    daemon.stop().await;

    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let stored = store.scan(Tree::Examples, b"x", None).count();
    assert_eq!(stored, texts().len() + 10, "nothing is left of what was refused");
}

#[test]
fn damage_is_found_by_reading_everything() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path(), StoreOptions::default()).unwrap();
    let store = open();
    for key in ["a", "b", "c"] {
        let mut batch = Batch::new();
        batch.put(Tree::Jobs, key, vec![1; 50_000]);
        store.commit(batch).unwrap();
    }
    drop(store);
    {
        let db = sled::Config::new().path(dir.path().join("db")).segment_size(2 << 20).open().unwrap();
        let tree = db.open_tree("jobs").unwrap();
        let (key, sealed) = tree.iter().nth(5).unwrap().unwrap();
        let mut sealed = sealed.to_vec();
        *sealed.last_mut().unwrap() ^= 1;
        tree.insert(key, sealed).unwrap();
        db.flush().unwrap();
    }
    let store = open();
    assert_eq!(store.damaged(), 0, "nobody looked");
    let mut read = 0;
    let checked = store.check_while(|_| {
        read += 1;
        read < 2
    });
    assert_eq!((checked.values, store.damaged()), (1, 0), "not read to the end");
    assert_eq!((store.check().values, store.damaged()), (2, 1));
}

fn short_of_room<T: std::fmt::Debug>(outcome: Result<T, Status>) {
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "DISK_SPACE");
    assert!(status.message().contains("are to stay free (min_free_bytes)"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_disk_that_is_nearly_full_nothing_comes_in_and_all_else_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    daemon.create("other").await;
    daemon.merge(Learn::None).await;
    let said = daemon.ask(BANK, &QUESTIONS).await;
    daemon.stop().await;

    // No disk has so much.
    let settings = Settings { min_free_bytes: Some(64 << 40), ..Settings::default() };
    let mut daemon = Daemon::start_with(dir.path(), settings).await;
    let fresh = v1::LabelledText { text: "where is my parcel".into(), label: "parcel".into() };
    let add = v1::AddExamplesRequest { model: BANK.into(), examples: vec![fresh], ..Default::default() };
    short_of_room(daemon.dataset.add_examples(tokio_stream::once(add.clone())).await);
    let create = v1::CreateModelRequest { model_id: "new".into(), ..Default::default() };
    short_of_room(daemon.registry.create_model(create).await);
    short_of_room(daemon.training.train(train_request()).await);
    let relabel = v1::RelabelExamplesRequest {
        model: BANK.into(),
        filter: Some(ExampleFilter { all: true, ..Default::default() }),
        label: "balance".into(),
        ..Default::default()
    };
    short_of_room(daemon.dataset.relabel_examples(relabel).await);

    assert_eq!(daemon.ask(BANK, &QUESTIONS).await, said);
    let delete = v1::DeleteExamplesRequest {
        model: BANK.into(),
        filter: Some(ExampleFilter { text_contains: "hello".into(), ..Default::default() }),
        ..Default::default()
    };
    let deleted = daemon.dataset.delete_examples(delete).await.unwrap().into_inner().deleted;
    assert!(deleted > 0);
    let delete = v1::DeleteVersionRequest {
        name: "models/bank/versions/1".into(),
        forget_undo: true,
        ..Default::default()
    };
    daemon.registry.delete_version(delete).await.unwrap();
    let delete = v1::DeleteModelRequest { name: "models/other".into(), ..Default::default() };
    daemon.registry.delete_model(delete).await.unwrap();
    daemon.stop().await;

    let mut daemon = Daemon::start(dir.path()).await;
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await, said);
    let added = daemon.dataset.add_examples(tokio_stream::once(add)).await.unwrap().into_inner();
    assert_eq!((added.added, added.total), (1, texts().len() as u64 - deleted + 1));
    daemon.stop().await;
}
