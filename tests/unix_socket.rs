//! The unix socket: beside TCP or alone, its file, and what stands in its way.
#![cfg(unix)]

mod support;

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::Path,
    process::Command,
};

use support::{BANK, Daemon, QUESTIONS};
use taxond::{
    config::{Config, Settings},
    proto::v1::{
        self, predict_service_client::PredictServiceClient, registry_service_client::RegistryServiceClient,
        taxonomy_service_client::TaxonomyServiceClient,
    },
    server::{self, Address},
};
use tonic::transport::{Channel, Endpoint};

fn socket_at(path: &Path) -> Settings {
    Settings { unix_socket: Some(path.to_owned()), ..Settings::default() }
}

async fn connect(path: &Path) -> Channel {
    let endpoint = Endpoint::from_shared(format!("unix://{}", path.display())).expect("a path is an address");
    endpoint.connect().await.expect("the daemon listens on the socket")
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_and_the_socket_serve_the_same_daemon() {
    let dir = tempfile::tempdir().unwrap();
    Daemon::trained(dir.path()).await.stop().await;
    let path = dir.path().join("run/taxond.sock");
    let mut daemon = Daemon::start_with(dir.path(), socket_at(&path)).await;
    let addresses: Vec<String> = daemon.running.addresses.iter().map(Address::to_string).collect();
    assert_eq!(addresses, [daemon.running.address.to_string(), format!("unix://{}", path.display())]);

    let channel = connect(&path).await;
    let request = v1::PredictRequest {
        model: BANK.into(),
        texts: QUESTIONS.map(String::from).into(),
        top_k: Some(1000),
        ..Default::default()
    };
    let answer = PredictServiceClient::new(channel.clone()).predict(request).await.unwrap().into_inner();
    assert_eq!(answer, daemon.ask(BANK, &QUESTIONS).await);

    // Who says nothing of itself is known by its user.
    let mut taxonomy = TaxonomyServiceClient::new(channel);
    let rename = v1::RenameClassRequest {
        model: BANK.into(),
        class_name: "balance".into(),
        new_name: "how much".into(),
        ..Default::default()
    };
    let manifest = taxonomy.rename_class(rename).await.unwrap().into_inner().manifest.unwrap();
    assert_eq!(manifest.author, format!("uid {}", fs::metadata(&path).unwrap().uid()));
    drop(taxonomy);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_its_owners_and_goes_with_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/run/taxond.sock");
    let daemon = Daemon::start_with(dir.path(), socket_at(&path)).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o660, 0o700));
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    daemon.stop().await;
    while path.exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_was_left_behind_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("taxond.sock");
    drop(UnixListener::bind(&path).unwrap());
    let daemon = Daemon::start_with(&dir.path().join("data"), socket_at(&path)).await;
    let mut registry = RegistryServiceClient::new(connect(&path).await);
    registry.list_models(v1::ListModelsRequest::default()).await.unwrap();
    drop(registry);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_in_use_and_other_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let start = |path: &Path| {
        let settings = Settings {
            listen: Some("none".into()),
            data_dir: Some(dir.path().join("data")),
            ..socket_at(path)
        };
        server::start(Config::new(settings).unwrap())
    };
    let used = dir.path().join("used.sock");
    let _other = UnixListener::bind(&used).unwrap();
    let refused = start(&used).await.unwrap_err().to_string();
    assert!(refused.contains("used.sock"), "{refused}");
    assert!(used.exists());

    let file = dir.path().join("notes.txt");
    fs::write(&file, "mine").unwrap();
    let refused = start(&file).await.unwrap_err().to_string();
    assert!(refused.starts_with("unix_socket") && refused.contains("notes.txt"), "{refused}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_takes_the_address_of_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("taxond.sock");
    let settings =
        Settings { listen: Some("none".into()), data_dir: Some(dir.path().join("data")), ..socket_at(&path) };
    let running = server::start(Config::new(settings).unwrap()).await.unwrap();
    assert_eq!(running.address, Address::Unix(path));
    let address = running.address.to_string();
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taxond"));
        command.args(["--addr", &address, "--json", "create", "bank"]).output().unwrap()
    })
    .await
    .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("models/bank"), "{out}{err}");
    running.stop().await.unwrap();
}
