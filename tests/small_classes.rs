//! Classes with few examples are learnt from all of them, and the gate says when it has too little to judge by.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use support::{BANK, Daemon, assert_succeeded, finished, probability, texts, train_request};
use taxond::{
    dataset::Split,
    proto::v1::{
        self, EvaluateRequest, JobEvent, LabelledText, Learn, add_classes_response, job_event::Event,
    },
};

/// Texts of which each validates by its hash.
const FIRE: [&str; 3] =
    ["a fire broke out, help", "fire in the hall please come", "call the fire brigade right now"];

fn fire() -> Vec<LabelledText> {
    for text in FIRE {
        assert_eq!(Split::of(text), Split::Validation, "{text}");
    }
    FIRE.map(|text| LabelledText { text: text.into(), label: "fire".into() }).to_vec()
}

/// Eighteen texts of each of four classes, of which one validates.
fn with_one_that_validates() -> Vec<LabelledText> {
    let mut chosen: Vec<LabelledText> = Vec::new();
    let mut validates = 1;
    for text in texts() {
        let of_class = chosen.iter().filter(|other| other.label == text.label).count();
        if of_class == 18 || Split::of(&text.text) == Split::Validation && validates == 0 {
            continue;
        }
        validates -= usize::from(Split::of(&text.text) == Split::Validation);
        chosen.push(text);
    }
    assert_eq!((chosen.len(), validates), (72, 0));
    chosen
}

fn planned(events: &[JobEvent]) -> v1::JobPlanned {
    let planned = events.iter().find_map(|event| match &event.event {
        Some(Event::Planned(planned)) => Some(planned.clone()),
        _ => None,
    });
    planned.unwrap()
}

/// Whether each version that a job made was promoted, and what the gate said.
fn published(events: &[JobEvent]) -> Vec<(bool, String)> {
    let published = events.iter().filter_map(|event| match &event.event {
        Some(Event::Published(published)) => {
            Some((published.promoted, published.version.clone().unwrap().report.unwrap().gate))
        }
        _ => None,
    });
    published.collect()
}

async fn fire_probabilities(daemon: &mut Daemon, model: &str) -> Vec<f64> {
    let answers = daemon.ask(model, &FIRE).await.predictions;
    answers.iter().map(|answer| probability(answer, "fire")).collect()
}

/// How many of some texts the version that serves answers right.
async fn right(daemon: &mut Daemon, examples: Vec<LabelledText>) -> f64 {
    let request = EvaluateRequest { model: BANK.into(), examples };
    let measured = daemon.training.evaluate(tokio_stream::once(request)).await.unwrap().into_inner();
    measured.accuracy * measured.examples as f64
}

async fn stats(daemon: &mut Daemon) -> v1::GetStatsResponse {
    daemon
        .dataset
        .get_stats(v1::GetStatsRequest { model: BANK.into(), ..Default::default() })
        .await
        .unwrap()
        .into_inner()
}

async fn evaluate(daemon: &mut Daemon) -> v1::EvaluateResponse {
    let request = EvaluateRequest { model: BANK.into(), examples: Vec::new() };
    daemon.training.evaluate(tokio_stream::once(request)).await.unwrap().into_inner()
}

