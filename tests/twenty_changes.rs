//! Twenty changes in a row on a model that many clients ask all the time, and all of them undone again.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use support::{BANK, Daemon, QUESTIONS};
use taxond::proto::v1::{
    self, Learn, add_classes_response, merge_classes_response, predict_service_client::PredictServiceClient,
    remove_classes_response,
};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tonic::transport::Channel;

/// The revision that the clients with a revision ask in.
const PINNED: u64 = 1;

/// One change.
enum Step {
    Rename(&'static str, &'static str),
    Move(&'static str, &'static str),
    Add(&'static [&'static str]),
    Merge(&'static [&'static str], &'static str, Learn),
    Remove(&'static str),
}

const STEPS: [Step; 20] = [
    Step::Rename("balance", "saldo"),
    Step::Move("withdraw under 20k", "cash"),
    Step::Move("withdraw over 20k", "cash"),
    Step::Add(&["loan", "exchange"]),
    Step::Merge(&["withdraw under 20k", "withdraw over 20k"], "withdraw", Learn::Auto),
    Step::Rename("withdraw", "withdrawal"),
    Step::Rename("cash", "counter"),
    Step::Move("saldo", "counter"),
    Step::Remove("exchange"),
    Step::Add(&["savings"]),
    Step::Move("loan", "counter"),
    Step::Merge(&["loan", "savings"], "credit", Learn::None),
    Step::Rename("credit", "loans"),
    Step::Move("loans", "products"),
    Step::Add(&["transfer"]),
    Step::Move("transfer", "products"),
    Step::Merge(&["saldo", "transfer"], "account", Learn::Auto),
    Step::Rename("card lost", "card gone"),
    Step::Remove("account"),
    Step::Rename("withdrawal", "cash out"),
];

/// A class of an answer: id, name, whether it is newer than the revision asked for.
type Told = BTreeSet<(u32, String, bool)>;

/// What clients were answered by each version: the revision and the classes, which never differ.
#[derive(Default)]
struct Seen {
    ordinary: BTreeMap<String, (u64, Told)>,
    pinned: BTreeMap<String, (BTreeSet<u32>, Told)>,
}

/// Clients that ask until nobody listens any more; every second one in the classes of [`PINNED`].
fn clients(channel: &Channel, count: usize) -> UnboundedReceiver<(usize, v1::PredictResponse)> {
    let (sender, answers) = mpsc::unbounded_channel();
    for client in 0..count {
        let (sender, mut predict) = (sender.clone(), PredictServiceClient::new(channel.clone()));
        let request = v1::PredictRequest {
            model: BANK.into(),
            texts: QUESTIONS.map(String::from).to_vec(),
            top_k: Some(1000),
            manifest_revision: is_pinned(client).then_some(PINNED),
            ..Default::default()
        };
        tokio::spawn(async move {
            loop {
                let answer = predict.predict(request.clone()).await.unwrap().into_inner();
                if sender.send((client, answer)).is_err() {
                    return;
                }
            }
        });
    }
    answers
}

fn is_pinned(client: usize) -> bool {
    client % 2 == 1
}

fn number(version: &str) -> u64 {
    version.rsplit('/').next().unwrap().parse().unwrap()
}

impl Seen {
    /// Checks what can be told from an answer alone, and keeps the rest.
    fn take(&mut self, client: usize, answer: v1::PredictResponse) {
        for prediction in &answer.predictions {
            let total: f64 = prediction.classes.iter().map(|class| class.probability).sum();
            assert!((total - 1.0).abs() < 1e-5, "{total} by {}", answer.version);
            let told: Told =
                prediction.classes.iter().map(|class| (class.id, class.name.clone(), class.newer)).collect();
            if is_pinned(client) {
                assert_eq!(answer.manifest_revision, PINNED);
                let silent =
                    answer.unresolved.iter().filter(|class| class.silent).map(|class| class.id).collect();
                let seen = (silent, told);
                assert_eq!(self.pinned.entry(answer.version.clone()).or_insert_with(|| seen.clone()), &seen);
            } else {
                let seen = (answer.manifest_revision, told);
                assert_eq!(
                    self.ordinary.entry(answer.version.clone()).or_insert_with(|| seen.clone()),
                    &seen
                );
            }
        }
    }

    /// Takes answers until each client was answered by this version or a later one.
    async fn all_clients_reach(
        &mut self,
        version: &str,
        answers: &mut UnboundedReceiver<(usize, v1::PredictResponse)>,
        count: usize,
    ) {
        let mut waiting: BTreeSet<usize> = (0..count).collect();
        while !waiting.is_empty() {
            // A client that failed ends, and the others go on without it.
            let (client, answer) = answers.recv().await.expect("the clients go on asking");
            if number(&answer.version) >= number(version) {
                waiting.remove(&client);
            }
            self.take(client, answer);
        }
    }
}

