//! TLS over real sockets: whose certificates are taken, on both sides, and how they are exchanged while the daemon runs.

mod support;

use std::{fs, process::Command};

use rcgen::date_time_ymd;
use support::{
    BANK, Daemon, QUESTIONS,
    tls::{Authority, Secured, list},
};
use taxond::{
    config::{Config, Settings},
    proto::v1,
    server,
};
use tonic::transport::{Channel, Endpoint};

#[tokio::test(flavor = "multi_thread")]
async fn clients_trust_the_authority_of_the_daemon_alone() {
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let daemon = Secured::start(&authority.server(), None).await;
    assert!(daemon.serves(&authority, None).await);
    assert!(!daemon.serves(&other, None).await);
    // Nothing is answered in the clear.
    let plain = Channel::from_shared(format!("http://{}", daemon.running.address)).unwrap();
    assert!(match plain.connect().await {
        Ok(channel) => list(channel).await.is_err(),
        Err(_) => true,
    });
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_trusts_the_authority_of_clients_alone() {
    let (ours, clients, other) =
        (Authority::new("ours"), Authority::new("clients"), Authority::new("another"));
    let daemon = Secured::start(&ours.server(), Some(&clients)).await;
    assert!(daemon.serves(&ours, Some(&clients.client("shop"))).await);
    assert!(!daemon.serves(&ours, None).await, "no certificate");
    assert!(!daemon.serves(&ours, Some(&other.client("shop"))).await, "another authority");
    assert!(!daemon.serves(&ours, Some(&clients.server())).await, "a certificate for servers");
    let expired = clients.sign(|params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    assert!(!daemon.serves(&ours, Some(&expired)).await, "expired");
    let early = clients.sign(|params| params.not_before = date_time_ymd(4000, 1, 1));
    assert!(!daemon.serves(&ours, Some(&early)).await, "not valid yet");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_exchanged_while_the_daemon_runs_and_bad_ones_are_not_taken() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let daemon = Secured::start(&old.server(), None).await;
    let open = daemon.connect(&old, None).await.unwrap();
    let put = |name: &str, text: &str| fs::write(daemon.dir.path().join(name), text).unwrap();

    let next = new.server();
    put("tls.crt", &next.cert);
    daemon.running.reload().await;
    assert!(daemon.serves(&old, None).await, "a certificate whose key is not there yet");
    put("tls.crt", "nonsense");
    daemon.running.reload().await;
    assert!(daemon.serves(&old, None).await, "no certificate at all");

    put("tls.crt", &next.cert);
    put("tls.key", &next.key);
    daemon.running.reload().await;
    assert!(daemon.serves(&new, None).await);
    assert!(!daemon.serves(&old, None).await);
    list(open).await.expect("a connection that is open goes on");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_files_keep_the_daemon_from_starting_and_are_named() {
    let authority = Authority::new("ours");
    let (server, other) = (authority.server(), authority.server());
    let dir = tempfile::tempdir().unwrap();
    let settings = Secured::settings(&dir, &server, Some(&authority));
    for (name, text, setting) in [
        ("tls.crt", "", "tls_cert"),
        ("tls.crt", other.cert.as_str(), "tls_cert"),
        ("tls.key", "nonsense", "tls_key"),
        ("clients.crt", "nonsense", "tls_client_ca"),
    ] {
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        let refused = server::start(Config::new(settings.clone()).unwrap()).await.unwrap_err().to_string();
        assert!(refused.starts_with(setting) && refused.contains(name), "{refused}");
        fs::write(&path, whole).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_speaks_tls() {
    let (ours, clients) = (Authority::new("ours"), Authority::new("clients"));
    let daemon = Secured::start(&ours.server(), Some(&clients)).await;
    let client = clients.client("ada");
    let file = |name: &str, text: &str| {
        let path = daemon.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ca, cert, key) =
        (file("ca.pem", &ours.pem), file("ada.crt", &client.cert), file("ada.key", &client.key));
    let address = daemon.running.address.to_string().replace("127.0.0.1", "localhost");
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taxond"));
        command.arg("models").args(arguments).env("TAXOND_ADDR", &address).env("RUST_BACKTRACE", "0");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run(&["--tls-ca", &ca, "--client-cert", &cert, "--client-key", &key]).await;
    assert_eq!(code, 0, "{text}");
    let (code, text) = run(&["--tls-ca", &ca]).await;
    assert_eq!(code, 5, "{text}");
    let (code, text) = run(&["--tls-ca", &ca, "--client-cert", &cert]).await;
    assert!(code == 2 && text.contains("--client-key"), "{code} {text}");
    let (code, text) = run(&["--addr", "https://localhost:1"]).await;
    assert!(code == 2 && text.contains("--tls-ca"), "{code} {text}");
    daemon.stop().await;
}

#[test]
fn what_a_client_shows_is_nothing_to_the_daemon() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taxond"));
    let show =
        command.args(["config", "check", "--data-dir", "data"]).env("TAXOND_CLIENT_CERT", "/not/there");
    let output = show.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unix_socket_needs_no_certificate() {
    let dir = tempfile::tempdir().unwrap();
    Daemon::trained(dir.path()).await.stop().await;
    let (authority, socket) = (Authority::new("ours"), dir.path().join("taxond.sock"));
    let settings = Settings {
        data_dir: Some(dir.path().to_owned()),
        unix_socket: Some(socket.clone()),
        ..Secured::settings(&dir, &authority.server(), Some(&authority))
    };
    let running = server::start(Config::new(settings).unwrap()).await.unwrap();
    let channel = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
    let mut predict = v1::predict_service_client::PredictServiceClient::new(channel.connect().await.unwrap());
    let texts = QUESTIONS.map(String::from).into();
    let request = v1::PredictRequest { model: BANK.into(), texts, ..Default::default() };
    assert_eq!(predict.predict(request).await.unwrap().into_inner().predictions.len(), QUESTIONS.len());
    drop(predict);
    running.stop().await.unwrap();
}
