//! Clients of a daemon, and what moves its clock.

use std::path::Path;

use taxond::proto::v1::{
    dataset_service_client::DatasetServiceClient, predict_service_client::PredictServiceClient,
    registry_service_client::RegistryServiceClient, taxonomy_service_client::TaxonomyServiceClient,
    training_service_client::TrainingServiceClient,
};
use tonic::transport::Channel;

use super::support::{clock, process::Process};

#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) registry: RegistryServiceClient<Channel>,
    pub(crate) dataset: DatasetServiceClient<Channel>,
    pub(crate) taxonomy: TaxonomyServiceClient<Channel>,
    pub(crate) training: TrainingServiceClient<Channel>,
    pub(crate) predict: PredictServiceClient<Channel>,
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
pub(crate) fn start_at(folder: &Path, library: &Path, days: i64) -> Process {
    let seconds = days * 24 * 60 * 60;
    Process::spawn(
        Process::command(folder)
            .args(["--keep-days", "30"])
            .env("LD_PRELOAD", library)
            .env(clock::SKEW, seconds.to_string()),
    )
}
