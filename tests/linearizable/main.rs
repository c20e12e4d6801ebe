//! Clients that change and read one model at the same time see histories that make sense: as if each call had happened at one moment
//! between its beginning and its end.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod checker;
#[path = "../support/mod.rs"]
mod support;

use std::{env, time::Instant};

use checker::Call;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use support::{BANK, Daemon, QUESTIONS, merge_request};
use taxond::proto::v1::{
    self, ExampleFilter, GetModelRequest, LabelledText, Learn, ListExamplesRequest, PredictRequest,
    RelabelExamplesRequest, SetAliasRequest, UndoChangeRequest, dataset_service_client::DatasetServiceClient,
    predict_service_client::PredictServiceClient, registry_service_client::RegistryServiceClient,
    taxonomy_service_client::TaxonomyServiceClient,
};
use tonic::{Code, Status, transport::Channel};

/// Rounds, each of a daemon of its own, and what the chance comes from; the long form sets more.
const ROUNDS: (&str, u64) = ("TAXOND_TEST_HISTORIES", 3);
const SEED: (&str, u64) = ("TAXOND_TEST_SEED", 1);
const CLIENTS: u64 = 4;
const CALLS: u64 = 60;
/// The text whose label is changed, and its labels.
const TEXT: &str = "whose label is changed";
const LABELS: [&str; 2] = ["card lost", "balance"];

fn number((variable, default): (&str, u64)) -> u64 {
    env::var(variable).map_or(default, |number| number.parse().expect("a number"))
}

/// The model, as far as the clients change it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    canary: u64,
    latest_version: u64,
    revision: u64,
    merged: bool,
    label: usize,
}

/// What was answered to a call.
#[derive(Debug, Clone)]
enum Answer {
    Canary(u64),
    Model {
        canary: u64,
        latest_version: u64,
        revision: u64,
    },
    Predicted {
        revision: u64,
        merged: bool,
    },
    /// Of a merge, or an undo of one: the revision it was made from, and the one it made unless it was refused.
    Changed {
        merges: bool,
        from: u64,
        made: Option<u64>,
    },
    Relabelled {
        label: usize,
        changed: u64,
    },
    Label(usize),
}

impl State {
    /// What a call makes of it; none where it cannot have been answered so.
    fn after(&self, answer: &Answer) -> Option<Self> {
        let possible = match *answer {
            Answer::Canary(canary) => return Some(Self { canary, ..self.clone() }),
            Answer::Changed { merges, from, made: Some(made) } => {
                let next = Self {
                    merged: merges,
                    revision: made,
                    latest_version: self.latest_version + 1,
                    ..self.clone()
                };
                return (from == self.revision && made == from + 1 && merges != self.merged).then_some(next);
            }
            Answer::Relabelled { label, changed } => {
                let next = Self { label, ..self.clone() };
                return (changed == u64::from(label != self.label)).then_some(next);
            }
            // Only one that was late is refused.
            Answer::Changed { from, made: None, .. } => from != self.revision,
            Answer::Model { canary, latest_version, revision } => {
                (canary, latest_version, revision) == (self.canary, self.latest_version, self.revision)
            }
            Answer::Predicted { revision, merged } => (revision, merged) == (self.revision, self.merged),
            Answer::Label(label) => label == self.label,
        };
        possible.then(|| self.clone())
    }
}

/// A client, and what it knows of the classes.
struct Client {
    registry: RegistryServiceClient<Channel>,
    dataset: DatasetServiceClient<Channel>,
    taxonomy: TaxonomyServiceClient<Channel>,
    predict: PredictServiceClient<Channel>,
    revision: u64,
    merged: bool,
}

impl Client {
    fn new(channel: Channel) -> Self {
        Self {
            registry: RegistryServiceClient::new(channel.clone()),
            dataset: DatasetServiceClient::new(channel.clone()),
            taxonomy: TaxonomyServiceClient::new(channel.clone()),
            predict: PredictServiceClient::new(channel),
            revision: 1,
            merged: false,
        }
    }

