//! Predict under load over a real socket: what is computed together, with other models and versions and through swaps of
//! them, answers as it does alone; a queue that is full refuses at once and says when to come back.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use support::{BANK, Daemon, QUESTIONS, assert_succeeded, texts, train_request};
use taxond::{
    config::Settings,
    proto::v1::{
        LabelledText, Learn, PredictRequest, PredictResponse, Prediction, SetAliasRequest, TrainRequest,
        predict_service_client::PredictServiceClient,
    },
};
use tokio::task::JoinHandle;
use tonic::{Code, Request, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

const SHOP: &str = "models/shop";

/// Texts of very different lengths and kinds, some of which no training has seen.
fn asked() -> Vec<String> {
    let mut texts: Vec<String> = QUESTIONS.map(String::from).to_vec();
    texts.extend(
        ["?", "取款 三万 元", "🙂🙂", "\u{202e}desrever", "e\u{301}\u{301}\u{301}", "zzzz"].map(String::from),
    );
    texts.extend((1..20).map(|n| "take out cash at the branch please ".repeat(n)));
    texts
}

fn request(model: &str, texts: &[String]) -> PredictRequest {
    PredictRequest { model: model.into(), texts: texts.to_vec(), top_k: Some(1000), ..Default::default() }
}

/// Another model, of two classes.
async fn add_shop(daemon: &mut Daemon) {
    daemon.create("shop").await;
    let label = |text: &LabelledText| if text.text.contains("card") { "card" } else { "other" };
    let examples =
        texts().into_iter().map(|text| LabelledText { label: label(&text).into(), text: text.text });
    daemon.add(SHOP, examples.collect()).await;
    let events = daemon.train(TrainRequest { model: SHOP.into(), ..train_request() }).await;
    assert_succeeded(&events);
}

/// A daemon with two models, one of which has two versions in other classes.
async fn two_models(dir: &std::path::Path, settings: Settings) -> Daemon {
    let mut daemon = Daemon::trained(dir).await;
    daemon.merge(Learn::None).await;
    add_shop(&mut daemon).await;
    daemon.stop().await;
    Daemon::start_with(dir, settings).await
}

const VERSIONS: [&str; 3] = ["models/bank/versions/1", "models/bank/versions/2", "models/shop/versions/1"];

/// What each version says to each text alone.
async fn alone(daemon: &mut Daemon) -> BTreeMap<(&'static str, String), Prediction> {
    let mut answers = BTreeMap::new();
    for version in VERSIONS {
        for text in asked() {
            let answer = daemon.ask(version, &[&text]).await;
            answers.insert((version, text), answer.predictions[0].clone());
        }
    }
    answers
}

/// A client of its own connection.
async fn connect(daemon: &Daemon) -> PredictServiceClient<Channel> {
    let address = format!("http://{}", daemon.running.address);
    PredictServiceClient::connect(address).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_does_not_depend_on_what_is_computed_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    // Whatever all clients ask at once has room in the queue.
    let settings = Settings { threads: Some(3), predict_queue: Some(100_000), ..Settings::default() };
    let mut daemon = two_models(dir.path(), settings).await;
    let alone = Arc::new(alone(&mut daemon).await);
    let mut clients = Vec::new();
    for client in 0..12usize {
        let (mut predict, alone) = (connect(&daemon).await, Arc::clone(&alone));
        clients.push(tokio::spawn(async move {
            let asked = asked();
            for round in 0..20 {
                let version = VERSIONS[(client + round) % VERSIONS.len()];
                // From one text to more than a batch holds, in an order of its own.
                let count = [1, 2, 7, 30, 150][(client * 3 + round) % 5];
                let texts: Vec<String> =
                    (0..count).map(|at| asked[(at * 7 + client + round) % asked.len()].clone()).collect();
                let answer = predict.predict(request(version, &texts)).await.unwrap().into_inner();
                assert_eq!(answer.version, version);
                for (text, prediction) in texts.iter().zip(&answer.predictions) {
                    assert_eq!(prediction, &alone[&(version, text.clone())], "{version}: {text}");
                }
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swaps_and_loads_fail_no_request_and_each_answer_is_of_one_version() {
    let dir = tempfile::tempdir().unwrap();
    // Room for one version: whatever is asked for pushes the other out, but for what is pinned.
    let settings =
        Settings { model_cache_bytes: Some(16 << 20), pin: Some(vec!["shop".into()]), ..Settings::default() };
    let mut daemon = two_models(dir.path(), settings).await;
    let alone = Arc::new(alone(&mut daemon).await);
    let over = Arc::new(AtomicBool::new(false));
    let answered: Arc<[AtomicUsize; 3]> = Arc::default();
    let mut clients = Vec::new();
    for (client, model) in [BANK, BANK, SHOP].into_iter().enumerate() {
        let (mut predict, alone, over) = (connect(&daemon).await, Arc::clone(&alone), Arc::clone(&over));
        let answered = Arc::clone(&answered);
        clients.push(tokio::spawn(async move {
            let texts = asked();
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                let answer = predict.predict(request(model, &texts)).await.unwrap().into_inner();
                let version = VERSIONS.into_iter().find(|version| *version == answer.version).unwrap();
                for (text, prediction) in texts.iter().zip(&answer.predictions) {
                    assert_eq!(prediction, &alone[&(version, text.clone())], "{version}: {text}");
                }
                seen.insert(version);
                answered[client].fetch_add(1, Ordering::Relaxed);
            }
            seen.len()
        }));
    }
    let counts = || answered.each_ref().map(|count| count.load(Ordering::Relaxed));
    for swap in 0..30 {
        let request = SetAliasRequest { model: BANK.into(), version: 1 + swap % 2, ..Default::default() };
        daemon.registry.set_alias(request).await.unwrap();
        // The second answer from here on is to a question that was asked after the swap.
        let before = counts();
        while !clients.iter().any(JoinHandle::is_finished)
            && counts().iter().zip(before).any(|(now, before)| *now < before + 2)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut seen = Vec::new();
    for client in clients {
        seen.push(client.await.unwrap());
    }
    assert_eq!(seen, [2, 2, 1], "the clients of the bank saw both versions");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once_and_the_rest_is_answered_right() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { predict_queue: Some(16), threads: Some(1), ..Settings::default() };
    let mut daemon = two_models(dir.path(), settings).await;
    let alone = Arc::new(alone(&mut daemon).await);
    let predict = connect(&daemon).await;
    let texts: Vec<String> = asked().into_iter().rev().take(8).collect();
    let mut calls = Vec::new();
    for _ in 0..300 {
        let (mut predict, request) = (predict.clone(), request(VERSIONS[0], &texts));
        calls.push(tokio::spawn(
            async move { predict.predict(request).await.map(tonic::Response::into_inner) },
        ));
    }
    let mut health = HealthClient::new(daemon.channel.clone());
    health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    let (mut answered, mut refused) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(PredictResponse { predictions, .. }) => {
                answered += 1;
                for (text, prediction) in texts.iter().zip(&predictions) {
                    assert_eq!(prediction, &alone[&(VERSIONS[0], text.clone())]);
                }
            }
            Err(status) => {
                refused += 1;
                assert_full(&status);
            }
        }
    }
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions.len(), QUESTIONS.len());
    daemon.stop().await;
}

#[track_caller]
fn assert_full(status: &Status) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "QUEUE_FULL");
    let delay = details.retry_info().unwrap().retry_delay.unwrap();
    assert!((Duration::from_millis(10)..=Duration::from_secs(5)).contains(&delay), "{delay:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_request_that_waits() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = two_models(dir.path(), Settings { threads: Some(1), ..Settings::default() }).await;
    let long: Vec<String> = vec!["take out cash at the branch please ".repeat(30); 256];
    let mut busy = connect(&daemon).await;
    let flood = tokio::spawn(async move {
        for _ in 0..4 {
            busy.predict(request(VERSIONS[0], &long)).await.unwrap();
        }
    });
    let mut late = Request::new(request(VERSIONS[0], &asked()));
    late.set_timeout(Duration::from_nanos(1));
    let status = daemon.predict.predict(late).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    flood.await.unwrap();
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_model_can_have_is_not_pinned() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        listen: Some("127.0.0.1:0".into()),
        data_dir: Some(dir.path().to_owned()),
        pin: Some(vec!["No Model".into()]),
        ..Settings::default()
    };
    let error =
        taxond::server::start(taxond::config::Config::new(settings).unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("pin") && error.contains("No Model"), "{error}");
}
