//! Nothing that the daemon acknowledged is lost, whenever it is killed: clients change models over the wire, the process is killed,
//! and after a restart each model is as the last acknowledged call left it, or as the call left it that was not answered any more.
//! That call is then repeated with its request id, and must have been done once.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod oracle;
#[path = "../support/mod.rs"]
mod support;

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use oracle::{Call, LABELS, Seen, State};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use taxond::proto::v1::{
    self, LabelledText, dataset_service_client::DatasetServiceClient,
    predict_service_client::PredictServiceClient, registry_service_client::RegistryServiceClient,
    taxonomy_service_client::TaxonomyServiceClient, training_service_client::TrainingServiceClient,
};
use tonic::{Code, transport::Channel};

/// How often the daemon is killed, and what the chance comes from; the long form sets more.
const KILLS: (&str, u64) = ("TAXOND_TEST_KILLS", 100);
const SEED: (&str, u64) = ("TAXOND_TEST_SEED", 1);
/// Models that are changed side by side, each by a client of its own.
const MODELS: usize = 4;

fn number((variable, default): (&str, u64)) -> u64 {
    env::var(variable).map_or(default, |number| number.parse().expect("a number"))
}

/// The daemon as a process.
struct Process {
    child: Child,
    address: String,
}

#[derive(Clone)]
pub(crate) struct Clients {
    registry: RegistryServiceClient<Channel>,
    dataset: DatasetServiceClient<Channel>,
    taxonomy: TaxonomyServiceClient<Channel>,
    training: TrainingServiceClient<Channel>,
    predict: PredictServiceClient<Channel>,
}

/// A client's model, by what was acknowledged, and the call that was not answered any more.
struct Client {
    id: String,
    known: Seen,
    unanswered: Option<(Call, String)>,
    calls: u64,
    rng: ChaCha8Rng,
}

impl Process {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_taxond"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--keep-versions",
                "0",
                "--device",
                "cpu",
                "--log",
                "warn",
            ])
            .arg("--data-dir")
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("it starts").unwrap();
        let address = format!("http://{}", line.strip_prefix("listening on ").unwrap());
        Self { child, address }
    }

    async fn clients(&self) -> Clients {
        let channel = Channel::from_shared(self.address.clone()).unwrap().connect().await.unwrap();
        Clients {
            registry: RegistryServiceClient::new(channel.clone()),
            dataset: DatasetServiceClient::new(channel.clone()),
            taxonomy: TaxonomyServiceClient::new(channel.clone()),
            training: TrainingServiceClient::new(channel.clone()),
            predict: PredictServiceClient::new(channel),
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Client {
    fn new(number: usize, seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed * 1000 + number as u64);
        Self { id: format!("bank-{number}"), known: None, unanswered: None, calls: 0, rng }
    }

    /// A call that is right for the model as it is.
    fn next(&mut self) -> Call {
        let Some(state) = &self.known else { return Call::Create };
        match (state.latest_version, &state.classes) {
            (0, _) => return Call::Import,
            (_, None) => return Call::Promote,
            _ => {}
        }
        let merged = state.classes.as_ref().is_some_and(|(_, names)| names.len() < LABELS.len());
        let rng = &mut self.rng;
        let part = format!("number {}", rng.random_range(0..=self.calls));
        match rng.random_range(0..100) {
            0..40 => {
                let texts = (0..rng.random_range(1..20)).map(|at| LabelledText {
                    text: format!("text {at} number {}", self.calls),
                    label: LABELS[rng.random_range(0..LABELS.len())].into(),
                });
                Call::Add(texts.collect())
            }
            40..55 => Call::Relabel { part, label: LABELS[rng.random_range(0..LABELS.len())] },
            55..65 => Call::Remove { part },
            65..85 if merged => Call::Undo,
            65..85 => Call::Merge,
            85..98 => Call::Canary(rng.random_range(1..=state.latest_version)),
            _ => Call::Delete,
        }
    }

    /// Calls until the daemon answers no more, and returns how many calls it acknowledged.
    async fn call(&mut self, mut clients: Clients, file: &[u8]) -> u64 {
        let mut acknowledged = 0;
        loop {
            let call = self.next();
            self.calls += 1;
            let request_id = format!("{}-{}", self.id, self.calls);
            match call.make(&mut clients, file, &self.id, &request_id).await {
                Ok(()) => self.known = call.done_to(&self.known),
                // Which of these a cut connection is depends on where it was cut.
                Err(status)
                    if matches!(
                        status.code(),
                        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
                    ) =>
                {
                    self.unanswered = Some((call, request_id));
                    return acknowledged;
                }
                Err(status) => panic!("{}: {call:?}: {status}", self.id),
            }
            acknowledged += 1;
        }
    }

    /// Compares with what there is after a restart.
    async fn compare(&mut self, clients: &mut Clients, file: &[u8], moment: &str) {
        let found = State::read(clients, &self.id).await;
        let Some((call, request_id)) = self.unanswered.take() else {
            assert_eq!(found, self.known, "{moment}, {}", self.id);
            return;
        };
        let done = call.done_to(&self.known);
        assert!(
            found == self.known || found == done,
            "{moment}, {}: {call:?} is half done\nbefore {:?}\nfound {found:?}",
            self.id,
            self.known
        );
        let repeated = call.make(clients, file, &self.id, &request_id).await;
        repeated.unwrap_or_else(|status| panic!("{moment}, {}: {call:?} repeated: {status}", self.id));
        assert_eq!(State::read(clients, &self.id).await, done, "{moment}, {}: {call:?} repeated", self.id);
        self.known = done;
    }
}

/// A trained version as a file, and in the folder a model that is trained over and over.
async fn prepared(folder: &Path) -> Vec<u8> {
    let mut daemon = support::Daemon::trained(folder).await;
    let request = v1::ExportVersionRequest { name: "models/bank/versions/1".into() };
    let mut stream = daemon.registry.export_version(request).await.unwrap().into_inner();
    let mut file = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        file.extend(message.data);
    }
    daemon.stop().await;
    file
}

