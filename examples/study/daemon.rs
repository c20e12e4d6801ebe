//! A daemon in this process, and what a study asks of it.

use std::{error::Error, time::Instant};

use taxond::{
    config::{Config, Settings},
    model::Preset,
    proto::v1::{
        AddExamplesRequest, CreateModelRequest, EvaluateRequest, EvaluateResponse, JobState, LabelledText,
        TrainRequest, UndoChangeRequest, dataset_service_client::DatasetServiceClient, job_event::Event,
        predict_service_client::PredictServiceClient, registry_service_client::RegistryServiceClient,
        taxonomy_service_client::TaxonomyServiceClient, training_service_client::TrainingServiceClient,
    },
    server::{self, Running},
};
use tempfile::TempDir;
use tokio_stream::iter;
use tonic::transport::Channel;

/// Texts of one message.
const MESSAGE: usize = 1000;

/// A running daemon and its clients.
pub(crate) struct Daemon {
    running: Running,
    registry: RegistryServiceClient<Channel>,
    dataset: DatasetServiceClient<Channel>,
    training: TrainingServiceClient<Channel>,
    pub(crate) taxonomy: TaxonomyServiceClient<Channel>,
    pub(crate) predict: PredictServiceClient<Channel>,
}

impl Daemon {
    pub(crate) async fn start(folder: &TempDir) -> Result<Self, Box<dyn Error>> {
        let settings = Settings {
            listen: Some("127.0.0.1:0".into()),
            data_dir: Some(folder.path().to_owned()),
            ..Settings::default()
        };
        let running = server::start(Config::new(settings)?).await?;
        let channel = Channel::from_shared(format!("http://{}", running.address))?.connect().await?;
        Ok(Self {
            running,
            registry: RegistryServiceClient::new(channel.clone()),
            dataset: DatasetServiceClient::new(channel.clone()),
            training: TrainingServiceClient::new(channel.clone()),
            taxonomy: TaxonomyServiceClient::new(channel.clone()),
            predict: PredictServiceClient::new(channel),
        })
    }

    pub(crate) async fn stop(self) -> Result<(), Box<dyn Error>> {
        Ok(self.running.stop().await?)
    }

    /// Makes a model and trains it from scratch; the seconds of the training.
    pub(crate) async fn learn(
        &mut self,
        model: &str,
        texts: &[LabelledText],
        preset: Preset,
        training: TrainRequest,
    ) -> Result<f64, Box<dyn Error>> {
        let preset = match preset {
            Preset::Default => taxond::proto::v1::Preset::Default,
            Preset::Seed => taxond::proto::v1::Preset::Seed,
        };
        let request = CreateModelRequest {
            model_id: model.into(),
            preset: preset.into(),
            ..CreateModelRequest::default()
        };
        self.registry.create_model(request).await?;
        self.add(model, texts).await?;
        let began = Instant::now();
        let request = TrainRequest { model: format!("models/{model}"), ..training };
        let mut events = self.training.train(request).await?.into_inner();
        while let Some(response) = events.message().await? {
            if let Some(Event::Finished(finished)) = response.event.and_then(|event| event.event) {
                let job = finished.job.unwrap_or_default();
                if job.state() != JobState::Succeeded {
                    return Err(format!("{} did not succeed: {}", job.name, job.message).into());
                }
            }
        }
        Ok(began.elapsed().as_secs_f64())
    }

    /// Adds examples; those that are there already are left out.
    pub(crate) async fn add(&mut self, model: &str, texts: &[LabelledText]) -> Result<(), Box<dyn Error>> {
        let message = |examples: &[LabelledText]| AddExamplesRequest {
            model: format!("models/{model}"),
            examples: examples.to_vec(),
            ..AddExamplesRequest::default()
        };
        let messages: Vec<AddExamplesRequest> = texts.chunks(MESSAGE).map(message).collect();
        self.dataset.add_examples(iter(messages)).await?;
        Ok(())
    }

    /// Measures a model or a version.
    pub(crate) async fn evaluate(
        &mut self,
        name: &str,
        texts: &[LabelledText],
    ) -> Result<EvaluateResponse, Box<dyn Error>> {
        let message =
            |examples: &[LabelledText]| EvaluateRequest { model: name.into(), examples: examples.to_vec() };
        let messages: Vec<EvaluateRequest> = texts.chunks(MESSAGE).map(message).collect();
        Ok(self.training.evaluate(iter(messages)).await?.into_inner())
    }

    /// Undoes the latest change of a model.
    pub(crate) async fn undo(&mut self, model: &str) -> Result<(), Box<dyn Error>> {
        let request = UndoChangeRequest { model: format!("models/{model}"), ..UndoChangeRequest::default() };
        self.taxonomy.undo_change(request).await?;
        Ok(())
    }
}
