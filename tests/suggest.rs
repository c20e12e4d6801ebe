//! Suggested merges gain what they promise, and suggested splits are of classes that are two.

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
    let status = daemon.taxonomy.suggest_splits(suggest_splits(0)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    daemon.stop().await;
}

fn suggest_splits(limit: u32) -> v1::SuggestSplitsRequest {
    v1::SuggestSplitsRequest { model: BANK.into(), limit }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_of_two_topics_is_named_and_its_parts_are_what_a_split_takes() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    daemon.create("bank").await;
    daemon.add(BANK, texts()).await;
    let days = ["monday", "friday", "sunday", "easter"];
    let coins = ["dollars", "yen", "pounds"];
    let of = |text: String| LabelledText { text, label: "two".into() };
    let branches: Vec<_> =
        (0..40).map(|n| of(format!("is the branch in street {} open on {}", n / 4, days[n % 4]))).collect();
    let rates: Vec<_> =
        (0..30).map(|n| of(format!("what is the euro rate for {} {}", n / 3, coins[n % 3]))).collect();
    daemon.add(BANK, [branches, rates].concat()).await;
    // Too few to tell.
    let few = (0..15).map(|n| LabelledText { text: format!("{n}{n} where"), label: "few".into() });
    daemon.add(BANK, few.collect()).await;
    support::assert_succeeded(&daemon.train(train_request()).await);

    let answer = daemon.taxonomy.suggest_splits(suggest_splits(0)).await.unwrap().into_inner();
    assert_eq!((answer.version.as_str(), answer.manifest_revision), ("models/bank/versions/1", 1));
    assert_eq!(answer.classes, 5, "of the six, one has too few examples");
    assert!(answer.suggestions.is_sorted_by(|a, b| a.separation >= b.separation));
    let two = answer.suggestions.iter().find(|split| split.class_name == "two").expect("two topics");
    assert!(two.examples == 70 && two.separation > 0.0 && two.separation < 1.0, "{two:?}");
    let [larger, smaller] = two.parts.as_slice() else { panic!("{two:?}") };
    assert_eq!((larger.example_ids.len(), smaller.example_ids.len()), (40, 30));
    assert!(larger.words.contains(&"branch".to_owned()), "{:?}", larger.words);
    assert!(smaller.words.contains(&"rate".to_owned()), "{:?}", smaller.words);
    assert!(!larger.words.iter().any(|word| smaller.words.contains(word)));
    for (part, word) in [(larger, "branch"), (smaller, "euro")] {
        assert_eq!(part.typical.len(), 3);
        for example in &part.typical {
            assert!(example.text.contains(word) && part.example_ids.contains(&example.id), "{example:?}");
        }
    }
    let again = daemon.taxonomy.suggest_splits(suggest_splits(0)).await.unwrap().into_inner();
    assert_eq!(again, answer);

    // The same with nothing kept of what the encoder makes of the examples.
    std::fs::remove_dir_all(dir.path().join("features")).unwrap();
    let computed = daemon.taxonomy.suggest_splits(suggest_splits(0)).await.unwrap().into_inner();
    assert_eq!(computed, answer);

    let part = |name: &str, part: &v1::SuggestedPart, remaining| v1::ClassPart {
        name: name.into(),
        example_ids: if remaining { vec![] } else { part.example_ids.clone() },
        remaining,
        ..Default::default()
    };
    let request = v1::SplitClassRequest {
        model: BANK.into(),
        class_name: format!("#{}", two.class_id),
        parts: vec![part("branches", larger, true), part("rates", smaller, false)],
        validate_only: true,
        expected_revision: Some(answer.manifest_revision),
        ..Default::default()
    };
    let mut stream = daemon.taxonomy.split_class(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().result.unwrap();
    let v1::split_class_response::Result::Preview(preview) = first else { panic!("{first:?}") };
    let counts = preview.splits[0].parts.iter().map(|part| part.train + part.validation);
    assert_eq!((counts.collect::<Vec<_>>(), preview.splits[0].unassigned), (vec![40, 30], 0));

    let one = daemon.taxonomy.suggest_splits(suggest_splits(1)).await.unwrap().into_inner();
    assert_eq!(one.suggestions, answer.suggestions[..1]);
    let status = daemon.taxonomy.suggest_splits(suggest_splits(1001)).await.unwrap_err();
    assert!(status.code() == Code::InvalidArgument && status.message().contains("got 1001"), "{status}");
    daemon.stop().await;
}
