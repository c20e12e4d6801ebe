//! One class becomes several on a living model: told apart at once, learnt in stages, undone exactly; and lists of changes
//! as one.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use support::{BANK, Daemon, QUESTIONS, probability, train_request};
use taxond::proto::v1::{
    self, ClassPart, Learn, apply_changes_response, class_change::Change, job_event::Event,
    split_class_response,
};
use tonic::Code;

const UNDER: &str = "withdraw under 20k";
const OVER: &str = "withdraw over 20k";

/// A daemon whose model knows one class of withdrawals, learnt from examples under that label.
async fn with_one_withdrawal(dir: &std::path::Path) -> Daemon {
    let mut daemon = Daemon::start(dir).await;
    daemon.create("bank").await;
    let joined = support::texts().into_iter().map(|text| match text.label.starts_with("withdraw") {
        true => v1::LabelledText { label: "withdraw".into(), ..text },
        false => text,
    });
    daemon.add(BANK, joined.collect()).await;
    let events = daemon.train(train_request()).await;
    support::assert_succeeded(&events);
    daemon
}

/// Texts that were labelled with a class.
fn texts_of(label: &str) -> Vec<String> {
    support::texts().into_iter().filter(|text| text.label == label).map(|text| text.text).collect()
}

fn split(parts: Vec<ClassPart>) -> v1::SplitClassRequest {
    v1::SplitClassRequest { model: BANK.into(), class_name: "withdraw".into(), parts, ..Default::default() }
}

fn by_texts(name: &str) -> ClassPart {
    ClassPart { name: name.into(), texts: texts_of(name), ..Default::default() }
}

fn rest(name: &str) -> ClassPart {
    ClassPart { name: name.into(), remaining: true, ..Default::default() }
}

type Told = (split_class_response::Result, Vec<v1::JobEvent>);

/// Splits; what was answered first, and the events of the job.
async fn told(daemon: &mut Daemon, request: v1::SplitClassRequest) -> Told {
    let mut stream = daemon.taxonomy.split_class(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().result.unwrap();
    let mut events = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        let Some(split_class_response::Result::Event(event)) = response.result else { panic!("an event") };
        events.push(event);
    }
    (first, events)
}

fn applied((first, events): Told) -> (v1::ChangeApplied, Vec<v1::JobEvent>) {
    let split_class_response::Result::Applied(applied) = first else { panic!("{first:?}") };
    (applied, events)
}

/// The versions that a job published: stage and whether it was promoted.
fn published(events: &[v1::JobEvent]) -> Vec<(String, bool)> {
    let published = events.iter().filter_map(|event| match &event.event {
        Some(Event::Published(published)) => Some(published),
        _ => None,
    });
    published
        .map(|published| (published.version.clone().unwrap().report.unwrap().stage, published.promoted))
        .collect()
}

