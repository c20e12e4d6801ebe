//! What was changed, by whom, why, and what it did to the accuracy.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use support::{BANK, Daemon, assert_succeeded, merge_request, train_request};
use taxond::proto::v1::{
    self, ChangeKind, LabelledText, Learn, VersionOrigin, merge_classes_response::Result as Merged,
};
use tonic::{Code, IntoRequest as _, Request};
use tonic_types::StatusExt as _;

fn by<T>(user: &str, message: T) -> Request<T> {
    let mut request = message.into_request();
    request.metadata_mut().insert("taxond-user", user.parse().unwrap());
    request
}

fn rename(class: &str, new_name: &str) -> v1::RenameClassRequest {
    v1::RenameClassRequest {
        model: BANK.into(),
        class_name: class.into(),
        new_name: new_name.into(),
        ..Default::default()
    }
}

fn undo(reason: &str) -> v1::UndoChangeRequest {
    v1::UndoChangeRequest { model: BANK.into(), reason: reason.into(), ..Default::default() }
}

/// The whole history, page by page.
async fn history(daemon: &mut Daemon, page_size: u32) -> Vec<v1::HistoryEntry> {
    let mut entries = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::GetHistoryRequest { model: BANK.into(), page_size, page_token };
        let page = daemon.taxonomy.get_history(request).await.unwrap().into_inner();
        entries.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return entries;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_tells_who_changed_what_and_what_came_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let mut told = daemon.training.train(by("ada", train_request())).await.unwrap().into_inner();
    while told.message().await.unwrap().is_some() {}

    let merge = v1::MergeClassesRequest { reason: "one counter".into(), ..merge_request(Learn::Auto) };
    let mut told = daemon.taxonomy.merge_classes(by("bob", merge)).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(message) = told.message().await.unwrap() {
        if let Some(Merged::Event(event)) = message.result {
            events.push(event);
        }
    }
    assert_succeeded(&events);
    let tried = v1::RenameClassRequest { validate_only: true, ..rename("balance", "saldo") };
    let tried = daemon.taxonomy.rename_class(by("eve", tried)).await.unwrap().into_inner();
    assert_eq!(tried.manifest.unwrap().author, "eve");
    let renamed = daemon.taxonomy.rename_class(rename("balance", "saldo")).await.unwrap().into_inner();
    let address = renamed.manifest.unwrap().author;
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    daemon.taxonomy.undo_change(by("carol", undo("too short"))).await.unwrap();

    let entries = history(&mut daemon, 0).await;
    let summary: Vec<_> = entries
        .iter()
        .map(|entry| (entry.revision, entry.parent_revision, entry.author.as_str(), entry.change()))
        .collect();
    let expected = [
        (4, 3, "carol", ChangeKind::Undo),
        (3, 2, address.as_str(), ChangeKind::Rename),
        (2, 1, "bob", ChangeKind::Merge),
        (1, 0, "ada", ChangeKind::Create),
    ];
    assert_eq!(summary, expected);
    assert_eq!([entries[0].reason.as_str(), entries[2].reason.as_str()], ["too short", "one counter"]);
    assert_eq!(entries[2].description, "merge withdraw under 20k, withdraw over 20k into withdraw");
    assert_eq!(entries[2].manifest, "models/bank/manifests/2");
    assert_eq!(entries.iter().map(|entry| entry.class_count).collect::<Vec<_>>(), [3, 3, 3, 4]);
    let times = entries.iter().map(|entry| entry.create_time.unwrap());
    assert!(times.map(|time| (time.seconds, time.nanos)).is_sorted_by(|newer, older| newer >= older));

    // The instant version has the accuracy that the job measured, which is what the learnt one replaced.
    let [instant, learnt, ..] = entries[2].versions.as_slice() else { panic!("{:?}", entries[2].versions) };
    assert_eq!([instant.origin(), learnt.origin()], [VersionOrigin::Instant, VersionOrigin::Training]);
    assert!(instant.validation_accuracy.is_some() && learnt.validation_accuracy.is_some());
    assert_eq!(instant.validation_accuracy, learnt.replaced_validation_accuracy);
    assert!(instant.replaced_validation_accuracy.is_none() && instant.gate.is_empty());
    let request = v1::GetVersionRequest { name: learnt.name.clone() };
    let version = daemon.registry.get_version(request).await.unwrap().into_inner().version.unwrap();
    let report = version.report.unwrap();
    assert_eq!((learnt.validation_accuracy, &learnt.gate), (report.validation_accuracy, &report.gate));
    // Nobody measured the version of the rename.
    assert_eq!(entries[1].versions.len(), 1);
    assert_eq!(entries[1].versions[0].validation_accuracy, None);
    let serving: Vec<_> = entries.iter().flat_map(|entry| &entry.versions).filter(|v| v.serving).collect();
    assert_eq!(serving.len(), 1);
    assert_eq!(serving[0].name, entries[0].versions[0].name);

    // Pages of any size make the same whole, also after a restart.
    daemon.stop().await;
    let mut daemon = Daemon::start(dir.path()).await;
    for page_size in [1, 3] {
        assert_eq!(history(&mut daemon, page_size).await, entries);
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_that_a_training_adds_have_the_author_of_the_training() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let loans = (0..60)
        .map(|n| LabelledText { text: format!("i want a loan of {n} thousand"), label: "loan".into() });
    daemon.add(BANK, loans.collect()).await;
    let mut told = daemon.training.train(by("dora", train_request())).await.unwrap().into_inner();
    while told.message().await.unwrap().is_some() {}
    let entries = history(&mut daemon, 1).await;
    assert_eq!((entries[0].author.as_str(), entries[0].description.as_str()), ("dora", "add loan"));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_cannot_be_kept_is_refused_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let long = "x".repeat(129);
    // A name in UTF-8 is kept as it is, beside its like in ASCII or alone.
    let in_utf8 = |name: &str, new_name: &str| {
        let mut request = Request::new(rename("balance", new_name));
        let value = tonic::metadata::BinaryMetadataValue::from_bytes(name.as_bytes());
        request.metadata_mut().insert_bin("taxond-user-bin", value);
        request
    };
    let status = daemon.taxonomy.rename_class(in_utf8("张\u{202e}伟", "x")).await.unwrap_err();
    assert!(status.message().starts_with("taxond-user-bin: must hold no control"), "{status}");
    let manifest = daemon
        .taxonomy
        .rename_class(in_utf8("张伟", "how much"))
        .await
        .unwrap()
        .into_inner()
        .manifest
        .unwrap();
    assert_eq!(manifest.author, "张伟");
    daemon.undo().await;
    let kept = history(&mut daemon, 0).await.len();
    for (user, part) in [
        ("", "got 0 bytes"),
        (long.as_str(), "got 129 bytes"),
        ("x via admin", "behind which the history names the identity"),
    ] {
        let refusals = [
            daemon.taxonomy.rename_class(by(user, rename("balance", "x"))).await.unwrap_err(),
            daemon.taxonomy.undo_change(by(user, undo(""))).await.unwrap_err(),
            daemon.training.train(by(user, train_request())).await.unwrap_err(),
        ];
        for status in refusals {
            assert_eq!(status.code(), Code::InvalidArgument);
            let details = status.get_error_details();
            let violation = &details.bad_request().unwrap().field_violations[0];
            assert_eq!(violation.field, "taxond-user");
            assert!(violation.description.contains(part), "{status}");
        }
    }
    assert_eq!(history(&mut daemon, 0).await.len(), kept);
    for (request, code) in [
        (v1::GetHistoryRequest { model: "models/none".into(), ..Default::default() }, Code::NotFound),
        (v1::GetHistoryRequest { model: "bank".into(), ..Default::default() }, Code::InvalidArgument),
        (
            v1::GetHistoryRequest { model: BANK.into(), page_size: 1001, ..Default::default() },
            Code::InvalidArgument,
        ),
        (
            v1::GetHistoryRequest { model: BANK.into(), page_token: "x".into(), ..Default::default() },
            Code::InvalidArgument,
        ),
    ] {
        assert_eq!(daemon.taxonomy.get_history(request).await.unwrap_err().code(), code);
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retired_classes_name_the_active_ones_they_live_on_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let (first, _) = daemon.merge(Learn::None).await;
    let request = v1::MergeClassesRequest {
        model: BANK.into(),
        classes: vec!["withdraw".into(), "balance".into()],
        into: "cash".into(),
        learn: Learn::None.into(),
        ..Default::default()
    };
    let mut told = daemon.taxonomy.merge_classes(request).await.unwrap().into_inner();
    while told.message().await.unwrap().is_some() {}
    let find = |manifest: &v1::Manifest, name: &str| {
        manifest.classes.iter().find(|class| class.name == name).unwrap().clone()
    };
    let then = first.manifest.unwrap();
    let request = v1::GetManifestRequest { name: BANK.into(), ..Default::default() };
    let now = daemon.taxonomy.get_manifest(request).await.unwrap().into_inner().manifest.unwrap();
    let (withdraw, cash) = (find(&then, "withdraw").id, find(&now, "cash").id);
    let old = find(&now, "withdraw under 20k");
    assert_eq!((old.successors, old.heirs), (vec![withdraw], vec![cash]));
    assert_eq!(find(&then, "withdraw under 20k").heirs, [withdraw]);
    assert!(find(&now, "cash").heirs.is_empty());
    let request = v1::ListManifestsRequest { model: BANK.into(), ..Default::default() };
    let page = daemon.taxonomy.list_manifests(request).await.unwrap().into_inner();
    assert_eq!(page.manifests[0], now);
    daemon.stop().await;
}
