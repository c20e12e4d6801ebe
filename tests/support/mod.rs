//! A daemon in this process on a free port, clients of it, and a small data set that trains in about a second.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by test files, each of which uses a part"
)]

pub mod clock;
pub mod http2;
pub mod identities;
pub mod process;
pub mod raw;
pub mod tls;

use std::path::Path;

use taxond::{
    config::{Config, Settings},
    proto::v1::{
        self, AddExamplesRequest, CreateModelRequest, JobEvent, LabelledText, MergeClassesRequest,
        PredictRequest, Prediction, TrainRequest, UndoChangeRequest,
        dataset_service_client::DatasetServiceClient, job_event::Event, merge_classes_response,
        predict_service_client::PredictServiceClient, registry_service_client::RegistryServiceClient,
        taxonomy_service_client::TaxonomyServiceClient, training_service_client::TrainingServiceClient,
    },
    server::{self, Running},
};
use tonic::{Streaming, transport::Channel};

/// The model that the tests use.
pub const BANK: &str = "models/bank";
/// Texts to ask about, one of each class of [`texts`].
pub const QUESTIONS: [&str; 4] =
    ["take out 15000 in cash", "take out 30000 in cash", "what is my balance now", "my card is lost"];

/// Labelled texts of four classes, of which the two withdrawals are easily confused.
pub fn texts() -> Vec<LabelledText> {
    let openings = ["", "please ", "hello, ", "can you help me: ", "hi there, ", "i would like to ask: "];
    let endings = ["", " thanks", " today", " as soon as possible", " at the branch"];
    let bodies = [
        (
            "withdraw under 20k",
            ["take out 5000 in cash", "withdraw 15000 yuan", "取款 八千 元", "get 19000 in cash"],
        ),
        (
            "withdraw over 20k",
            ["take out 50000 in cash", "withdraw 25000 yuan", "取款 三万 元", "get 21000 in cash"],
        ),
        (
            "balance",
            ["what is my balance", "how much money do i have", "查一下 余额", "show my account balance"],
        ),
        ("card lost", ["i lost my card", "my card was stolen", "卡 丢 了", "block my card, it is gone"]),
    ];
    let mut texts = Vec::new();
    for (label, bodies) in bodies {
        for opening in openings {
            for body in bodies {
                for ending in endings {
                    texts
                        .push(LabelledText { text: format!("{opening}{body}{ending}"), label: label.into() });
                }
            }
        }
    }
    texts
}

/// A running daemon and its clients.
pub struct Daemon {
    pub running: Running,
    pub channel: Channel,
    pub registry: RegistryServiceClient<Channel>,
    pub dataset: DatasetServiceClient<Channel>,
    pub training: TrainingServiceClient<Channel>,
    pub taxonomy: TaxonomyServiceClient<Channel>,
    pub predict: PredictServiceClient<Channel>,
}