/// How many of the texts of the two withdrawals are answered with their class.
async fn told_apart(daemon: &mut Daemon, model: &str) -> usize {
    let mut right = 0;
    for label in [UNDER, OVER] {
        let texts = texts_of(label);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let answers = daemon.ask(model, &texts).await.predictions;
        right += answers.iter().filter(|answer| answer.classes[0].name == label).count();
    }
    right
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_are_told_apart_at_once_and_learnt_in_stages() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = with_one_withdrawal(dir.path()).await;
    let before = daemon.ask(BANK, &QUESTIONS).await;

    let trial = v1::SplitClassRequest { validate_only: true, ..split(vec![by_texts(UNDER), rest(OVER)]) };
    let (first, events) = told(&mut daemon, trial).await;
    let split_class_response::Result::Preview(preview) = first else { panic!("{first:?}") };
    assert!(events.is_empty());
    let counts: Vec<u64> = preview.splits[0].parts.iter().map(|part| part.train + part.validation).collect();
    assert_eq!(counts, [120, 120]);
    assert!(preview.validation_accuracy_after.is_some());
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await, before, "a preview changes nothing");

    let request = v1::SplitClassRequest {
        reason: "another fee".into(),
        expected_revision: Some(1),
        request_id: "split-1".into(),
        ..split(vec![by_texts(UNDER), rest(OVER)])
    };
    let (applied, events) = applied(told(&mut daemon, request.clone()).await);
    support::assert_succeeded(&events);
    let manifest = applied.manifest.unwrap();
    assert_eq!(manifest.description, format!("split withdraw into {UNDER}, {OVER}"));
    assert_eq!(manifest.change(), v1::ChangeKind::Split);
    let version = applied.version.unwrap();
    let right = told_apart(&mut daemon, &version.name).await;
    assert!(right >= 220, "{right} of 240 at once");
    // The others are answered as before, up to the little that the new rows take.
    let now = daemon.ask(&version.name, &QUESTIONS).await;
    for (was, is) in before.predictions.iter().zip(&now.predictions).skip(2) {
        for class in ["balance", "card lost"] {
            assert!((probability(was, class) - probability(is, class)).abs() < 0.05, "{class}");
        }
    }
    let stages = published(&events);
    assert_eq!(stages.iter().map(|(stage, _)| stage.as_str()).collect::<Vec<_>>(), ["refit", "fit"]);

    let (again, _) = self::applied(told(&mut daemon, request).await);
    assert_eq!(again.version.unwrap().name, version.name, "a repeat answers the same");

    daemon.undo().await;
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions, before.predictions);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_features_give_the_rows_that_computed_ones_give() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = with_one_withdrawal(dir.path()).await;
    // A training that has ended goes on to keep them.
    let features = dir.path().join("features");
    let kept = || {
        let files = std::fs::read_dir(&features);
        files.is_ok_and(|mut files| files.any(|file| file.unwrap().path().extension().is_none()))
    };
    for _ in 0..1000 {
        if kept() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(kept(), "the features of the examples are kept");
    let quiet =
        || v1::SplitClassRequest { learn: Learn::None.into(), ..split(vec![by_texts(UNDER), rest(OVER)]) };
    told(&mut daemon, quiet()).await;
    let first = daemon.ask(BANK, &QUESTIONS).await.predictions;
    daemon.undo().await;
    std::fs::remove_dir_all(&features).unwrap();
    told(&mut daemon, quiet()).await;
    let again = daemon.ask(BANK, &QUESTIONS).await.predictions;
    let probabilities = |predictions: &[v1::Prediction]| -> Vec<Vec<u64>> {
        let of = |prediction: &v1::Prediction| {
            prediction.classes.iter().map(|class| class.probability.to_bits()).collect()
        };
        predictions.iter().map(of).collect()
    };
    assert_eq!(probabilities(&first), probabilities(&again));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_examples_went_is_kept_over_a_restart_and_given_back_by_undo() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = with_one_withdrawal(dir.path()).await;
    let pattern = ClassPart { name: "abroad".into(), pattern: "yuan|元".into(), ..Default::default() };
    let keeps = ClassPart { name: "withdraw".into(), ..Default::default() };
    let quiet = v1::SplitClassRequest { learn: Learn::None.into(), ..split(vec![keeps, pattern]) };
    let (applied, events) = applied(told(&mut daemon, quiet).await);
    assert!(events.is_empty() && applied.job.is_empty());
    let share = applied.splits[0].parts[1].clone();
    assert_eq!(share.train + share.validation, 120);
    daemon.stop().await;

    let mut daemon = Daemon::start(dir.path()).await;
    let classes = classes_of_examples(&mut daemon).await;
    let abroad = |(text, class): &&(String, String)| {
        assert!(class == "abroad" || class == "withdraw", "{text}: {class}");
        class == "abroad"
    };
    assert_eq!(classes.iter().filter(abroad).count(), 120);
    let events = daemon.train(train_request()).await;
    support::assert_succeeded(&events);
    let asked = daemon.ask(BANK, &["withdraw 3000 yuan", "take out 3000 in cash"]).await.predictions;
    assert_eq!([&asked[0].classes[0].name, &asked[1].classes[0].name], ["abroad", "withdraw"]);

    daemon.undo().await;
    assert!(classes_of_examples(&mut daemon).await.iter().all(|(_, class)| class == "withdraw"));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relabelling_counts_for_more_than_where_a_split_sent_the_example() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = with_one_withdrawal(dir.path()).await;
    let pattern = ClassPart { name: "abroad".into(), pattern: "yuan|元".into(), ..Default::default() };
    let keeps = ClassPart { name: "withdraw".into(), ..Default::default() };
    let parts = vec![keeps.clone(), pattern.clone()];
    applied(told(&mut daemon, v1::SplitClassRequest { learn: Learn::None.into(), ..split(parts) }).await);
    let of_class = |name: &str| v1::ExampleFilter { class_name: name.into(), ..Default::default() };
    let request = v1::ListExamplesRequest {
        model: BANK.into(),
        filter: Some(of_class("abroad")),
        page_size: 3,
        ..Default::default()
    };
    let sent = daemon.dataset.list_examples(request).await.unwrap().into_inner().examples;
    let ids: Vec<u64> = sent.iter().map(|example| example.id).collect();
    let by_ids = |ids: &[u64]| v1::ExampleFilter { ids: ids.to_vec(), ..Default::default() };
    let relabel = |filter, label: &str| v1::RelabelExamplesRequest {
        model: BANK.into(),
        filter: Some(filter),
        label: label.into(),
        ..Default::default()
    };
    // They carry the name of the part that kept it, and went to the other one.
    for (expected, unchanged) in [(3, 0), (0, 3)] {
        let told = daemon.dataset.relabel_examples(relabel(by_ids(&ids), "withdraw")).await.unwrap();
        let told = told.into_inner();
        assert_eq!((told.relabelled, told.unchanged, told.total), (expected, unchanged, 480));
    }
    // So does one that was called something else in between.
    let other = sent_to(&mut daemon, "abroad").await[0];
    for label in ["balance", "withdraw"] {
        daemon.dataset.relabel_examples(relabel(by_ids(&[other]), label)).await.unwrap();
    }
    daemon.stop().await;

    let mut daemon = Daemon::start(dir.path()).await;
    assert_eq!(sent_to(&mut daemon, "abroad").await.len(), 116);
    // What a later split says counts again.
    let again = v1::SplitClassRequest {
        learn: Learn::None.into(),
        ..split(vec![ClassPart { name: "far away".into(), ..pattern }, keeps])
    };
    applied(told(&mut daemon, again).await);
    let far = sent_to(&mut daemon, "far away").await;
    assert!(far.len() == 4 && far.contains(&other) && ids.iter().all(|id| far.contains(id)), "{far:?}");
    daemon.stop().await;
}