/// Makes a change; the name of the version that answers in it.
async fn change(daemon: &mut Daemon, step: &Step) -> String {
    let model = BANK.to_owned();
    let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let version = match *step {
        Step::Rename(class, new_name) => {
            let (class_name, new_name) = (class.to_owned(), new_name.to_owned());
            let request = v1::RenameClassRequest { model, class_name, new_name, ..Default::default() };
            daemon.taxonomy.rename_class(request).await.unwrap().into_inner().version
        }
        Step::Move(class, parent) => {
            let (class_name, parent, create_parent) = (class.to_owned(), parent.to_owned(), true);
            let request =
                v1::MoveClassRequest { model, class_name, parent, create_parent, ..Default::default() };
            daemon.taxonomy.move_class(request).await.unwrap().into_inner().version
        }
        Step::Add(names) => {
            let request = v1::AddClassesRequest { model, names: strings(names), ..Default::default() };
            let mut told = daemon.taxonomy.add_classes(request).await.unwrap().into_inner();
            match told.message().await.unwrap().unwrap().result.unwrap() {
                add_classes_response::Result::Applied(applied) => applied.version,
                other => panic!("{other:?}"),
            }
        }
        Step::Merge(classes, into, learn) => {
            let (classes, into, learn) = (strings(classes), into.to_owned(), learn.into());
            let request = v1::MergeClassesRequest { model, classes, into, learn, ..Default::default() };
            let mut told = daemon.taxonomy.merge_classes(request).await.unwrap().into_inner();
            match told.message().await.unwrap().unwrap().result.unwrap() {
                merge_classes_response::Result::Applied(applied) => applied.version,
                other => panic!("{other:?}"),
            }
        }
        Step::Remove(class) => {
            let (classes, learn) = (strings(&[class]), Learn::None.into());
            let request = v1::RemoveClassesRequest { model, classes, learn, ..Default::default() };
            let mut told = daemon.taxonomy.remove_classes(request).await.unwrap().into_inner();
            match told.message().await.unwrap().unwrap().result.unwrap() {
                remove_classes_response::Result::Applied(applied) => applied.version,
                other => panic!("{other:?}"),
            }
        }
    };
    version.unwrap().name
}

/// The active classes of a manifest.
async fn classes(daemon: &mut Daemon, revision: u64) -> BTreeMap<u32, String> {
    let request =
        v1::GetManifestRequest { name: format!("{BANK}/manifests/{revision}"), ..Default::default() };
    let manifest = daemon.taxonomy.get_manifest(request).await.unwrap().into_inner().manifest.unwrap();
    let active = manifest.classes.into_iter().filter(|class| class.state() == v1::ClassState::Active);
    active.map(|class| (class.id, class.name)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_changes_in_a_row_disturb_no_client_and_can_all_be_undone() {
    const CLIENTS: usize = 4;
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let first = daemon.ask(BANK, &QUESTIONS).await;
    let mut answers = clients(&daemon.channel, CLIENTS);
    let mut seen = Seen::default();

    let mut made = BTreeSet::new();
    for step in &STEPS {
        let version = change(&mut daemon, step).await;
        seen.all_clients_reach(&version, &mut answers, CLIENTS).await;
        made.insert(version);
    }
    for _ in &STEPS {
        let version = daemon.undo().await.version.unwrap().name;
        seen.all_clients_reach(&version, &mut answers, CLIENTS).await;
        made.insert(version);
    }
    assert_eq!(made.len(), 40);
    drop(answers);
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions, first.predictions);
    let request = v1::UndoChangeRequest { model: BANK.into(), ..Default::default() };
    assert!(daemon.taxonomy.undo_change(request).await.unwrap_err().message().contains("no change"));

    // Each answer names one version and is in the classes of that version's manifest.
    for (name, (revision, told)) in &seen.ordinary {
        let request = v1::GetVersionRequest { name: name.clone() };
        let version = daemon.registry.get_version(request).await.unwrap().into_inner().version.unwrap();
        assert_eq!(version.manifest_revision, *revision, "{name}");
        let classes = classes(&mut daemon, *revision).await;
        let classes: Told = classes.into_iter().map(|(id, name)| (id, name, false)).collect();
        assert_eq!(told, &classes, "{name}");
    }
    // A client that names a revision sees its classes by their names then, and newer ones marked.
    let pinned = classes(&mut daemon, PINNED).await;
    for (version, (silent, told)) in &seen.pinned {
        for (id, name, newer) in told {
            assert_eq!(*newer, !pinned.contains_key(id), "{name} by {version}");
            assert!(*newer || pinned[id] == *name, "{name} by {version}");
        }
        let answered = told.iter().map(|(id, ..)| *id);
        let accounted: BTreeSet<u32> = answered.chain(silent.iter().copied()).collect();
        assert!(pinned.keys().all(|id| accounted.contains(id)), "{version}");
    }
    assert!(seen.pinned.values().any(|(silent, _)| !silent.is_empty()), "a class was removed");
    daemon.stop().await;
}
