//! Suggested merges gain what they promise.

mod support;

use support::{BANK, Daemon, texts, train_request};
use taxond::proto::v1::{self, LabelledText, merge_classes_response};
use tonic::Code;

fn suggest(limit: u32) -> v1::SuggestMergesRequest {
    v1::SuggestMergesRequest { model: BANK.into(), limit }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suggested_pair_gains_to_the_letter_what_its_preview_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    daemon.create("bank").await;
    daemon.add(BANK, texts()).await;
    // Two labels for the same kind of text: nobody can tell them apart.
    let coins = (0..300u32).map(|n| LabelledText {
        text: format!("is the coin number {n} on heads or tails"),
        label: if n.wrapping_mul(2_654_435_761) >> 31 == 0 { "heads" } else { "tails" }.into(),
    });
    daemon.add(BANK, coins.collect()).await;
    support::assert_succeeded(&daemon.train(train_request()).await);

    let answer = daemon.taxonomy.suggest_merges(suggest(0)).await.unwrap().into_inner();
    assert_eq!((answer.version.as_str(), answer.manifest_revision), ("models/bank/versions/1", 1));
    let accuracy = answer.validation_accuracy.unwrap();
    assert!(accuracy < 1.0 && answer.validation_examples > 20);
    let best = &answer.suggestions[0];
    assert_eq!(best.classes, ["heads", "tails"]);
    assert!(best.confused > 0 && best.accuracy_gain > 0.0);
    assert_eq!(best.examples.len() as u64, best.confused.min(5));
    for example in &best.examples {
        assert!(example.text.contains("coin") && example.label != example.answer);
        let pair = [example.label.as_str(), example.answer.as_str()];
        assert!(pair == ["heads", "tails"] || pair == ["tails", "heads"], "{pair:?}");
    }
    assert!(answer.suggestions.is_sorted_by(|a, b| a.accuracy_gain >= b.accuracy_gain));
    for pair in &answer.suggestions {
        let request = v1::MergeClassesRequest {
            model: BANK.into(),
            classes: pair.class_ids.iter().map(|id| format!("#{id}")).collect(),
            into: "both".into(),
            validate_only: true,
            expected_revision: Some(answer.manifest_revision),
            ..Default::default()
        };
        let mut stream = daemon.taxonomy.merge_classes(request).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap().result.unwrap();
        let merge_classes_response::Result::Preview(preview) = first else { panic!("{first:?}") };
        assert_eq!(preview.validation_accuracy_before, Some(accuracy));
        let gain = preview.validation_accuracy_after.unwrap() - accuracy;
        assert!((gain - pair.accuracy_gain).abs() < 1e-12, "{pair:?}: {gain}");
    }

    let one = daemon.taxonomy.suggest_merges(suggest(1)).await.unwrap().into_inner();
    assert_eq!(one.suggestions, answer.suggestions[..1]);
    let status = daemon.taxonomy.suggest_merges(suggest(1001)).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message().contains("got 1001"), "{status}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_version_has_nothing_to_suggest_from() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let status = daemon.taxonomy.suggest_merges(suggest(0)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    daemon.stop().await;
}