/// The examples of a class.
async fn sent_to(daemon: &mut Daemon, class_name: &str) -> Vec<u64> {
    let filter = Some(v1::ExampleFilter { class_name: class_name.into(), ..Default::default() });
    let request =
        v1::ListExamplesRequest { model: BANK.into(), filter, page_size: 1000, ..Default::default() };
    let examples = daemon.dataset.list_examples(request).await.unwrap().into_inner().examples;
    examples.iter().map(|example| example.id).collect()
}

/// Each withdrawal and the class that it means now.
async fn classes_of_examples(daemon: &mut Daemon) -> Vec<(String, String)> {
    let request = v1::ListExamplesRequest { model: BANK.into(), page_size: 1000, ..Default::default() };
    let examples = daemon.dataset.list_examples(request).await.unwrap().into_inner().examples;
    let withdrawals = examples.into_iter().filter(|example| example.label == "withdraw");
    withdrawals.map(|example| (example.text, example.class_name)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_split_that_makes_no_sense_is_refused_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = with_one_withdrawal(dir.path()).await;
    let before = daemon.ask(BANK, &QUESTIONS).await;
    let named = |name: &str| ClassPart { name: name.into(), ..Default::default() };
    for (parts, expected) in [
        (vec![named("a")], "parts: must hold 2 to 1000 parts, got 1"),
        (vec![rest("a"), named("balance")], "parts[1].name: 'balance' is the name of another class"),
        (vec![rest("a"), named("b")], "parts[1]: 'b' would have no example that trains"),
        (vec![rest("a"), ClassPart { pattern: "(".into(), ..named("b") }], "parts[1].pattern: '('"),
        (
            vec![rest("a"), ClassPart { example_ids: vec![99_999], ..named("b") }],
            "parts[1].example_ids[0]: 99999 is no example of 'withdraw'",
        ),
    ] {
        let status = daemon.taxonomy.split_class(split(parts)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(expected), "{expected}: {}", status.message());
    }
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await, before);
    daemon.stop().await;
}

