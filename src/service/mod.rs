//! The RPCs: each checks its request, makes one call into the domain and converts the answer.

mod admin;
mod author;
mod caller;
mod change;
mod check;
mod convert;
mod correct;
mod dataset;
mod edit;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod history;
mod import;
mod inference;
mod name;
mod page;
mod peer;
mod predict;
mod registry;
mod repeat;
mod size;
mod status;
mod stream;
mod taxonomy;
mod tensor;
mod training;

use std::{pin::Pin, sync::Arc, time::Duration};

pub use caller::{Caller, Identity, Role, Said};
pub use peer::Peer;
pub use repeat::Requests;
pub use status::status;
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::{Status, service::Routes};

use crate::{
    dataset::Dataset,
    error::{Error, Result},
    predict::Predictor,
    proto::{inference::grpc_inference_service_server::GrpcInferenceServiceServer, v1},
    registry::Registry,
    train::Jobs,
};

/// Largest message that a client may send or receive, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Names of the services, as health and reflection know them.
pub const READING: [&str; 3] = [
    <v1::admin_service_server::AdminServiceServer<()> as tonic::server::NamedService>::NAME,
    <v1::predict_service_server::PredictServiceServer<()> as tonic::server::NamedService>::NAME,
    <GrpcInferenceServiceServer<()> as tonic::server::NamedService>::NAME,
];
/// Services whose calls write, which they cannot where the store is read-only.
pub const WRITING: [&str; 4] = [
    <v1::dataset_service_server::DatasetServiceServer<()> as tonic::server::NamedService>::NAME,
    <v1::registry_service_server::RegistryServiceServer<()> as tonic::server::NamedService>::NAME,
    <v1::taxonomy_service_server::TaxonomyServiceServer<()> as tonic::server::NamedService>::NAME,
    <v1::training_service_server::TrainingServiceServer<()> as tonic::server::NamedService>::NAME,
];

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The parts of the daemon that the RPCs call.
#[derive(Debug, Clone)]
pub struct Services {
    /// Models, versions, manifests, jobs.
    pub registry: Arc<Registry>,
    /// Examples.
    pub dataset: Dataset,
    /// Learning and changes of the classes.
    pub jobs: Arc<Jobs>,
    /// Answers.
    pub predictor: Arc<Predictor>,
    /// Turns true when the daemon begins to stop; the sender that is gone means the same.
    pub stopping: watch::Receiver<bool>,
    /// Calls under way that may be repeated.
    pub requests: Requests,
    /// How long a PredictStream may be without a message; for ever where there is none.
    pub stream_idle: Option<Duration>,
}

impl Services {
    /// The six services of the API, and the one of the Open Inference Protocol.
    pub fn routes(self) -> Routes {
        macro_rules! limited {
            ($server:path) => {
                <$server>::new(self.clone())
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES)
            };
        }
        Routes::new(limited!(v1::predict_service_server::PredictServiceServer<Self>))
            .add_service(limited!(v1::training_service_server::TrainingServiceServer<Self>))
            .add_service(limited!(v1::taxonomy_service_server::TaxonomyServiceServer<Self>))
            .add_service(limited!(v1::registry_service_server::RegistryServiceServer<Self>))
            .add_service(limited!(v1::dataset_service_server::DatasetServiceServer<Self>))
            .add_service(limited!(v1::admin_service_server::AdminServiceServer<Self>))
            .add_service(limited!(GrpcInferenceServiceServer<Self>))
    }

    /// Returns when the daemon begins to stop.
    async fn stopped(&self) {
        let mut stopping = self.stopping.clone();
        let _stopped = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Runs work that waits for the disk or computes for long, away from the threads that serve connections.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let services = self.clone();
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(|| work(&services)))
            .await
            .unwrap_or_else(|_| Err(Error::Internal("the call panicked; see the log".into())))
            .map_err(status::status)
    }
}
