//! Sixteen identities of three roles on one daemon: fifteen try to starve, to read and to block the sixteenth, an ordinary client
//! that predicts. Each of its calls is answered, and the others are told nothing of what they may not see.
//!
//! The test prints how long the calls of the ordinary client take alone and beside the others; it asserts no times.
#![cfg(unix)]

mod support;

use std::{
    collections::BTreeSet,
    fmt::Debug,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use support::{BANK, Daemon, process::Process, texts};
use taxond::proto::v1::{
    self, ClassPart, LabelledText, dataset_service_client::DatasetServiceClient,
    predict_service_client::PredictServiceClient, registry_service_client::RegistryServiceClient,
    taxonomy_service_client::TaxonomyServiceClient, training_service_client::TrainingServiceClient,
};
use taxond::service::Role;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// Identities of each role beside the ordinary one.
const OTHERS: usize = 5;
/// How long the calls of the ordinary client are timed, alone and beside the others: so long that each of these does all it can.
const TIMED: Duration = Duration::from_secs(4);
/// A request id that the ordinary side has used.
const USED_ID: &str = "used-by-the-bank";
/// Part of a text that is stored in the model of the ordinary client alone.
const CONFIDENTIAL: &str = "confidential";

/// Sends a token with each call.
#[derive(Clone)]
struct Token(MetadataValue<Ascii>);

type Secured = InterceptedService<Channel, Token>;

/// One of those who try what they can. It owns the models whose ids begin with its name.
#[derive(Clone)]
struct Rival {
    name: String,
    role: Role,
    registry: RegistryServiceClient<Secured>,
    dataset: DatasetServiceClient<Secured>,
    taxonomy: TaxonomyServiceClient<Secured>,
    training: TrainingServiceClient<Secured>,
    predict: PredictServiceClient<Secured>,
    /// Everything that the daemon said to it.
    heard: Arc<std::sync::Mutex<BTreeSet<String>>>,
    ended: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

fn token(name: &str) -> Token {
    Token(format!("Bearer token-of-{name}").parse().expect("a token is ASCII"))
}

/// The names and roles of the rivals.
fn rivals() -> Vec<(String, Role)> {
    [Role::Predict, Role::Train, Role::Admin]
        .into_iter()
        .flat_map(|role| (0..OTHERS).map(move |number| (format!("{role}-{number}"), role)))
        .collect()
}

fn auth_file(folder: &Path) -> std::path::PathBuf {
    let entry = |name: &str, role: Role, models: &str| {
        let hash = blake3::hash(format!("token-of-{name}").as_bytes());
        format!("[[token]]\nname = '{name}'\nhash = '{hash}'\nrole = '{role}'\nmodels = ['{models}']\n")
    };
    let mut text = entry("ordinary", Role::Train, "bank");
    for (name, role) in rivals() {
        text.push_str(&entry(&name, role, &format!("{name}-*")));
    }
    let path = folder.join("auth.toml");
    fs::write(&path, text).expect("the folder can be written to");
    path
}

/// A data folder whose model `bank` and one model of each rival are trained.
async fn prepared(data: &Path) -> Vec<u8> {
    let mut daemon = Daemon::trained(data).await;
    let secret =
        LabelledText { text: format!("{CONFIDENTIAL} balance of a customer"), label: "balance".into() };
    daemon.add(BANK, vec![secret]).await;
    let request = v1::ExportVersionRequest { name: format!("{BANK}/versions/1") };
    let mut stream = daemon.registry.export_version(request).await.expect("it exports").into_inner();
    let mut file = Vec::new();
    while let Some(message) = stream.message().await.expect("it exports") {
        file.extend(message.data);
    }
    for (name, _) in rivals() {
        let id = format!("{name}-shop");
        daemon.create(&id).await;
        daemon.add(&format!("models/{id}"), texts()).await;
        let messages = import(&format!("models/{id}"), &file);
        daemon.registry.import_version(tokio_stream::iter(messages)).await.expect("it imports");
        let request = v1::SetAliasRequest { model: format!("models/{id}"), version: 1, ..Default::default() };
        daemon.registry.set_alias(request).await.expect("it serves");
    }
    daemon.stop().await;
    file
}

fn import(model: &str, file: &[u8]) -> Vec<v1::ImportVersionRequest> {
    let first = v1::ImportVersionRequest { model: model.into(), ..Default::default() };
    let rest = file.chunks(256 << 10);
    let rest = rest.map(|data| v1::ImportVersionRequest { data: data.to_vec(), ..Default::default() });
    [first].into_iter().chain(rest).collect()
}

impl Rival {
    fn new(channel: &Channel, name: &str, role: Role, ended: &Arc<AtomicBool>) -> Self {
        let (channel, token) = (channel.clone(), token(name));
        Self {
            name: name.into(),
            role,
            registry: RegistryServiceClient::with_interceptor(channel.clone(), token.clone()),
            dataset: DatasetServiceClient::with_interceptor(channel.clone(), token.clone()),
            taxonomy: TaxonomyServiceClient::with_interceptor(channel.clone(), token.clone()),
            training: TrainingServiceClient::with_interceptor(channel.clone(), token.clone()),
            predict: PredictServiceClient::with_interceptor(channel, token),
            heard: Arc::default(),
            ended: Arc::clone(ended),
            calls: Arc::default(),
        }
    }

    fn model(&self) -> String {
        format!("models/{}-shop", self.name)
    }

    /// Notes what the daemon says.
    fn hear<T: Debug>(&self, outcome: Result<T, Status>) -> Result<T, Status> {
        let said = match &outcome {
            Ok(answer) => format!("{answer:?}"),
            Err(status) => format!("{status:?} {}", String::from_utf8_lossy(status.details())),
        };
        self.calls.fetch_add(1, Relaxed);
        self.heard.lock().expect("nobody panics with it").insert(said);
        outcome
    }

    /// Does what its role lets it do, as often as it can, until it is told to end.
    async fn starve(mut self, file: Arc<Vec<u8>>) {
        for round in 0u64.. {
            if self.ended.load(Relaxed) {
                return;
            }
            let refused = match self.role {
                Role::Predict => self.flood().await,
                Role::Train => self.occupy(round).await,
                Role::Admin => self.fill(round, &file).await,
            };
            if refused {
                // A client that is refused pauses; one that does not is slowed down by its own limit of calls.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    async fn flood(&mut self) -> bool {
        let request = v1::PredictRequest {
            model: self.model(),
            texts: (0..256).map(|number| format!("where is parcel {number} of mine, please")).collect(),
            ..Default::default()
        };
        let outcome = self.predict.predict(request).await;
        self.hear(outcome.map(|answer| answer.into_inner().version)).is_err()
    }

    async fn occupy(&mut self, round: u64) -> bool {
        let model = self.model();
        match round % 5 {
            0 => {
                let parts = (0..200).map(|number| ClassPart {
                    name: format!("part {number}"),
                    pattern: format!("(a|b|c|d)+{number}$"),
                    ..Default::default()
                });
                let request = v1::SplitClassRequest {
                    model,
                    class_name: "balance".into(),
                    parts: parts.collect(),
                    validate_only: true,
                    ..Default::default()
                };
                let outcome = self.taxonomy.split_class(request).await;
                self.hear(outcome.map(drop)).is_err()
            }
            1 => {
                let outcome =
                    self.dataset.get_stats(v1::GetStatsRequest { model, ..Default::default() }).await;
                self.hear(outcome.map(|answer| answer.into_inner())).is_err()
            }
            2 => {
                let request = v1::SuggestRelabelsRequest { model, ..Default::default() };
                let outcome = self.dataset.suggest_relabels(request).await;
                self.hear(outcome.map(|answer| answer.into_inner())).is_err()
            }
            3 => {
                let examples = texts()
                    .into_iter()
                    .map(|text| LabelledText { text: format!("{} {round}", text.text), ..text });
                let request =
                    v1::AddExamplesRequest { model, examples: examples.collect(), ..Default::default() };
                let outcome = self.dataset.add_examples(tokio_stream::once(request)).await;
                self.hear(outcome.map(|answer| answer.into_inner())).is_err()
            }
            _ => {
                let request =
                    v1::TrainRequest { model, epochs: Some(1000), detach: true, ..Default::default() };
                let outcome = self.training.train(request).await;
                self.hear(outcome.map(drop)).is_err()
            }
        }
    }

    async fn fill(&mut self, round: u64, file: &[u8]) -> bool {
        let id = format!("{}-{}", self.name, round % 7);
        let request = v1::CreateModelRequest { model_id: id.clone(), ..Default::default() };
        let outcome = self.registry.create_model(request).await;
        let created = self.hear(outcome.map(|answer| answer.into_inner())).is_ok();
        let name = format!("models/{id}");
        let messages = import(&name, file);
        let outcome = self.registry.import_version(tokio_stream::iter(messages)).await;
        let refused = self.hear(outcome.map(|answer| answer.into_inner())).is_err();
        if !created {
            let request = v1::DeleteModelRequest { name, ..Default::default() };
            let outcome = self.registry.delete_model(request).await;
            let _may_be_refused = self.hear(outcome.map(drop));
        }
        refused
    }

    /// Asks for what it may not see.
    async fn pry(&mut self, ordinary_token: &str) {
        // A model that is there and one that is not look alike.
        let get = |id: &str| v1::GetModelRequest { name: format!("models/{id}") };
        let there = self.registry.get_model(get("bank")).await.map(drop).expect_err("not its model");
        let not_there = self.registry.get_model(get("none")).await.map(drop).expect_err("not its model");
        assert_eq!(there.code(), Code::PermissionDenied, "{there}");
        assert_eq!(there.code(), not_there.code());
        assert_eq!(there.message().replace("bank", "none"), not_there.message());

        // Every page that it may list, one entry at a time.
        let mut page_token = String::new();
        loop {
            let request = v1::ListModelsRequest { page_size: 1, page_token };
            let page = self.registry.list_models(request).await.expect("it may list").into_inner();
            assert!(page.models.iter().all(|model| model.name.contains(&self.name)), "{page:?}");
            let next = page.next_page_token.clone();
            let _page = self.hear(Ok(page));
            if next.is_empty() {
                break;
            }
            page_token = next;
        }
        if self.role >= Role::Train {
            let request = v1::ListModelsRequest { page_token: ordinary_token.into(), ..Default::default() };
            let status = self.registry.list_models(request).await.expect_err("the token of another identity");
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            for number in 1..40 {
                let name = format!("jobs/{number}");
                let outcome = self.training.get_job(v1::GetJobRequest { name: name.clone() }).await;
                match self.hear(outcome.map(|answer| answer.into_inner().job)) {
                    Ok(job) => assert!(job.expect("a job").model.contains(&self.name)),
                    Err(status) => assert_eq!(status.code(), Code::NotFound, "{status}"),
                }
                let outcome = self.training.cancel_job(v1::CancelJobRequest { name }).await;
                let _its_own_or_none = self.hear(outcome.map(drop));
            }
            // The id of a request of somebody else is an id like any other.
            let request = v1::AddExamplesRequest {
                model: self.model(),
                examples: vec![LabelledText { text: format!("of {}", self.name), label: "balance".into() }],
                request_id: USED_ID.into(),
            };
            let added = loop {
                match self.dataset.add_examples(tokio_stream::once(request.clone())).await {
                    // It floods the daemon itself meanwhile, and may be told so.
                    Err(status) if status.code() == Code::ResourceExhausted => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    other => break other.expect("a first call").into_inner().added,
                }
            };
            assert_eq!(added, 1, "{}", self.name);
        }
    }
}

/// Times of calls of the ordinary client, in order of length. It has a connection and a thread of its own, as on a machine of its
/// own it would not wait for what the others do with their answers.
async fn timed(process: &Process) -> Vec<Duration> {
    let address = process.address.clone();
    let own = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(calls(address))
    };
    tokio::task::spawn_blocking(own).await.expect("an ordinary client does not panic")
}

async fn calls(address: String) -> Vec<Duration> {
    let channel = Channel::from_shared(address).expect("an address").connect().await.expect("it listens");
    let mut client = PredictServiceClient::with_interceptor(channel, token("ordinary"));
    let (mut times, first) = (Vec::new(), Instant::now());
    for number in 0.. {
        if first.elapsed() > TIMED {
            break;
        }
        let texts = vec![support::QUESTIONS[number % 4].to_owned()];
        let request = v1::PredictRequest { model: BANK.into(), texts, ..Default::default() };
        let began = Instant::now();
        let answer = client.predict(request).await.expect("an ordinary call is answered").into_inner();
        times.push(began.elapsed());
        assert_eq!(answer.predictions.len(), 1);
    }
    times.sort_unstable();
    times
}

fn shown(times: &[Duration]) -> String {
    let at = |share: f64| times[(share * (times.len() - 1) as f64) as usize].as_secs_f64() * 1e3;
    format!(
        "{} calls, p50 {:.2} ms, p90 {:.2}, p99 {:.2}, slowest {:.2}",
        times.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn fifteen_identities_neither_starve_nor_read_nor_block_the_sixteenth() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    let file = Arc::new(prepared(&data).await);
    let mut command = Process::command(&data);
    command.arg("--auth-file").arg(auth_file(dir.path()));
    let process = Process::spawn(&mut command);
    let channel = process.connect().await;

    let mut ordinary = Rival::new(&channel, "ordinary", Role::Train, &Arc::default());
    let request = v1::AddExamplesRequest {
        model: BANK.into(),
        examples: vec![LabelledText { text: "an ordinary text".into(), label: "balance".into() }],
        request_id: USED_ID.into(),
    };
    ordinary.dataset.add_examples(tokio_stream::once(request)).await.expect("a first call");
    let request = v1::ListExamplesRequest { model: BANK.into(), page_size: 1, ..Default::default() };
    let page = ordinary.dataset.list_examples(request).await.expect("its own").into_inner();
    let alone = timed(&process).await;

    let ended = Arc::new(AtomicBool::new(false));
    let mut others = Vec::new();
    for (name, role) in rivals() {
        // A connection each, as other machines would have.
        others.push(Rival::new(&process.connect().await, &name, role, &ended));
    }
    let starving: Vec<_> = others
        .iter()
        .flat_map(|rival| (0..2).map(|_| tokio::spawn(rival.clone().starve(Arc::clone(&file)))))
        .collect();
    let beside = timed(&process).await;
    // What is not a prediction goes on as well.
    let stats =
        ordinary.dataset.get_stats(v1::GetStatsRequest { model: BANK.into(), ..Default::default() }).await;
    assert!(stats.expect("its own").into_inner().total > 0);
    let merge = ordinary.taxonomy.merge_classes(support::merge_request(v1::Learn::None)).await;
    merge.expect("a change of its own model").into_inner().message().await.expect("it is made");
    for rival in &mut others {
        rival.pry(&page.next_page_token).await;
    }
    ended.store(true, Relaxed);
    for task in starving {
        task.await.expect("a rival does not panic");
    }

    let names: Vec<String> = rivals().into_iter().map(|(name, _)| name).collect();
    for rival in &others {
        let heard = rival.heard.lock().expect("nobody panics with it");
        for said in heard.iter() {
            // The file that it imports says so itself.
            let said = said.replace("imported from models/bank/versions/1", "");
            let strange = names
                .iter()
                .filter(|name| **name != rival.name)
                .find(|name| said.contains(&format!("{name}-")));
            assert_eq!(strange, None, "{} was told: {said}", rival.name);
            assert!(
                !said.contains(CONFIDENTIAL) && !said.contains("models/bank"),
                "{} was told: {said}",
                rival.name
            );
        }
    }
    let calls: u64 = others.iter().map(|rival| rival.calls.load(Relaxed)).sum();
    println!("alone: {}; beside {calls} calls of {} others: {}", shown(&alone), others.len(), shown(&beside));
    process.kill();
}