/// All versions of the model that is trained answer.
async fn check_trained(clients: &mut Clients) {
    let request = v1::ListVersionsRequest { model: support::BANK.into(), ..Default::default() };
    let versions = clients.registry.list_versions(request).await.unwrap().into_inner().versions;
    assert!(!versions.is_empty());
    let newest = versions.into_iter().map(|version| version.name).take(3);
    for model in newest.chain([support::BANK.into()]) {
        let texts = support::QUESTIONS.map(String::from).to_vec();
        let request = v1::PredictRequest { model, texts, ..Default::default() };
        assert_eq!(clients.predict.predict(request).await.unwrap().into_inner().predictions.len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_however_often_the_daemon_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let file = prepared(dir.path()).await;
    let (kills, seed) = (number(KILLS), number(SEED));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut models: Vec<Client> = (0..MODELS).map(|number| Client::new(number, seed)).collect();
    let (mut acknowledged, mut unanswered) = (0, 0);
    for round in 0..=kills {
        let process = Process::start(dir.path());
        let mut clients = process.clients().await;
        let moment = format!("seed {seed}, round {round}");
        for model in &mut models {
            unanswered += u64::from(model.unanswered.is_some());
            model.compare(&mut clients, &file, &moment).await;
        }
        check_trained(&mut clients).await;
        if round < kills {
            let train = v1::TrainRequest {
                model: support::BANK.into(),
                epochs: Some(1),
                detach: true,
                ..Default::default()
            };
            // The job of the last round may still be gone on with.
            let _trains_already = clients.training.train(train).await;
            let calling: Vec<_> = models
                .drain(..)
                .map(|mut model| {
                    let (clients, file) = (clients.clone(), file.clone());
                    tokio::spawn(async move {
                        let acknowledged = model.call(clients, &file).await;
                        (model, acknowledged)
                    })
                })
                .collect();
            tokio::time::sleep(Duration::from_micros(rng.random_range(2_000..150_000))).await;
            process.kill();
            for caller in calling {
                let (model, count) = caller.await.unwrap();
                acknowledged += count;
                models.push(model);
            }
        } else {
            process.kill();
        }
    }
    println!(
        "{kills} kills, {acknowledged} calls acknowledged, {unanswered} unanswered and repeated, none lost"
    );
    assert!(
        acknowledged > kills && unanswered >= kills,
        "{acknowledged} acknowledged, {unanswered} unanswered"
    );
    let report = taxond::server::fsck(
        &taxond::config::Config::new(taxond::config::Settings {
            data_dir: Some(dir.path().to_owned()),
            ..Default::default()
        })
        .unwrap(),
    );
    assert_eq!(report.unwrap().damage, [""; 0]);
}
