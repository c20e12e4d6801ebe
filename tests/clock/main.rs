//! A wall clock that jumps deletes nothing, and forgets no receipt: a daemon is started with one that is 400
//! days ahead, and again with the right one.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use support::{BANK, Daemon, QUESTIONS, clock};
use taxond::proto::v1::{
    self, Learn, predict_service_client::PredictServiceClient, registry_service_client::RegistryServiceClient,
};
use tonic::transport::Channel;

const DAYS: i64 = 24 * 60 * 60;

/// `taxond serve` with a clock that is wrong by some seconds.
struct Skewed {
    child: Child,
    channel: Channel,
}

impl Skewed {
    async fn start(dir: &Path, library: &Path, seconds: i64, settings: &str) -> Self {
        let config = dir.join("taxond.toml");
        let data = dir.join("data").display().to_string();
        fs::write(&config, format!("data_dir = {data:?}\ndevice = 'cpu'\n{settings}")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_taxond"))
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .env("LD_PRELOAD", library)
            .env(clock::SKEW, seconds.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap_or_default();
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { child, channel }
    }

    async fn versions(&self) -> Vec<u64> {
        let request = v1::ListVersionsRequest { model: BANK.into(), ..Default::default() };
        let versions = RegistryServiceClient::new(self.channel.clone()).list_versions(request).await.unwrap();
        versions.into_inner().versions.into_iter().map(|version| version.number).collect()
    }

    /// The versions once so many are left.
    async fn left(&self, count: usize) -> Vec<u64> {
        for _ in 0..3000 {
            if self.versions().await.len() <= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.versions().await
    }

    async fn create(&self) -> v1::CreateModelResponse {
        RegistryServiceClient::new(self.channel.clone()).create_model(create()).await.unwrap().into_inner()
    }

    /// Stops in order, and returns the log.
    fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg("-TERM").arg(pid).status().unwrap().success());
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(self.child.wait().unwrap().success(), "{log}");
        log
    }
}

fn create() -> v1::CreateModelRequest {
    v1::CreateModelRequest { model_id: "asked-for".into(), request_id: "once".into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ages_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let library = clock::library(dir.path());
    let mut daemon = Daemon::trained(&dir.path().join("data")).await;
    for _ in 0..3 {
        daemon.merge(Learn::None).await;
        daemon.undo().await;
    }
    daemon.merge(Learn::None).await;
    let created = daemon.registry.create_model(create()).await.unwrap().into_inner();
    let said = daemon.ask(BANK, &QUESTIONS).await;
    daemon.stop().await;

    // One version is too many: once it is gone, the others have been looked at as well.
    let ahead = Skewed::start(dir.path(), &library, 400 * DAYS, "keep_days = 30.0\nkeep_versions = 7").await;
    assert_eq!(ahead.left(7).await, [8, 7, 6, 5, 4, 3, 2]);
    assert_eq!(ahead.create().await, created, "the call was made within a day");
    let log = ahead.stop();
    assert_eq!(log.matches("the clock of this machine went ahead").count(), 1, "{log}");

    // Each jump is one: back again, and to before the first version.
    for (skew, direction) in [(0, "back"), (-4000 * DAYS, "back"), (3 * DAYS, "ahead")] {
        let keep = "keep_days = 2.5\nkeep_versions = 7";
        let jumped = Skewed::start(dir.path(), &library, skew, keep).await;
        assert_eq!(jumped.left(7).await, [8, 7, 6, 5, 4, 3, 2], "by {skew} seconds");
        assert_eq!(jumped.create().await, created, "by {skew} seconds");
        let request = v1::PredictRequest {
            model: BANK.into(),
            texts: QUESTIONS.map(String::from).into(),
            top_k: Some(1000),
            ..Default::default()
        };
        let mut predict = PredictServiceClient::new(jumped.channel.clone());
        assert_eq!(predict.predict(request).await.unwrap().into_inner(), said);
        let log = jumped.stop();
        let told = format!("the clock of this machine went {direction}");
        assert_eq!(log.matches(&told).count(), 1, "{log}");
    }

    // Time that passes counts: three stops of 20 hours, with a clock that is right.
    for (stop, left) in [(1, 7), (2, 7), (3, 2)] {
        let skew = 3 * DAYS + stop * 20 * 3600;
        let keep = "keep_days = 2.4\nkeep_versions = 7";
        let later = Skewed::start(dir.path(), &library, skew, keep).await;
        assert_eq!(later.left(left).await.len(), left, "after stop {stop}");
        let log = later.stop();
        assert!(!log.contains("the clock of this machine went"), "{log}");
    }
}