fn apply(changes: Vec<Change>, learn: Learn) -> v1::ApplyChangesRequest {
    v1::ApplyChangesRequest {
        model: BANK.into(),
        changes: changes.into_iter().map(|change| v1::ClassChange { change: Some(change) }).collect(),
        learn: learn.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_changes_is_one_revision_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = with_one_withdrawal(dir.path()).await;
    let before = daemon.ask(BANK, &QUESTIONS).await;
    let changes = || {
        vec![
            Change::Split(v1::SplitChange {
                class_name: "withdraw".into(),
                parts: vec![by_texts(UNDER), rest(OVER)],
            }),
            Change::Merge(v1::MergeChange {
                classes: vec!["balance".into(), "card lost".into()],
                into: "account".into(),
            }),
            Change::Rename(v1::RenameChange { class_name: OVER.into(), new_name: "large".into() }),
            Change::Move(v1::MoveChange {
                class_name: "large".into(),
                parent: "cash".into(),
                create_parent: true,
            }),
        ]
    };

    let mut bad = changes();
    bad.push(Change::Remove(v1::RemoveChange { classes: vec!["balance".into()] }));
    let status = daemon.taxonomy.apply_changes(apply(bad, Learn::None)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await, before, "none of it was done");
    let status = daemon.taxonomy.apply_changes(apply(vec![], Learn::None)).await.unwrap_err();
    assert!(status.message().contains("changes: must hold 1 to 1000 changes, got 0"), "{status:?}");

    let mut stream = daemon.taxonomy.apply_changes(apply(changes(), Learn::None)).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().result.unwrap();
    let apply_changes_response::Result::Applied(applied) = first else { panic!("{first:?}") };
    let manifest = applied.manifest.unwrap();
    assert_eq!((manifest.revision, manifest.change()), (2, v1::ChangeKind::Several));
    assert_eq!(applied.splits.len(), 1);
    let answer = daemon.ask(BANK, &QUESTIONS).await;
    let names: Vec<&str> = answer.predictions[3].classes.iter().map(|class| class.name.as_str()).collect();
    assert_eq!(names[0], "account");
    assert_eq!(names.len(), 3);

    daemon.undo().await;
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions, before.predictions);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_added_class_with_examples_is_answered_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    daemon.create("bank").await;
    let known: Vec<_> = support::texts().into_iter().filter(|text| text.label != "card lost").collect();
    daemon.add(BANK, known).await;
    support::assert_succeeded(&daemon.train(train_request()).await);
    daemon.add(BANK, support::texts()).await;
    let request = v1::AddClassesRequest {
        model: BANK.into(),
        names: vec!["card lost".into()],
        learn: Learn::None.into(),
        ..Default::default()
    };
    daemon.taxonomy.add_classes(request).await.unwrap().into_inner().message().await.unwrap();
    let answer = daemon.ask(BANK, &QUESTIONS).await;
    for (prediction, expected) in answer.predictions.iter().zip([UNDER, OVER, "balance", "card lost"]) {
        assert_eq!(prediction.classes[0].name, expected);
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_strategy_learns_as_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let train =
        |learn: Learn, force: bool| v1::TrainRequest { learn: learn.into(), force, ..train_request() };
    for (learn, mode, stage, note) in [
        (Learn::HeadOnly, v1::TrainingMode::Continue, "refit", "only the head, as asked for"),
        (Learn::FineTune, v1::TrainingMode::Continue, "fit", "fine-tuned, as asked for"),
        (Learn::Seed, v1::TrainingMode::Transfer, "fit", "with a softmax from random rows, as asked for"),
        (Learn::Scratch, v1::TrainingMode::Scratch, "fit", "from scratch, as asked for"),
    ] {
        let events = daemon.train(train(learn, true)).await;
        support::assert_succeeded(&events);
        assert_eq!(published(&events), [(stage.to_owned(), true)], "{learn:?}");
        let job = support::finished(&events);
        assert_eq!(job.mode(), mode);
        assert!(job.mode_reason.ends_with(note), "{}", job.mode_reason);
    }
    let status = daemon.training.train(train(Learn::None, false)).await.unwrap_err();
    assert!(status.message().contains("learn: a training cannot be NONE"), "{status:?}");

    daemon.create("fresh").await;
    daemon.add("models/fresh", support::texts()).await;
    let request = v1::TrainRequest { model: "models/fresh".into(), ..train(Learn::HeadOnly, false) };
    let status = daemon.training.train(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gate_refuses_is_promoted_by_force_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    // Of a class that the validation examples still ask for, ten examples are left that train, against a hundred that tell
    // otherwise.
    let filter = v1::ExampleFilter {
        class_name: "balance".into(),
        split: v1::Split::Train.into(),
        ..Default::default()
    };
    let request = v1::ListExamplesRequest {
        model: BANK.into(),
        filter: Some(filter),
        page_size: 1000,
        ..Default::default()
    };
    let train = daemon.dataset.list_examples(request).await.unwrap().into_inner().examples;
    let ids = train[10..].iter().map(|example| example.id).collect();
    let request = v1::RelabelExamplesRequest {
        model: BANK.into(),
        filter: Some(v1::ExampleFilter { ids, ..Default::default() }),
        label: "card lost".into(),
        ..Default::default()
    };
    daemon.dataset.relabel_examples(request).await.unwrap();
    let ruin = |force: bool| v1::TrainRequest { learn: Learn::Scratch.into(), force, ..train_request() };
    let events = daemon.train(ruin(false)).await;
    assert_eq!(published(&events), [("fit".to_owned(), false)]);
    let events = daemon.train(ruin(true)).await;
    assert_eq!(published(&events), [("fit".to_owned(), true)]);
    let request = v1::GetVersionRequest { name: format!("{BANK}/versions/3") };
    let version = daemon.registry.get_version(request).await.unwrap().into_inner().version.unwrap();
    assert!(version.report.unwrap().gate.starts_with("promoted by force: validation accuracy"));
    daemon.stop().await;
}
