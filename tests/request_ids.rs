//! Request ids over real sockets: a repeat of any call answers what the first one did, field by field, whatever happened since;
//! and the ids of one identity are none of another's.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use support::{
    BANK, Daemon,
    identities::{settings, signed},
    raw, texts, train_request,
};
use taxond::proto::v1::{self, Learn};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

/// The paths of all methods whose request has a request id.
fn repeatable() -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(v1::FILE_DESCRIPTOR_SET).expect("a descriptor set is whole").file;
    let has_id = |name: &str| {
        let mut messages =
            files.iter().flat_map(|file| file.message_type.iter().map(move |m| (file.package(), m)));
        let message = messages.find(|(package, m)| format!(".{package}.{}", m.name()) == name);
        message.is_some_and(|(_, m)| m.field.iter().any(|field| field.name() == "request_id"))
    };
    let mut paths = BTreeSet::new();
    for file in &files {
        for service in &file.service {
            for method in service.method.iter().filter(|method| has_id(method.input_type())) {
                paths.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    paths
}

/// A model with its aliases in order: a map goes over the wire in any.
fn ordered(path: &str, answer: Vec<u8>) -> String {
    if path.ends_with("/SetAlias") {
        let model = v1::SetAliasResponse::decode(&answer[..]).unwrap().model.unwrap();
        let mut aliases: Vec<_> = model.aliases.clone().into_iter().collect();
        aliases.sort();
        return format!("{aliases:?} {:?}", v1::Model { aliases: Default::default(), ..model });
    }
    format!("{answer:?}")
}

async fn call(daemon: &Daemon, path: &'static str, request: &[u8]) -> String {
    match raw::call(&daemon.channel, path, request.to_vec(), None).await {
        Ok(answer) => ordered(path, answer.expect("a message")),
        Err(status) => panic!("{path}: {status}"),
    }
}

/// Changes much of what answers tell: counts, aliases, etags, names of classes.
async fn disturb(daemon: &mut Daemon, round: usize) {
    for model in [BANK, "models/fresh"] {
        let text = v1::LabelledText { text: format!("one more, round {round}"), label: "balance".into() };
        // The fresh model is deleted in the end.
        let request =
            v1::AddExamplesRequest { model: model.into(), examples: vec![text], ..Default::default() };
        let _added = daemon.dataset.add_examples(tokio_stream::once(request)).await;
    }
    let alias = format!("noise-{round}");
    let request = v1::SetAliasRequest { model: BANK.into(), alias, version: 1, ..Default::default() };
    daemon.registry.set_alias(request).await.unwrap();
}

async fn rename(daemon: &mut Daemon, from: &str, to: &str) {
    let request = v1::RenameClassRequest {
        model: BANK.into(),
        class_name: from.into(),
        new_name: to.into(),
        ..Default::default()
    };
    daemon.taxonomy.rename_class(request).await.unwrap();
}

async fn exported(daemon: &mut Daemon) -> Vec<u8> {
    let request = v1::ExportVersionRequest { name: format!("{BANK}/versions/1") };
    let mut stream = daemon.registry.export_version(request).await.unwrap().into_inner();
    let mut file = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        file.extend(message.data);
    }
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn every_repeat_answers_what_the_first_call_did_whatever_happened_since() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    daemon.create("copy").await;
    let file = exported(&mut daemon).await;
    let id = || "once".to_owned();
    let filter =
        |label: &str| Some(v1::ExampleFilter { label: label.into(), ..v1::ExampleFilter::default() });
    let model = || BANK.to_owned();
    let learn = i32::from(Learn::None);
    let part = |name: &str, pattern: &str| v1::ClassPart {
        name: name.into(),
        pattern: pattern.into(),
        remaining: pattern.is_empty(),
        ..Default::default()
    };
    let example = v1::LabelledText { text: "where is my parcel".into(), label: "balance".into() };
    let rename_change = v1::RenameChange { class_name: "card gone".into(), new_name: "no card".into() };
    let change = v1::ClassChange { change: Some(v1::class_change::Change::Rename(rename_change)) };
    // Each with an id of its own, as the requests are told from each other.
    let mut table: Vec<(&'static str, Vec<u8>)> = Vec::new();
    macro_rules! row {
        ($service:literal, $method:literal, $request:expr) => {{
            let mut request = $request;
            request.request_id = format!("{}-{}", id(), $method);
            table.push((concat!("/taxond.v1.", $service, "/", $method), request.encode_to_vec()));
        }};
    }
    row!(
        "RegistryService",
        "CreateModel",
        v1::CreateModelRequest { model_id: "fresh".into(), ..Default::default() }
    );
    row!(
        "DatasetService",
        "AddExamples",
        v1::AddExamplesRequest { model: model(), examples: vec![example], ..Default::default() }
    );
    row!("TrainingService", "Train", v1::TrainRequest { detach: true, epochs: Some(1), ..train_request() });
    row!(
        "TaxonomyService",
        "MergeClasses",
        v1::MergeClassesRequest { learn, ..support::merge_request(Learn::None) }
    );
    row!(
        "TaxonomyService",
        "SplitClass",
        v1::SplitClassRequest {
            model: model(),
            class_name: "balance".into(),
            parts: vec![part("how much", "how much"), part("balance rest", "")],
            learn,
            ..Default::default()
        }
    );
    row!(
        "TaxonomyService",
        "AddClasses",
        v1::AddClassesRequest { model: model(), names: vec!["loans".into()], learn, ..Default::default() }
    );
    row!(
        "TaxonomyService",
        "RenameClass",
        v1::RenameClassRequest {
            model: model(),
            class_name: "loans".into(),
            new_name: "credit".into(),
            ..Default::default()
        }
    );
    row!(
        "TaxonomyService",
        "MoveClass",
        v1::MoveClassRequest {
            model: model(),
            class_name: "credit".into(),
            parent: "money".into(),
            create_parent: true,
            ..Default::default()
        }
    );
    row!(
        "TaxonomyService",
        "RemoveClasses",
        v1::RemoveClassesRequest {
            model: model(),
            classes: vec!["credit".into()],
            learn,
            ..Default::default()
        }
    );
    row!(
        "DatasetService",
        "RelabelExamples",
        v1::RelabelExamplesRequest {
            model: model(),
            filter: filter("withdraw over 20k"),
            label: "card lost".into(),
            ..Default::default()
        }
    );
    row!(
        "TaxonomyService",
        "ApplyChanges",
        v1::ApplyChangesRequest { model: model(), changes: vec![change], learn, ..Default::default() }
    );
    row!("TaxonomyService", "UndoChange", v1::UndoChangeRequest { model: model(), ..Default::default() });
    row!(
        "RegistryService",
        "SetAlias",
        v1::SetAliasRequest { model: model(), alias: "canary".into(), version: 1, ..Default::default() }
    );
    row!(
        "DatasetService",
        "DeleteExamples",
        v1::DeleteExamplesRequest {
            model: model(),
            filter: filter("withdraw under 20k"),
            ..Default::default()
        }
    );
    row!(
        "RegistryService",
        "ImportVersion",
        v1::ImportVersionRequest { model: "models/copy".into(), data: file, ..Default::default() }
    );
    row!(
        "RegistryService",
        "DeleteVersion",
        v1::DeleteVersionRequest {
            name: format!("{BANK}/versions/3"),
            forget_undo: true,
            ..Default::default()
        }
    );
    row!(
        "RegistryService",
        "DeleteModel",
        v1::DeleteModelRequest { name: "models/fresh".into(), ..Default::default() }
    );
    let paths: BTreeSet<String> = table.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(paths, repeatable(), "a method with a request id stands in the table");

    let mut firsts = Vec::new();
    for (round, (path, request)) in table.iter().enumerate() {
        firsts.push(call(&daemon, path, request).await);
        if path.ends_with("/Train") {
            let request = v1::WatchJobRequest { name: "jobs/2".into() };
            let mut events = daemon.training.watch_job(request).await.unwrap().into_inner();
            while events.message().await.unwrap().is_some() {}
        }
        if path.ends_with("/RelabelExamples") {
            rename(&mut daemon, "card lost", "card gone").await;
        }
        disturb(&mut daemon, round).await;
        assert_eq!(call(&daemon, path, request).await, firsts[round], "{path} at once");
    }
    for ((path, request), first) in table.iter().zip(&firsts) {
        assert_eq!(call(&daemon, path, request).await, *first, "{path} after all others");
    }
    daemon.stop().await;
    let daemon = Daemon::start(dir.path()).await;
    for ((path, request), first) in table.iter().zip(&firsts) {
        assert_eq!(call(&daemon, path, request).await, *first, "{path} after a restart");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identities_may_use_the_same_ids_and_hear_nothing_of_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let identities = [("ada", "admin", &["ada-*"][..]), ("bob", "admin", &["bob-*"]), ("cleo", "admin", &[])];
    let mut daemon = Daemon::start_with(dir.path(), settings(dir.path(), &identities)).await;
    let create = |id: &str| v1::CreateModelRequest {
        model_id: id.into(),
        request_id: "same".into(),
        ..Default::default()
    };
    let mut registry = daemon.registry.clone();
    let first = registry.create_model(signed("ada", create("ada-mail"))).await.unwrap().into_inner();
    let again = registry.create_model(signed("ada", create("ada-mail"))).await.unwrap().into_inner();
    assert_eq!(again, first);
    registry.create_model(signed("bob", create("bob-mail"))).await.expect("the id is bob's own");
    // The very request of another is done, and not answered for the other.
    let refused = registry.create_model(signed("cleo", create("ada-mail"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");

    // While a call of one is under way, the same id is free to the other.
    let add = |model: &str| v1::AddExamplesRequest {
        model: model.into(),
        examples: texts(),
        request_id: "add".into(),
    };
    let (sender, messages) = tokio::sync::mpsc::channel(1);
    let mut dataset = daemon.dataset.clone();
    let under_way =
        tokio::spawn(async move { dataset.add_examples(signed("ada", ReceiverStream::new(messages))).await });
    sender.send(add("models/ada-mail")).await.unwrap();
    let own = || signed("ada", tokio_stream::once(add("models/ada-mail")));
    // The call is under way once its own repeat is refused for that.
    loop {
        match daemon.dataset.add_examples(own()).await {
            Err(status) if status.code() == Code::Unavailable => break,
            // It came before the other: it is done, and the other is its repeat.
            Ok(_) => break,
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status}"),
        }
    }
    let other = signed("bob", tokio_stream::once(add("models/bob-mail")));
    let added = daemon.dataset.add_examples(other).await.expect("nothing of bob's is under way");
    assert_eq!(added.into_inner().added, texts().len() as u64);
    drop(sender);
    under_way.await.unwrap().unwrap();
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_after_the_model_was_made_anew_does_not_answer_of_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let undo = v1::RenameClassRequest {
        model: BANK.into(),
        class_name: "balance".into(),
        new_name: "how much".into(),
        request_id: "rename".into(),
        ..Default::default()
    };
    daemon.taxonomy.rename_class(undo.clone()).await.unwrap();
    let request = v1::DeleteModelRequest { name: BANK.into(), ..Default::default() };
    daemon.registry.delete_model(request).await.unwrap();
    daemon.create("bank").await;
    daemon.add(BANK, texts()).await;
    for _ in 0..2 {
        support::assert_succeeded(&daemon.train(train_request()).await);
    }
    let gone = daemon.taxonomy.rename_class(undo).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "{gone}");
    assert!(gone.message().contains("which was deleted"), "{gone}");
    daemon.stop().await;
}