async fn add_class(daemon: &mut Daemon, learn: Learn) -> (v1::ChangeApplied, Vec<JobEvent>) {
    let request = v1::AddClassesRequest {
        model: BANK.into(),
        names: vec!["fire".into()],
        learn: learn.into(),
        ..Default::default()
    };
    let mut stream = daemon.taxonomy.add_classes(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().result.unwrap();
    let add_classes_response::Result::Applied(applied) = first else { panic!("{first:?}") };
    let mut events = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        match response.result.unwrap() {
            add_classes_response::Result::Event(event) => events.push(event),
            other => panic!("{other:?}"),
        }
    }
    (applied, events)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_whose_examples_all_validate_by_the_hash_is_answered_once_added() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    daemon.add(BANK, fire()).await;
    let (_, events) = add_class(&mut daemon, Learn::None).await;
    assert!(events.is_empty());
    // Rows that no example was found for would give it a thousandth at most.
    let at_once: Vec<f64> = fire_probabilities(&mut daemon, BANK).await;
    assert!(at_once.iter().all(|probability| *probability > 0.01), "{at_once:?}");

    daemon.undo().await;
    let (applied, events) = add_class(&mut daemon, Learn::Auto).await;
    assert!(!applied.job.is_empty());
    assert_succeeded(&events);
    let plan = planned(&events);
    assert_eq!((plan.small_classes.as_slice(), plan.small_class_count), (&["fire".to_owned()][..], 1));
    assert_eq!((plan.train_examples, plan.validation_examples), (480 - 60 + 3, 60));
    let warned = "'fire' has 3 examples, too few to hold some out: all of them train";
    assert!(plan.warnings.len() == 1 && plan.warnings[0].starts_with(warned), "{:?}", plan.warnings);
    let gate = "'fire' is not measured: its few examples all train";
    let promoted: Vec<_> = published(&events).into_iter().filter(|(promoted, _)| *promoted).collect();
    assert!(promoted.iter().all(|(_, said)| said.ends_with(gate)), "{promoted:?}");
    // Three texts beside 420 do not make it the first answer of this network, but nothing has forgotten it.
    for version in finished(&events).versions {
        let learnt = fire_probabilities(&mut daemon, &version).await;
        assert!(learnt.iter().all(|probability| *probability > 0.002), "{version}: {learnt:?}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_whose_examples_all_validate_by_the_hash_is_trained_from_scratch_and_measured_by_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    daemon.add(BANK, fire()).await;
    let told = stats(&mut daemon).await;
    assert_eq!((told.train, told.validation), (420, 63), "counted as the hash says");
    assert_eq!(told.small_classes, ["fire"], "a label that is no class yet");
    let events = daemon.train(v1::TrainRequest { epochs: None, ..train_request() }).await;
    assert_succeeded(&events);
    assert_eq!(planned(&events).small_classes, ["fire"]);
    for prediction in daemon.ask(BANK, &FIRE).await.predictions {
        assert_eq!(prediction.classes[0].name, "fire");
    }
    // What was trained on measures nothing.
    let measured = evaluate(&mut daemon).await;
    assert_eq!(measured.examples, 60);
    assert!(measured.classes.iter().all(|class| class.name != "fire" || class.support == 0));

    // A merge makes it a part of a class that is large enough, whose labels count together.
    let request = v1::MergeClassesRequest {
        model: BANK.into(),
        classes: vec!["fire".into(), "card lost".into()],
        into: "emergency".into(),
        learn: Learn::None.into(),
        ..Default::default()
    };
    daemon.taxonomy.merge_classes(request).await.unwrap().into_inner().message().await.unwrap();
    assert_eq!(stats(&mut daemon).await.small_classes, [""; 0]);
    assert_eq!(evaluate(&mut daemon).await.examples, 63);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_text_that_validates_does_not_let_a_diverged_run_serve() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    daemon.create("bank").await;
    daemon.add(BANK, with_one_that_validates()).await;
    let request = || v1::TrainRequest { epochs: None, ..train_request() };
    let events = daemon.train(request()).await;
    assert_succeeded(&events);
    let plan = planned(&events);
    assert_eq!((plan.train_examples, plan.validation_examples, plan.small_class_count), (71, 1, 0));
    assert!(plan.warnings[0].starts_with("only 1 text validates; it takes 30"), "{:?}", plan.warnings);
    let first = published(&events);
    let said = "promoted: too little to judge by, only 1 text validates; nothing replaced";
    assert_eq!(first, [(true, said.to_owned())]);

    // A training that goes on where the first ended is not worse.
    let events = daemon.train(request()).await;
    let second = published(&events);
    assert!(second[0].0, "{second:?}");
    assert!(second[0].1.contains("of 72 examples, those that train too, it answers"), "{second:?}");

    // Rates at which the network falls apart: the text that validates may be answered right all the same.
    for rate in [0.3, 0.05, 0.1] {
        let before = right(&mut daemon, with_one_that_validates()).await;
        let diverges = v1::TrainRequest { learning_rate: Some(rate), ..request() };
        let events = daemon.train(diverges).await;
        assert_succeeded(&events);
        let (promoted, said) = published(&events).swap_remove(0);
        let after = right(&mut daemon, with_one_that_validates()).await;
        assert!(after + 2.5 > before, "{rate}: {before} of 72 were right, {after} are: {promoted}, {said}");
        assert!(promoted || after == before, "{rate}: {said}");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_training_that_diverged_is_stored_and_serves_by_force_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    // Without a wide branch, which would answer in place of the deep one.
    let request = v1::CreateModelRequest {
        model_id: "bank".into(),
        preset: v1::Preset::Seed.into(),
        ..Default::default()
    };
    daemon.registry.create_model(request).await.unwrap();
    daemon.add(BANK, with_one_that_validates()).await;
    let diverges =
        |force| v1::TrainRequest { learning_rate: Some(1.0), epochs: Some(1), force, ..train_request() };
    let events = daemon.train(diverges(false)).await;
    assert_succeeded(&events);
    let said = published(&events);
    assert!(!said[0].0 && said[0].1.contains("the run diverged or learnt nothing: of 71 texts"), "{said:?}");
    let request = v1::PredictRequest { model: BANK.into(), texts: vec!["cash".into()], ..Default::default() };
    let refused = daemon.predict.predict(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    let forced = published(&daemon.train(diverges(true)).await);
    assert!(forced[0].0 && forced[0].1.starts_with("promoted by force: the run diverged"), "{forced:?}");
    daemon.stop().await;
}