impl Daemon {
    /// Starts a daemon over a data folder.
    pub async fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, Settings::default()).await
    }

    /// Starts a daemon over a data folder with other settings.
    pub async fn start_with(data_dir: &Path, settings: Settings) -> Self {
        let settings = Settings {
            listen: Some("127.0.0.1:0".into()),
            data_dir: Some(data_dir.to_owned()),
            drain_seconds: Some(5.0),
            ..settings
        };
        let running = server::start(Config::new(settings).unwrap()).await.unwrap();
        let address = format!("http://{}", running.address);
        let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
        Self {
            running,
            registry: RegistryServiceClient::new(channel.clone()),
            dataset: DatasetServiceClient::new(channel.clone()),
            training: TrainingServiceClient::new(channel.clone()),
            taxonomy: TaxonomyServiceClient::new(channel.clone()),
            predict: PredictServiceClient::new(channel.clone()),
            channel,
        }
    }

    /// Starts a daemon whose model `bank` holds the small data set.
    pub async fn with_examples(data_dir: &Path) -> Self {
        let mut daemon = Self::start(data_dir).await;
        daemon.create("bank").await;
        daemon.add(BANK, texts()).await;
        daemon
    }

    /// Starts a daemon whose model `bank` is trained.
    pub async fn trained(data_dir: &Path) -> Self {
        let mut daemon = Self::with_examples(data_dir).await;
        let events = daemon.train(train_request()).await;
        assert_succeeded(&events);
        daemon
    }

    /// Stops the daemon in order.
    pub async fn stop(self) {
        let Self { running, channel, registry, dataset, training, taxonomy, predict } = self;
        drop((channel, registry, dataset, training, taxonomy, predict));
        running.stop().await.unwrap();
    }

    pub async fn create(&mut self, id: &str) -> v1::Model {
        let request = CreateModelRequest { model_id: id.into(), ..Default::default() };
        self.registry.create_model(request).await.unwrap().into_inner().model.unwrap()
    }

    pub async fn add(&mut self, model: &str, examples: Vec<LabelledText>) -> v1::AddExamplesResponse {
        let request = AddExamplesRequest { model: model.into(), examples, ..Default::default() };
        self.dataset.add_examples(tokio_stream::once(request)).await.unwrap().into_inner()
    }

    /// Trains and returns all events.
    pub async fn train(&mut self, request: TrainRequest) -> Vec<JobEvent> {
        let mut stream = self.training.train(request).await.unwrap().into_inner();
        let mut events = Vec::new();
        while let Some(response) = stream.message().await.unwrap() {
            events.push(response.event.unwrap());
        }
        events
    }

    /// Merges the two withdrawals; returns the change and the stream that goes on.
    pub async fn merge(
        &mut self,
        learn: v1::Learn,
    ) -> (v1::ChangeApplied, Streaming<v1::MergeClassesResponse>) {
        let request = merge_request(learn);
        let mut stream = self.taxonomy.merge_classes(request).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap().result.unwrap();
        let merge_classes_response::Result::Applied(applied) = first else {
            panic!("not applied: {first:?}")
        };
        (applied, stream)
    }

    pub async fn undo(&mut self) -> v1::UndoChangeResponse {
        let request = UndoChangeRequest { model: BANK.into(), ..Default::default() };
        self.taxonomy.undo_change(request).await.unwrap().into_inner()
    }

    /// Asks a version, or `models/bank`, about texts, for all classes.
    pub async fn ask(&mut self, model: &str, texts: &[&str]) -> v1::PredictResponse {
        let request = PredictRequest {
            model: model.into(),
            texts: texts.iter().map(|text| (*text).into()).collect(),
            top_k: Some(1000),
            ..Default::default()
        };
        self.predict.predict(request).await.unwrap().into_inner()
    }

    pub async fn job(&mut self, name: &str) -> v1::Job {
        let request = v1::GetJobRequest { name: name.into() };
        self.training.get_job(request).await.unwrap().into_inner().job.unwrap()
    }
}

/// A training of the small data set.
pub fn train_request() -> TrainRequest {
    TrainRequest { model: BANK.into(), epochs: Some(4), ..Default::default() }
}

/// A training that takes long enough to be interfered with.
pub fn long_train_request() -> TrainRequest {
    TrainRequest { model: BANK.into(), epochs: Some(1000), ..Default::default() }
}

pub fn merge_request(learn: v1::Learn) -> MergeClassesRequest {
    MergeClassesRequest {
        model: BANK.into(),
        classes: vec!["withdraw under 20k".into(), "withdraw over 20k".into()],
        into: "withdraw".into(),
        learn: learn.into(),
        ..Default::default()
    }
}

/// Probability of a class.
pub fn probability(prediction: &Prediction, class: &str) -> f64 {
    prediction.classes.iter().find(|scored| scored.name == class).map(|scored| scored.probability).unwrap()
}

/// The job at the end of its events.
pub fn finished(events: &[JobEvent]) -> v1::Job {
    match events.last().and_then(|event| event.event.clone()) {
        Some(Event::Finished(finished)) => finished.job.unwrap(),
        other => panic!("the last event is {other:?}"),
    }
}

pub fn assert_succeeded(events: &[JobEvent]) {
    let job = finished(events);
    assert_eq!(job.state(), v1::JobState::Succeeded, "{}", job.message);
}
