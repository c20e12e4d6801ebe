//! A daemon in this process, and what a study asks of it.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use taxond::{
    config::{Config, Settings},
    model::Preset,
    proto::v1::{
        AddExamplesRequest, CreateModelRequest, EvaluateRequest, EvaluateResponse, JobState, LabelledText,
        ListExamplesRequest, SuggestSplitsRequest, SuggestSplitsResponse, TrainRequest, UndoChangeRequest,
        VersionPublished, dataset_service_client::DatasetServiceClient, job_event::Event,
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

/// How long what the encoder makes of the examples may take to be kept after a training.
const KEPT_WITHIN: Duration = Duration::from_secs(120);

/// A running daemon and its clients.
pub(crate) struct Daemon {
    running: Running,
    /// Where it keeps what encoders make of examples, a file for each.
    features: PathBuf,
    /// Models that have learnt.
    learnt: usize,
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
            features: folder.path().join("features"),
            learnt: 0,
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

    /// Makes a model and trains it from scratch; the seconds of the training. Returns when the daemon also keeps what the encoder
    /// makes of the examples, or did not for long.
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
        self.train(model, training).await?;
        let ended = Instant::now();
        self.learnt += 1;
        while self.kept() < self.learnt && ended.elapsed() < KEPT_WITHIN {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok((ended - began).as_secs_f64())
    }

    /// Encoders of which it keeps what they make of the examples.
    fn kept(&self) -> usize {
        let files = fs::read_dir(&self.features).into_iter().flatten().flatten();
        files.filter(|file| file.path().extension().is_none()).count()
    }

    /// Trains a model; what was published on the way, each with the moment.
    pub(crate) async fn train(
        &mut self,
        model: &str,
        training: TrainRequest,
    ) -> Result<Vec<(VersionPublished, Instant)>, Box<dyn Error>> {
        let request = TrainRequest { model: format!("models/{model}"), ..training };
        let mut events = self.training.train(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(response) = events.message().await? {
            match response.event.and_then(|event| event.event) {
                Some(Event::Published(published)) => all.push((published, Instant::now())),
                Some(Event::Finished(finished)) => {
                    let job = finished.job.unwrap_or_default();
                    if job.state() != JobState::Succeeded {
                        return Err(format!("{} did not succeed: {}", job.name, job.message).into());
                    }
                }
                _ => {}
            }
        }
        Ok(all)
    }

    /// The texts of a model, by id.
    pub(crate) async fn texts(&mut self, model: &str) -> Result<BTreeMap<u64, String>, Box<dyn Error>> {
        let (mut texts, mut page_token) = (BTreeMap::new(), String::new());
        loop {
            let request = ListExamplesRequest {
                model: format!("models/{model}"),
                page_size: MESSAGE as u32,
                page_token,
                ..ListExamplesRequest::default()
            };
            let page = self.dataset.list_examples(request).await?.into_inner();
            texts.extend(page.examples.into_iter().map(|example| (example.id, example.text)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(texts);
            }
        }
    }

    /// All classes of a model whose examples form two clusters.
    pub(crate) async fn suggest_splits(
        &mut self,
        model: &str,
    ) -> Result<SuggestSplitsResponse, Box<dyn Error>> {
        let request = SuggestSplitsRequest { model: format!("models/{model}"), limit: MESSAGE as u32 };
        Ok(self.taxonomy.suggest_splits(request).await?.into_inner())
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