    /// Makes a call of some kind.
    async fn call(&mut self, kind: u32, rng: &mut ChaCha8Rng) -> Answer {
        match kind {
            0..15 => {
                let version = rng.random_range(1..=self.revision);
                let request = SetAliasRequest {
                    model: BANK.into(),
                    alias: "canary".into(),
                    version,
                    ..Default::default()
                };
                self.registry.set_alias(request).await.unwrap();
                Answer::Canary(version)
            }
            15..35 => {
                let request = GetModelRequest { name: BANK.into() };
                let model = self.registry.get_model(request).await.unwrap().into_inner().model.unwrap();
                Answer::Model {
                    canary: model.aliases.get("canary").copied().unwrap_or(0),
                    latest_version: model.latest_version,
                    revision: model.manifest_revision,
                }
            }
            35..60 => {
                let texts = QUESTIONS.map(String::from).to_vec();
                let request =
                    PredictRequest { model: BANK.into(), texts, top_k: Some(10), ..Default::default() };
                let answer = self.predict.predict(request).await.unwrap().into_inner();
                let knows = |name: &str| {
                    answer.predictions.iter().all(|one| one.classes.iter().any(|class| class.name == name))
                };
                self.merged = knows("withdraw");
                self.revision = answer.manifest_revision;
                assert_ne!(self.merged, knows("withdraw under 20k"), "{answer:?}");
                Answer::Predicted { revision: self.revision, merged: self.merged }
            }
            60..80 => {
                let (merges, from) = (!self.merged, self.revision);
                let outcome = if merges { self.merge().await } else { self.undo().await };
                match &outcome {
                    Ok(revision) => (self.merged, self.revision) = (merges, *revision),
                    Err(status) => {
                        let late = matches!(status.code(), Code::Aborted | Code::FailedPrecondition);
                        assert!(late, "{status}");
                    }
                }
                Answer::Changed { merges, from, made: outcome.ok() }
            }
            80..90 => {
                let label = rng.random_range(0..LABELS.len());
                let answer = self.relabel(LABELS[label]).await;
                assert_eq!(answer.relabelled + answer.unchanged, 1, "{answer:?}");
                Answer::Relabelled { label, changed: answer.relabelled }
            }
            _ => {
                let request =
                    ListExamplesRequest { model: BANK.into(), filter: filter(), ..Default::default() };
                let listed = self.dataset.list_examples(request).await.unwrap().into_inner().examples;
                let label = LABELS.iter().position(|label| *label == listed[0].label);
                assert_eq!(listed.len(), 1, "{listed:?}");
                Answer::Label(label.unwrap())
            }
        }
    }

    /// Relabels the text; repeated while another call does the like.
    async fn relabel(&mut self, label: &str) -> v1::RelabelExamplesResponse {
        loop {
            let request = RelabelExamplesRequest {
                model: BANK.into(),
                filter: filter(),
                label: label.into(),
                ..Default::default()
            };
            match self.dataset.relabel_examples(request).await {
                Ok(answer) => return answer.into_inner(),
                Err(status) => assert_eq!(status.code(), Code::Aborted, "{status}"),
            }
        }
    }

    /// The revision that the merge made.
    async fn merge(&mut self) -> Result<u64, Status> {
        let request =
            v1::MergeClassesRequest { expected_revision: Some(self.revision), ..merge_request(Learn::None) };
        let mut stream = self.taxonomy.merge_classes(request).await?.into_inner();
        let first = stream.message().await?.unwrap().result.unwrap();
        let v1::merge_classes_response::Result::Applied(applied) = first else { panic!("{first:?}") };
        Ok(applied.manifest.unwrap().revision)
    }

    /// The revision that the undo made.
    async fn undo(&mut self) -> Result<u64, Status> {
        let request = UndoChangeRequest {
            model: BANK.into(),
            expected_revision: Some(self.revision),
            ..Default::default()
        };
        Ok(self.taxonomy.undo_change(request).await?.into_inner().manifest.unwrap().revision)
    }
}

fn filter() -> Option<ExampleFilter> {
    Some(ExampleFilter { text_contains: TEXT.into(), ..Default::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_at_the_same_time_see_one_order_of_things() {
    let dir = tempfile::tempdir().unwrap();
    let mut changes = 0;
    for round in 0..number(ROUNDS) {
        let folder = dir.path().join(round.to_string());
        let mut daemon = Daemon::trained(&folder).await;
        daemon.add(BANK, vec![LabelledText { text: TEXT.into(), label: LABELS[0].into() }]).await;
        let clock = Instant::now();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number_of_client| {
                let mut client = Client::new(daemon.channel.clone());
                let seed = (number(SEED) * 1000 + round) * 10 + number_of_client;
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                tokio::spawn(async move {
                    let mut calls = Vec::new();
                    for _ in 0..CALLS {
                        let kind = rng.random_range(0..100);
                        let began = clock.elapsed().as_nanos() as u64;
                        let answer = client.call(kind, &mut rng).await;
                        calls.push(Call { began, ended: clock.elapsed().as_nanos() as u64, answer });
                    }
                    calls
                })
            })
            .collect();
        let mut calls = Vec::new();
        for client in clients {
            calls.extend(client.await.unwrap());
        }
        let initial = State { canary: 0, latest_version: 1, revision: 1, merged: false, label: 0 };
        let outcome = checker::check(initial, &mut calls, State::after);
        if let Err(at) = outcome {
            let near = &calls[at.saturating_sub(12)..(at + 8).min(calls.len())];
            panic!("seed {}, round {round}: call {at} makes no sense among {near:#?}", number(SEED));
        }
        changes +=
            calls.iter().filter(|call| matches!(call.answer, Answer::Changed { made: Some(_), .. })).count();
        daemon.stop().await;
    }
    assert!(changes > 0, "nothing was changed");
}
