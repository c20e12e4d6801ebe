//! The labels of stored examples can be corrected, and what is probably wrong with them is told.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use support::{BANK, Daemon, assert_succeeded, long_train_request, texts, train_request};
use taxond::proto::v1::{self, ExampleFilter, LabelledText, Learn};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

fn labelled(text: &str, label: &str) -> LabelledText {
    LabelledText { text: text.into(), label: label.into() }
}

fn of_label(label: &str) -> ExampleFilter {
    ExampleFilter { label: label.into(), ..Default::default() }
}

fn of_class(class_name: &str) -> ExampleFilter {
    ExampleFilter { class_name: class_name.into(), ..Default::default() }
}

fn of_ids(ids: &[u64]) -> ExampleFilter {
    ExampleFilter { ids: ids.to_vec(), ..Default::default() }
}

fn all() -> ExampleFilter {
    ExampleFilter { all: true, ..Default::default() }
}

fn relabel(filter: ExampleFilter, label: &str) -> v1::RelabelExamplesRequest {
    v1::RelabelExamplesRequest {
        model: BANK.into(),
        filter: Some(filter),
        label: label.into(),
        ..Default::default()
    }
}

fn delete(filter: ExampleFilter) -> v1::DeleteExamplesRequest {
    v1::DeleteExamplesRequest { model: BANK.into(), filter: Some(filter), ..Default::default() }
}

async fn relabelled(
    daemon: &mut Daemon,
    request: v1::RelabelExamplesRequest,
) -> Result<v1::RelabelExamplesResponse, Status> {
    Ok(daemon.dataset.relabel_examples(request).await?.into_inner())
}

async fn deleted(
    daemon: &mut Daemon,
    request: v1::DeleteExamplesRequest,
) -> Result<v1::DeleteExamplesResponse, Status> {
    Ok(daemon.dataset.delete_examples(request).await?.into_inner())
}

async fn list(daemon: &mut Daemon, filter: ExampleFilter) -> Vec<v1::Example> {
    let request = v1::ListExamplesRequest {
        model: BANK.into(),
        filter: Some(filter),
        page_size: 1000,
        ..Default::default()
    };
    daemon.dataset.list_examples(request).await.unwrap().into_inner().examples
}

async fn stats(daemon: &mut Daemon) -> v1::GetStatsResponse {
    let request = v1::GetStatsRequest { model: BANK.into(), ..Default::default() };
    daemon.dataset.get_stats(request).await.unwrap().into_inner()
}

