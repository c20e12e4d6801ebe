//! Metrics and probes over HTTP, and that the table of docs/operations.md names what is there.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use support::{BANK, Daemon, QUESTIONS, train_request};
use taxond::{config::Settings, proto::v1};

fn measured() -> Settings {
    Settings { metrics_listen: Some("127.0.0.1:0".into()), ..Settings::default() }
}

/// The status line and the body.
async fn get(address: SocketAddr, path: &'static str) -> (String, String) {
    let ask = move || {
        let mut stream = TcpStream::connect(address).expect("the port is open");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("it listens");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer is text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head ends");
        (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
    };
    tokio::task::spawn_blocking(ask).await.expect("asking does not panic")
}

/// The samples, by name and labels.
async fn scrape(daemon: &Daemon) -> BTreeMap<String, f64> {
    let (status, text) = get(daemon.running.metrics.expect("metrics are on"), "/metrics").await;
    assert!(status.contains("200"), "{status}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
            (name.to_owned(), value.parse().expect("a value is a number"))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start_with(dir.path(), measured()).await;
    let before = scrape(&daemon).await;
    assert_eq!((before["taxond_models"], before["taxond_version_swaps_total"]), (0.0, 0.0));
    daemon.create("bank").await;
    daemon.add(BANK, support::texts()).await;
    support::assert_succeeded(&daemon.train(train_request()).await);
    daemon.ask(BANK, &QUESTIONS).await;
    let missing = v1::GetModelRequest { name: "models/none".into() };
    daemon.registry.get_model(missing).await.unwrap_err();

    // The end of an answer and its batch are counted a moment after the client has it.
    let done = r#"taxond_rpcs_total{rpc="/taxond.v1.PredictService/Predict",code="OK"}"#;
    let after = loop {
        let found = scrape(&daemon).await;
        if found.contains_key(done) && found["taxond_predict_batch_texts_sum"] > 0.0 {
            break found;
        }
    };
    let is = |name: &str, value: f64| assert_eq!(after.get(name), Some(&value), "{name} of {after:#?}");
    is(done, 1.0);
    is(r#"taxond_rpcs_total{rpc="/taxond.v1.TrainingService/Train",code="OK"}"#, 1.0);
    is(r#"taxond_rpcs_total{rpc="/taxond.v1.RegistryService/GetModel",code="NOT_FOUND"}"#, 1.0);
    is(r#"taxond_rpc_seconds_count{rpc="/taxond.v1.PredictService/Predict"}"#, 1.0);
    is("taxond_predict_batch_texts_sum", QUESTIONS.len() as f64);
    is(r#"taxond_predict_batch_texts_bucket{le="+Inf"}"#, after["taxond_predict_batch_texts_count"]);
    is("taxond_predict_queue_texts", 0.0);
    is("taxond_jobs_running", 0.0);
    is("taxond_store_writable", 1.0);
    assert!(after["taxond_version_swaps_total"] >= 1.0 && after["taxond_model_cache_loads_total"] >= 1.0);
    assert!(after["taxond_model_cache_hits_total"] >= 1.0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_that_runs_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    Daemon::with_examples(dir.path()).await.stop().await;
    let mut daemon = Daemon::start_with(dir.path(), measured()).await;
    let mut events = daemon.training.train(support::long_train_request()).await.unwrap().into_inner();
    let job = events.message().await.unwrap().unwrap().event.unwrap().job;
    loop {
        let found = scrape(&daemon).await;
        let loss = found.get(r#"taxond_training_loss{model="bank"}"#);
        if loss.is_some_and(|loss| *loss > 0.0) {
            assert_eq!((found["taxond_jobs_running"], found["taxond_jobs_queued"]), (1.0, 0.0));
            assert!(found.contains_key(r#"taxond_training_examples_per_second{model="bank"}"#));
            break;
        }
    }
    daemon.training.cancel_job(v1::CancelJobRequest { name: job }).await.unwrap();
    while events.message().await.unwrap().is_some() {}
    assert!(!scrape(&daemon).await.contains_key(r#"taxond_training_loss{model="bank"}"#));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_and_refusals_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    Daemon::trained(dir.path()).await.stop().await;
    let auth_file = dir.path().join("auth.toml");
    fs::write(&auth_file, "[[user]]\nname = 'ada'\nuid = 7\nrole = 'admin'").unwrap();
    let settings = Settings { auth_file: Some(auth_file), ..measured() };
    let mut daemon = Daemon::start_with(dir.path(), settings).await;
    daemon.registry.list_models(v1::ListModelsRequest::default()).await.unwrap_err();
    let found = scrape(&daemon).await;
    assert_eq!((found["taxond_models"], found["taxond_versions"]), (1.0, 1.0));
    assert!(found["taxond_data_bytes"] > 10_000.0);
    assert_eq!(found[r#"taxond_refused_calls_total{reason="NO_CREDENTIALS"}"#], 1.0);
    let refused = r#"taxond_rpcs_total{rpc="/taxond.v1.RegistryService/ListModels",code="UNAUTHENTICATED"}"#;
    assert_eq!(found[refused], 1.0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_answer_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_with(dir.path(), measured()).await;
    let address = daemon.running.metrics.unwrap();
    for (path, code) in [("/healthz", "200"), ("/readyz", "200"), ("/", "404"), ("/models", "404")] {
        let (status, _) = get(address, path).await;
        assert!(status.contains(code), "{path}: {status}");
    }
    let silent = TcpStream::connect(address).unwrap();
    daemon.stop().await;
    assert!(TcpStream::connect(address).is_err(), "the port is closed with the daemon");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_the_documentation_is_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_with(dir.path(), measured()).await;
    let (_, text) = get(daemon.running.metrics.unwrap(), "/metrics").await;
    let printed: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            format!("{name}{} {kind}", if kind == "counter" { "_total" } else { "" })
        })
        .collect();
    let documented: BTreeSet<String> = include_str!("../docs/operations.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `taxond_"))
        .map(|line| {
            let mut cells = line.split('|').map(str::trim);
            let name = cells.next().unwrap().trim_end_matches('`');
            format!("taxond_{name} {}", cells.next().unwrap())
        })
        .collect();
    assert_eq!(printed, documented);
    daemon.stop().await;
}

#[test]
fn dashboard_and_alerts_ask_only_for_what_there_is() {
    let documented: BTreeSet<&str> = include_str!("../docs/operations.md")
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| `")?.split('`').next().filter(|name| name.starts_with("taxond_"))
        })
        .collect();
    for (name, text) in [
        ("the dashboard", include_str!("../deploy/grafana/taxond.json")),
        ("the alerts", include_str!("../deploy/prometheus/rules.yaml")),
    ] {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let asked: BTreeSet<&str> = words.filter(|word| word.starts_with("taxond_")).collect();
        assert!(asked.len() > 4, "{asked:?}");
        for metric in asked {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| metric.strip_suffix(part));
            assert!(documented.contains(base.unwrap_or(metric)), "{name} asks for {metric}");
        }
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../deploy/grafana/taxond.json")).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() >= documented.len() / 2);
}
