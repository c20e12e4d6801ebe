//! Clients of a daemon, and what moves its clock.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use taxond::proto::v1::{
    dataset_service_client::DatasetServiceClient, predict_service_client::PredictServiceClient,
    registry_service_client::RegistryServiceClient, taxonomy_service_client::TaxonomyServiceClient,
    training_service_client::TrainingServiceClient,
};
use tonic::transport::Channel;

use super::support::process::Process;

#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) registry: RegistryServiceClient<Channel>,
    pub(crate) dataset: DatasetServiceClient<Channel>,
    pub(crate) taxonomy: TaxonomyServiceClient<Channel>,
    pub(crate) training: TrainingServiceClient<Channel>,
    pub(crate) predict: PredictServiceClient<Channel>,
}

/// A library that moves the wall clock of a process.
pub(crate) struct Clock(PathBuf);

impl Clock {
    /// Compiles the library into a folder.
    pub(crate) fn compile(dir: &Path) -> Self {
        let library = dir.join("clock.so");
        let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
        let rustc: OsString = if rustc.exists() { rustc.into() } else { "rustc".into() };
        let compiled = Command::new(rustc)
            .args(["-O", "--edition", "2024", "--crate-type", "cdylib"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kill/clock.rs"))
            .arg("-o")
            .arg(&library)
            .status()
            .unwrap();
        assert!(compiled.success());
        Self(library)
    }
}

impl Clients {
    pub(crate) async fn of(process: &Process) -> Self {
        let channel = process.connect().await;
        Self {
            registry: RegistryServiceClient::new(channel.clone()),
            dataset: DatasetServiceClient::new(channel.clone()),
            taxonomy: TaxonomyServiceClient::new(channel.clone()),
            training: TrainingServiceClient::new(channel.clone()),
            predict: PredictServiceClient::new(channel),
        }
    }
}

/// Starts with a wall clock that is days ahead of the true one, or behind it. Versions are deleted by age.
pub(crate) fn start_at(folder: &Path, clock: &Clock, days: i64) -> Process {
    let seconds = days * 24 * 60 * 60;
    Process::spawn(
        Process::command(folder)
            .args(["--keep-days", "30"])
            .env("LD_PRELOAD", &clock.0)
            .env("CLOCK_OFFSET_SECONDS", seconds.to_string()),
    )
}
