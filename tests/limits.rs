//! Limits over real sockets: connections, streams, headers, calls a second; and that health stays in reach.

mod support;

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use support::{
    Daemon,
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
