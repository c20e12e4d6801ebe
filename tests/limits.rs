//! Limits over real sockets: connections, streams, headers, calls a second; and that health stays in reach.

mod support;

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use support::{
    Daemon, http2,
    identities::{self, signed},
    raw,
};
use taxond::{
    config::Settings,
    proto::v1::{self, registry_service_client::RegistryServiceClient},
    server::Address,
};
use tonic::{Code, Request, Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_types::StatusExt as _;

fn tcp(daemon: &Daemon) -> std::net::SocketAddr {
    match &daemon.running.address {
        Address::Tcp(address) => *address,
        Address::Unix(path) => panic!("{}", path.display()),
    }
}

async fn connect(daemon: &Daemon) -> Result<Channel, tonic::transport::Error> {
    Channel::from_shared(format!("http://{}", tcp(daemon))).expect("an address is a URL").connect().await
}

/// A connection that begins with HTTP/2 and then asks nothing.
fn silent(daemon: &Daemon) -> TcpStream {
    let mut stream = TcpStream::connect(tcp(daemon)).expect("the daemon listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket takes a time");
    // The preface and an empty frame of settings. The daemon may hang up meanwhile.
    let _sent = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    stream
}

/// Reads until the daemon hangs up.
fn is_hung_up_on(mut stream: TcpStream) -> bool {
    loop {
        match stream.read(&mut [0; 1024]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// Whether a stream of health is open still: its end is the daemon's stop, which it tells.
async fn outlasts(mut watching: Streaming<HealthCheckResponse>, daemon: Daemon) {
    let stopped = tokio::spawn(daemon.stop());
    let status = watching.message().await.expect("the connection is open").expect("a message").status();
    assert_eq!(status, ServingStatus::NotServing);
    drop(watching);
    stopped.await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_probes_get_in_and_stay_while_others_hold_every_place() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        max_connections: Some(16),
        max_connections_per_peer: Some(16),
        ..identities::settings(dir.path(), &[("ada", "predict", &[])])
    };
    let daemon = Daemon::start_with(dir.path(), settings).await;
    let mut held: Vec<TcpStream> = (0..64).map(|_| silent(&daemon)).collect();
    let client = connect(&daemon).await.expect("a client gets in");
    let mut registry = RegistryServiceClient::new(client.clone());
    registry.list_models(signed("ada", v1::ListModelsRequest::default())).await.expect("it is served");
    let watching = HealthClient::new(client).watch(HealthCheckRequest::default()).await.unwrap();
    let mut watching = watching.into_inner();
    watching.message().await.unwrap().unwrap();
    for _ in 0..4 {
        held.extend((0..64).map(|_| silent(&daemon)));
        let probe = connect(&daemon).await.expect("a probe gets in");
        HealthClient::new(probe).check(HealthCheckRequest::default()).await.expect("it is answered");
    }
    assert!(is_hung_up_on(held.remove(0)), "the oldest made room");
    drop(registry);
    outlasts(watching, daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_makes_room_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { max_connections_per_peer: Some(2), ..Settings::default() };
    let daemon = Daemon::start_with(dir.path(), settings).await;
    // The connection of the daemon's own clients asked nothing yet.
    let first = silent(&daemon);
    let others = [silent(&daemon), silent(&daemon)];
    assert!(is_hung_up_on(first));
    drop(others);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_makes_no_call_is_closed_soon_whatever_may_be_idle() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { first_call_seconds: Some(0.2), idle_seconds: Some(0.0), ..Settings::default() };
    let daemon = Daemon::start_with(dir.path(), settings).await;
    let client = loop {
        // Where the call comes too late, the connection is closed as well.
        let channel = connect(&daemon).await.unwrap();
        let mut health = HealthClient::new(channel);
        if let Ok(watching) = health.watch(HealthCheckRequest::default()).await {
            break watching.into_inner();
        }
    };
    let mut watching = client;
    watching.message().await.unwrap().unwrap();
    assert!(is_hung_up_on(silent(&daemon)));
    outlasts(watching, daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_call_is_closed_and_one_with_a_call_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { idle_seconds: Some(0.2), first_call_seconds: Some(0.0), ..Settings::default() };
    let daemon = Daemon::start_with(dir.path(), settings).await;
    let watched = connect(&daemon).await.unwrap();
    let mut watching =
        HealthClient::new(watched).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watching.message().await.unwrap().unwrap();
    assert!(is_hung_up_on(silent(&daemon)));
    outlasts(watching, daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_bound_models_classes_and_examples() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        max_models: Some(2),
        max_classes: Some(4),
        max_examples: Some(support::texts().len() as u64),
        ..Settings::default()
    };
    let mut daemon = Daemon::start_with(dir.path(), settings).await;
    daemon.create("bank").await;
    daemon.add(support::BANK, support::texts()).await;
    let reason = |status: tonic::Status| {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        status.get_error_details().error_info().unwrap().reason.clone()
    };

    let example = v1::LabelledText { text: "one more".into(), label: "balance".into() };
    let more =
        v1::AddExamplesRequest { model: support::BANK.into(), examples: vec![example], ..Default::default() };
    let refused = daemon.dataset.add_examples(tokio_stream::once(more)).await.unwrap_err();
    assert_eq!(reason(refused), "EXAMPLES");

    support::assert_succeeded(&daemon.train(support::train_request()).await);
    for validate_only in [true, false] {
        let add = v1::AddClassesRequest {
            model: support::BANK.into(),
            names: vec!["loans".into()],
            validate_only,
            ..Default::default()
        };
        let refused = daemon.taxonomy.add_classes(add).await.unwrap_err();
        assert!(refused.message().contains("5 classes"), "{refused}");
        assert_eq!(reason(refused), "CLASSES");
    }
    daemon.merge(v1::Learn::None).await;

    daemon.create("second").await;
    let third = v1::CreateModelRequest { model_id: "third".into(), ..Default::default() };
    let refused = daemon.registry.create_model(third).await.unwrap_err();
    assert_eq!(reason(refused), "MODELS");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_something_else_is_hung_up_on() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(dir.path()).await;
    let mut stream = TcpStream::connect(tcp(&daemon)).unwrap();
    stream.write_all(b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_have_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    let list = |bytes: usize| {
        let mut request = Request::new(v1::ListModelsRequest::default());
        request.metadata_mut().insert("x-note", "n".repeat(bytes).parse().unwrap());
        request
    };
    daemon.registry.list_models(list(8 * 1024)).await.unwrap();
    // Whether the connection lasts is up to HTTP/2; others are served.
    daemon.registry.list_models(list(64 * 1024)).await.unwrap_err();
    let mut other = RegistryServiceClient::new(connect(&daemon).await.unwrap());
    other.list_models(list(8)).await.unwrap();
    drop(other);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_too_often_are_told_when_to_come_again_and_health_is_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    let auth_file = dir.path().join("auth.toml");
    let entry = |name: &str| {
        let hash = blake3::hash(name.as_bytes());
        format!("[[token]]\nname = '{name}'\nhash = '{hash}'\nrole = 'predict'\n")
    };
    fs::write(&auth_file, entry("busy") + &entry("calm")).unwrap();
    // One call a second at most, so that two in a row are too many: were they slower than that, a third follows.
    let settings = Settings { auth_file: Some(auth_file), rate_limit: Some(1), ..Settings::default() };
    let daemon = Daemon::start_with(dir.path(), settings).await;
    let list = async |name| {
        raw::call(&daemon.channel, "/taxond.v1.RegistryService/ListModels", Vec::new(), Some(name)).await
    };
    let refused = loop {
        if let Err(status) = list("busy").await {
            break status;
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "RATE_LIMITED");
    let wait = details.retry_info().and_then(|retry| retry.retry_delay).unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
    list("calm").await.expect("others have their own");
    let mut health = HealthClient::new(daemon.channel.clone());
    for _ in 0..20 {
        health.check(HealthCheckRequest::default()).await.unwrap();
    }
    drop(health);
    daemon.stop().await;
}

/// What a refusal says to programs: its reason, and whether it says when to try again.
fn refusal(status: &tonic::Status) -> (String, bool) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let details = status.get_error_details();
    let reason = details.error_info().expect("a daemon answers so").reason.clone();
    (reason, details.retry_info().is_some_and(|retry| retry.retry_delay.is_some()))
}

/// The value of a counter of refused calls.
async fn refused(daemon: &Daemon, reason: &str) -> u64 {
    let mut stream = TcpStream::connect(daemon.running.metrics.expect("a daemon answers so"))
        .expect("a daemon answers so");
    std::io::Write::write_all(
        &mut stream,
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .expect("a daemon answers so");
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("a daemon answers so");
        text
    });
    let text = text.await.expect("a daemon answers so");
    let line = format!("taxond_refused_calls_total{{reason=\"{reason}\"}} ");
    text.lines()
        .find_map(|found| found.strip_prefix(&line))
        .expect("there is such a counter")
        .parse()
        .expect("a daemon answers so")
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_have_their_number_and_short_calls_are_not_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        max_heavy_calls: Some(1),
        metrics_listen: Some("127.0.0.1:0".into()),
        ..Settings::default()
    };
    let mut daemon = Daemon::start_with(dir.path(), settings).await;
    daemon.create("bank").await;
    daemon.create("other").await;
    let message = |model: &str| {
        let example = v1::LabelledText { text: "one".into(), label: "balance".into() };
        v1::AddExamplesRequest { model: model.into(), examples: vec![example], ..Default::default() }
    };
    let (mut open, full) = loop {
        let mut open = http2::Call::begin(tcp(&daemon), "/taxond.v1.DatasetService/AddExamples", &[]);
        open.message(&message(support::BANK));
        // Once the open one has arrived, there is no room for another; it may also be the one that is refused.
        if let Err(full) = daemon.dataset.add_examples(tokio_stream::once(message("models/other"))).await {
            break (open, full);
        }
    };
    assert_eq!(refusal(&full), ("CALLS_UNDER_WAY".into(), true));
    assert!(refused(&daemon, "CALLS_UNDER_WAY").await >= 1);
    // What computes has a number of its own, and so has what is short.
    let stats = v1::GetStatsRequest { model: "models/other".into(), ..Default::default() };
    daemon.dataset.get_stats(stats).await.unwrap();
    daemon.registry.list_models(v1::ListModelsRequest::default()).await.unwrap();
    open.end();
    loop {
        match daemon.dataset.add_examples(tokio_stream::once(message("models/other"))).await {
            Ok(_) => break,
            Err(full) => assert_eq!(refusal(&full), ("CALLS_UNDER_WAY".into(), true)),
        }
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_have_their_memory_and_give_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        heavy_call_bytes: Some(2 << 20),
        metrics_listen: Some("127.0.0.1:0".into()),
        ..Settings::default()
    };
    let mut daemon = Daemon::start_with(dir.path(), settings).await;
    daemon.create("bank").await;
    daemon.add(support::BANK, support::texts()).await;
    support::assert_succeeded(&daemon.train(support::train_request()).await);
    let suggest = || v1::SuggestMergesRequest { model: support::BANK.into(), limit: 1 };
    for _ in 0..20 {
        daemon.taxonomy.suggest_merges(suggest()).await.unwrap();
    }
    let long = |at: usize| v1::LabelledText {
        text: format!("{at} {}", "word ".repeat(12_000)),
        label: "balance".into(),
    };
    daemon.add(support::BANK, (0..40).map(long).collect()).await;
    let full = daemon.taxonomy.suggest_merges(suggest()).await.unwrap_err();
    // No pause makes room for more than all there is.
    assert_eq!(refusal(&full), ("CALL_MEMORY".into(), false));
    assert_eq!(refused(&daemon, "CALL_MEMORY").await, 1);
    // Nothing of it is held; what keeps less goes on, and so does Predict.
    let stats = v1::GetStatsRequest { model: support::BANK.into(), ..Default::default() };
    assert_eq!(daemon.dataset.get_stats(stats).await.unwrap().into_inner().total, 520);
    daemon.ask(support::BANK, &support::QUESTIONS).await;

    // A version that is too large for them does not come in, and leaves nothing on the disk.
    let file = vec![0; 3 << 20];
    let pieces = file.chunks(1 << 20).map(|data| v1::ImportVersionRequest {
        model: support::BANK.into(),
        data: data.to_vec(),
        ..Default::default()
    });
    let full =
        daemon.registry.import_version(tokio_stream::iter(pieces.collect::<Vec<_>>())).await.unwrap_err();
    assert_eq!(refusal(&full), ("CALL_MEMORY".into(), false));
    assert_eq!(fs::read_dir(dir.path().join("uploads")).unwrap().count(), 0);
    daemon.stop().await;
}
