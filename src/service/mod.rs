//! The RPCs: each checks its request, makes one call into the domain and converts the answer.

mod admin;
mod author;
mod background;
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
mod page_token;
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

pub use background::BackgroundThreads;
use background::Priority;
pub use caller::{Caller, Identity, Role, Said};
pub use page_token::PageTokens;
pub use peer::Peer;
pub use repeat::Requests;
pub use status::{MODEL_TYPE, status};
pub use stream::BodyEnd;
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::{Status, service::Routes};

use crate::{
    admission::Admitted,
    cancel::{Cancellation, Shutdown},
    dataset::Dataset,
    error::{Error, Resource, Result},
    predict::Predictor,
    proto::{inference::grpc_inference_service_server::GrpcInferenceServiceServer, v1},
    registry::{ModelId, Registry},
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

tokio::task_local! {
    /// The admission of the call that a task is about, which the work for it keeps.
    static ADMITTED: Option<Arc<Admitted>>;
}

/// Handles a call whose work keeps its admission until it has ended, also where the client left before.
pub fn admitted<F: Future>(admitted: Option<Arc<Admitted>>, call: F) -> impl Future<Output = F::Output> {
    ADMITTED.scope(admitted, call)
}

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
    /// Where lists go on.
    pub pages: PageTokens,
    /// Ends the work for calls.
    pub shutdown: Shutdown,
    /// Whether the work for this call shall go on.
    pub cancel: Cancellation,
    /// Where the work for calls that take long runs.
    pub background: Arc<BackgroundThreads>,
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

    /// Resource name of the model that an identity may see and whose name is nearest to one that does not exist.
    pub fn nearest_model(&self, identity: &Identity, missing: &str) -> Option<String> {
        let id = ModelId::new(missing.strip_prefix("models/")?).ok()?;
        // A hint is no reason to tell of damage.
        let nearest = self.registry.nearest_model(&id, |other| identity.sees(other)).ok()?;
        nearest.map(|id| id.name())
    }

    /// The error of a stream, with the name that was probably meant where it is that a model was not found. Calls that answer at
    /// once get it from the server.
    async fn hinted(&self, caller: &Caller, error: Error) -> Error {
        let Error::NotFound { resource: Resource::Model, name, suggestion: None } = error else {
            return error;
        };
        let (services, caller, missing) = (self.clone(), caller.clone(), name.clone());
        let nearest =
            tokio::task::spawn_blocking(move || services.nearest_model(caller.identity(), &missing)).await;
        // Without a hint the error is right as well.
        Error::NotFound { resource: Resource::Model, name, suggestion: nearest.unwrap_or_default() }
    }

    /// Returns when the daemon begins to stop.
    async fn stopped(&self) {
        let mut stopping = self.stopping.clone();
        let _stopped = stopping.wait_for(|stopping| *stopping).await;
    }

    /// What the work for the call of this task asks.
    fn cancellation(&self) -> Cancellation {
        self.shutdown.call(ADMITTED.try_with(Clone::clone).ok().flatten())
    }

    /// Runs work that waits for the disk or computes for long, away from the threads that serve connections, at the priority of
    /// the call.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let takes_long = |admitted: &Option<Arc<Admitted>>| {
            admitted.as_ref().is_some_and(|admitted| admitted.effort().takes_long())
        };
        let priority = match ADMITTED.try_with(takes_long) {
            Ok(true) => Priority::Background,
            Ok(false) | Err(_) => Priority::Normal,
        };
        self.blocking_at(priority, work).await
    }

    /// As [`blocking`](Self::blocking), at a priority.
    async fn blocking_at<T: Send + 'static>(
        &self,
        priority: Priority,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let cancel = self.cancellation();
        let on_drop = cancel.cancel_on_drop();
        let services = Self { dataset: self.dataset.until(cancel.clone()), cancel, ..self.clone() };
        let (span, running) = (tracing::Span::current(), self.shutdown.begin_work());
        let work = move || {
            let _running = running;
            span.in_scope(|| {
                // It may have waited for a thread.
                services.cancel.check()?;
                work(&services)
            })
        };
        let outcome = self.background.spawn(priority, work).await;
        on_drop.disarm();
        outcome
            .unwrap_or_else(|_| Err(Error::Internal("the call panicked; see the log".into())))
            .map_err(status::status)
    }
}