fn assert_violation(status: &Status, field: &str, part: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let details = status.get_error_details();
    let found = &details.bad_request().expect("bad request details").field_violations;
    assert!(found.iter().any(|v| v.field == field && v.description.contains(part)), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_are_relabelled_by_what_they_mean_and_learnt_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let (_, stream) = daemon.merge(Learn::None).await;
    drop(stream);
    let total = texts().len() as u64;

    // Both labels mean the merged class; half of its texts ask for large sums.
    let large = ExampleFilter { text_contains: "ＯＵＴ  50000".into(), ..of_class("withdraw") };
    let chosen = list(&mut daemon, large.clone()).await;
    assert_eq!(chosen.len(), 30);
    assert!(chosen.iter().all(|e| e.class_name == "withdraw" && e.label == "withdraw over 20k"));
    let request = relabel(large, "withdraw a lot");
    let tried = v1::RelabelExamplesRequest { validate_only: true, ..request.clone() };
    let told = relabelled(&mut daemon, tried).await.unwrap();
    let expected = v1::RelabelExamplesResponse { relabelled: 30, total, ..Default::default() };
    assert_eq!(told, expected, "a label that is no class yet means none");
    assert_eq!(list(&mut daemon, of_label("withdraw a lot")).await, []);
    assert_eq!(relabelled(&mut daemon, request).await.unwrap(), expected);
    let now = list(&mut daemon, of_label("withdraw a lot")).await;
    let renamed = |example: &v1::Example| v1::Example {
        label: "withdraw a lot".into(),
        class_name: String::new(),
        ..example.clone()
    };
    assert_eq!(now, chosen.iter().map(renamed).collect::<Vec<_>>(), "id, text, side and time stay");
    // The old way to ask for a label goes on working, and goes with other fields of the filter.
    let request = v1::ListExamplesRequest {
        model: BANK.into(),
        label: "withdraw a lot".into(),
        filter: Some(of_ids(&[now[0].id, 1])),
        ..Default::default()
    };
    let listed = daemon.dataset.list_examples(request).await.unwrap().into_inner();
    assert_eq!(listed.examples, now[..1]);

    // What was corrected lasts, and is what the next training learns.
    daemon.stop().await;
    let mut daemon = Daemon::start(dir.path()).await;
    assert_eq!(stats(&mut daemon).await.total, total);
    assert_succeeded(&daemon.train(train_request()).await);
    let again = list(&mut daemon, of_class("withdraw a lot")).await;
    assert_eq!(again.len(), 30);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_are_deleted_while_a_job_trains_on_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let total = texts().len() as u64;
    let mut job = daemon.training.train(long_train_request()).await.unwrap().into_inner();
    let name = job.message().await.unwrap().unwrap().event.unwrap().job;

    let request = v1::DeleteExamplesRequest { validate_only: true, ..delete(of_class("balance")) };
    let told = deleted(&mut daemon, request).await.unwrap();
    assert_eq!(told, v1::DeleteExamplesResponse { deleted: 120, total: total - 120 });
    assert_eq!(stats(&mut daemon).await.total, total);
    let request = v1::DeleteExamplesRequest { request_id: "weed-1".into(), ..delete(of_class("balance")) };
    let told = deleted(&mut daemon, request.clone()).await.unwrap();
    assert_eq!(told, v1::DeleteExamplesResponse { deleted: 120, total: total - 120 });
    assert!(stats(&mut daemon).await.labels.iter().all(|label| label.label != "balance"));
    let model = v1::GetModelRequest { name: BANK.into() };
    let model = daemon.registry.get_model(model).await.unwrap().into_inner().model.unwrap();
    assert_eq!(model.example_count, total - 120);

    // A repeat answers as the first call did, whatever came since.
    daemon.add(BANK, texts()).await;
    assert_eq!(deleted(&mut daemon, request.clone()).await.unwrap(), told);
    assert_eq!(stats(&mut daemon).await.total, total);
    let other = v1::DeleteExamplesRequest { filter: Some(of_class("card lost")), ..request };
    assert_violation(&deleted(&mut daemon, other).await.unwrap_err(), "request_id", "another request");
    let newest = list(&mut daemon, of_label("balance")).await;
    assert!(newest.iter().all(|example| example.id > total), "ids are not given out again");

    let told = deleted(&mut daemon, delete(all())).await.unwrap();
    assert_eq!(told, v1::DeleteExamplesResponse { deleted: total, total: 0 });
    daemon.training.cancel_job(v1::CancelJobRequest { name }).await.unwrap();
    while job.message().await.unwrap().is_some() {}
    let status = daemon.training.train(train_request()).await.unwrap_err();
    assert_eq!(status.get_error_details().error_info().expect("error info").reason, "NO_EXAMPLES");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_is_refused_while_a_stream_adds() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let total = texts().len() as u64;
    let dataset = daemon.dataset.clone();
    let open = || {
        let (messages, stream) = tokio::sync::mpsc::channel(2);
        let mut dataset = dataset.clone();
        let adding = tokio::spawn(async move {
            dataset.add_examples(tokio_stream::wrappers::ReceiverStream::new(stream)).await
        });
        (messages, adding)
    };
    let message = |text: &str| v1::AddExamplesRequest {
        model: BANK.into(),
        examples: vec![labelled(text, "balance")],
        ..Default::default()
    };
    let (mut messages, mut adding) = open();
    messages.send(message("the first of two")).await.unwrap();
    // The stream is open once a correction is refused for it; before, nothing matches and nothing happens.
    let status = loop {
        // It is itself refused where it comes during a correction.
        if adding.is_finished() {
            (messages, adding) = open();
            messages.send(message("the first of two")).await.unwrap();
        }
        match deleted(&mut daemon, delete(of_label("nothing has this"))).await {
            Ok(told) => assert_eq!(told.deleted, 0),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(status.get_error_details().error_info().expect("error info").reason, "ADDING");
    messages.send(message("the second of two")).await.unwrap();
    drop(messages);
    assert_eq!(adding.await.unwrap().unwrap().into_inner().total, total + 2);
    let two = ExampleFilter { text_contains: "of two".into(), ..Default::default() };
    assert_eq!(deleted(&mut daemon, delete(two)).await.unwrap().total, total);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_says_nothing_or_too_much_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let before = stats(&mut daemon).await;
    for (filter, field, part) in [
        (ExampleFilter::default(), "filter", "empty"),
        (ExampleFilter { label: "balance".into(), ..all() }, "filter.all", "only field"),
        (of_ids(&[1, 0]), "filter.ids[1]", "got 0"),
        (of_label("a\u{202e}b"), "filter.label", "U+202E"),
        (
            ExampleFilter { text_contains: " \t".into(), ..Default::default() },
            "filter.text_contains",
            "blank",
        ),
        (ExampleFilter { split: 9, ..Default::default() }, "filter.split", "got 9"),
    ] {
        assert_violation(&deleted(&mut daemon, delete(filter.clone())).await.unwrap_err(), field, part);
        let status = relabelled(&mut daemon, relabel(filter, "balance")).await.unwrap_err();
        assert_violation(&status, field, part);
    }
    let nothing = v1::DeleteExamplesRequest { filter: None, ..delete(all()) };
    assert_violation(&deleted(&mut daemon, nothing).await.unwrap_err(), "filter", "empty");
    assert_violation(&relabelled(&mut daemon, relabel(all(), " ")).await.unwrap_err(), "label", "empty");
    let request = v1::ListExamplesRequest {
        model: BANK.into(),
        label: "balance".into(),
        filter: Some(of_label("balance")),
        ..Default::default()
    };
    let status = daemon.dataset.list_examples(request).await.unwrap_err();
    assert_violation(&status, "label", "beside filter.label");

    let status = deleted(&mut daemon, delete(of_ids(&[1, 99_999]))).await.unwrap_err();
    let details = status.get_error_details();
    let resource = details.resource_info().expect("resource info");
    assert_eq!(
        (status.code(), resource.resource_type.as_str(), resource.resource_name.as_str()),
        (Code::NotFound, "taxond.v1/Example", "models/bank/examples/99999")
    );
    // What classes there are is not known before something serves.
    let status = deleted(&mut daemon, delete(of_class("balance"))).await.unwrap_err();
    assert_eq!(status.get_error_details().error_info().expect("error info").reason, "NO_VERSION");
    assert_eq!(stats(&mut daemon).await, before);

    assert_succeeded(&daemon.train(train_request()).await);
    let status = deleted(&mut daemon, delete(of_class("balanec"))).await.unwrap_err();
    assert!(status.message().contains("did you mean 'balance'?"), "{status}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_two_classes_is_told_until_it_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    assert_eq!(stats(&mut daemon).await.conflicts, 0);
    let text = "what is my balance today";
    let others = [labelled("What is MY balance  today", "card lost"), labelled(text, "loan")];
    daemon.add(BANK, others.to_vec()).await;
    // Two labels of one class are no conflict.
    daemon.add(BANK, vec![labelled("取款 三万 元", "withdraw under 20k")]).await;
    assert_eq!(stats(&mut daemon).await.conflicts, 2);
    let (_, stream) = daemon.merge(Learn::None).await;
    drop(stream);

    let found = stats(&mut daemon).await;
    assert_eq!((found.conflicts, found.first_conflicts.len()), (1, 1));
    let conflict = &found.first_conflicts[0];
    assert_eq!(conflict.text, text);
    let labels: Vec<_> =
        conflict.examples.iter().map(|e| (e.label.as_str(), e.class_name.as_str())).collect();
    assert_eq!(labels, [("balance", "balance"), ("card lost", "card lost"), ("loan", "")]);
    let conflicting = ExampleFilter { conflicting: true, ..Default::default() };
    let listed = list(&mut daemon, conflicting.clone()).await;
    let ids = |of: &[v1::Example]| of.iter().map(|example| example.id).collect::<Vec<_>>();
    assert_eq!(ids(&listed), conflict.examples.iter().map(|e| e.id).collect::<Vec<_>>());
    // The filter goes with others, and a conflict that is settled is one no more.
    let wrong = ExampleFilter { class_name: "card lost".into(), ..conflicting.clone() };
    assert_eq!(ids(&list(&mut daemon, wrong.clone()).await), [conflict.examples[1].id]);
    let told = relabelled(&mut daemon, relabel(wrong, "balance")).await.unwrap();
    assert_eq!((told.relabelled, told.duplicates), (0, 1), "it was there with this label");
    assert_eq!(told.class_name, "balance");
    let told = relabelled(&mut daemon, relabel(conflicting, "loan")).await.unwrap();
    assert_eq!((told.relabelled, told.duplicates, told.unchanged), (0, 1, 1));
    assert_eq!(stats(&mut daemon).await.conflicts, 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_labels_are_suggested_and_gone_once_mended() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    daemon.create("bank").await;
    let mut examples = texts();
    // A few labels are wrong, on either side of the split.
    let wrong: Vec<usize> = (0..examples.len()).filter(|at| at % 37 == 5).collect();
    for &at in &wrong {
        let label = &mut examples[at].label;
        *label = if label == "balance" { "card lost" } else { "balance" }.into();
    }
    daemon.add(BANK, examples.clone()).await;
    assert_succeeded(&daemon.train(train_request()).await);

    let suggest = |limit| v1::SuggestRelabelsRequest { model: BANK.into(), min_confidence: Some(0.5), limit };
    let answer = daemon.dataset.suggest_relabels(suggest(1000)).await.unwrap().into_inner();
    assert_eq!((answer.version.as_str(), answer.manifest_revision), ("models/bank/versions/1", 1));
    assert_eq!(answer.examples, texts().len() as u64);
    assert_eq!(answer.contradicted, answer.suggestions.len() as u64);
    let margin = |s: &v1::RelabelSuggestion| s.probability - s.label_probability;
    assert!(answer.suggestions.is_sorted_by(|a, b| margin(a) >= margin(b)));
    let mut found = Vec::new();
    for suggestion in &answer.suggestions {
        let example = suggestion.example.clone().unwrap();
        assert!(example.class_name == example.label && suggestion.answer != example.label);
        assert!(suggestion.probability >= 0.5);
        let asked = daemon.ask(BANK, &[&example.text]).await.predictions.swap_remove(0);
        assert!((asked.classes[0].probability - suggestion.probability).abs() < 1e-6);
        assert_eq!(asked.classes[0].id, suggestion.answer_id);
        found.push(example.id as usize - 1);
    }
    let hits = wrong.iter().filter(|at| found.contains(at)).count();
    assert!(2 * hits > wrong.len(), "{hits} of {} were found: {found:?}", wrong.len());
    let splits: std::collections::BTreeSet<i32> =
        answer.suggestions.iter().filter_map(|s| Some(s.example.as_ref()?.split)).collect();
    assert_eq!(splits.len(), 2, "both sides of the split are looked at");

    let few = daemon.dataset.suggest_relabels(suggest(2)).await.unwrap().into_inner();
    assert_eq!(few.suggestions, answer.suggestions[..2]);
    assert_eq!(few.contradicted, answer.contradicted);
    let sure = v1::SuggestRelabelsRequest { min_confidence: Some(1.0), ..suggest(0) };
    assert_eq!(daemon.dataset.suggest_relabels(sure).await.unwrap().into_inner().suggestions, []);
    for (request, field, part) in [
        (v1::SuggestRelabelsRequest { min_confidence: Some(1.5), ..suggest(0) }, "min_confidence", "got 1.5"),
        (suggest(1001), "limit", "got 1001"),
    ] {
        assert_violation(&daemon.dataset.suggest_relabels(request).await.unwrap_err(), field, part);
    }

    // Doing what was suggested leaves nothing to suggest of these.
    for suggestion in &answer.suggestions {
        let id = suggestion.example.as_ref().unwrap().id;
        relabelled(&mut daemon, relabel(of_ids(&[id]), &suggestion.answer)).await.unwrap();
    }
    let after = daemon.dataset.suggest_relabels(suggest(1000)).await.unwrap().into_inner();
    assert_eq!(after.contradicted, 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_long_texts_fit_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    daemon.create("bank").await;
    for start in [0, 50] {
        let long = |n: usize| labelled(&format!("{n} {}", "x".repeat(60_000)), "balance");
        daemon.add(BANK, (start..start + 50).map(long).collect()).await;
    }
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            v1::ListExamplesRequest { model: BANK.into(), page_size: 1000, page_token, ..Default::default() };
        let page = daemon.dataset.list_examples(request).await.unwrap().into_inner();
        ids.extend(page.examples.iter().map(|example| example.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(ids, (1..=100).collect::<Vec<u64>>());
    daemon.stop().await;
}
