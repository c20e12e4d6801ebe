//! What each stage of learning makes of a model whose classes change: over gRPC, on a daemon in this process that answers
//! questions all the while.
//!
//! Two models are trained from scratch, one in the classes before the change and one in those after it. The first is then
//! changed once for each strategy, and undone in between. The classes that change are the pairs that the second confuses
//! most, by the probability it gives to the other one on the training file.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use taxond::{
    model::Preset,
    proto::v1::{
        self, AddChange, ApplyChangesRequest, ClassChange, ClassPart, EvaluateResponse, LabelledText, Learn,
        MergeChange, PredictRequest, RemoveChange, SplitChange, TrainRequest, VersionPublished,
        apply_changes_response::Result as Step, class_change::Change, job_event::Event,
    },
};
use tempfile::TempDir;

use crate::{
    daemon::Daemon,
    data::{Row, preset, read},
};

/// Texts of one call.
const CALL: usize = 256;
/// Classes whose probability counts in the search for confused pairs.
const RIVALS: u32 = 5;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Examples to train and validate on.
    #[arg(long)]
    train: PathBuf,
    /// Examples to measure on.
    #[arg(long)]
    test: PathBuf,
    /// What happens to the pairs.
    #[arg(long)]
    change: Kind,
    /// Pairs that change.
    #[arg(long, default_value_t = 10)]
    pairs: usize,
    /// Strategies to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Strategy::Auto, Strategy::Seed])]
    strategies: Vec<Strategy>,
    /// Network to train: default or seed.
    #[arg(long, default_value = "default", value_parser = preset)]
    preset: Preset,
    /// Seed of everything drawn at random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Epochs of each training from scratch; as the recipe says if absent.
    #[arg(long)]
    epochs: Option<u32>,
    /// Epochs of strategy `seed`; as the daemon does if absent. The change is then applied without learning, and a training
    /// follows.
    #[arg(long, value_name = "N")]
    seed_epochs: Option<u32>,
    /// Prints one JSON object instead of sentences.
    #[arg(long)]
    json: bool,
}

/// What happens to a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Two classes become one.
    Merge,
    /// One class becomes two.
    Split,
    /// The second class comes in.
    Add,
    /// The second class goes.
    Remove,
}

/// How the change is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Strategy {
    Auto,
    HeadOnly,
    FineTune,
    Seed,
    Scratch,
}

impl Strategy {
    fn learn(self) -> Learn {
        match self {
            Self::Auto => Learn::Auto,
            Self::HeadOnly => Learn::HeadOnly,
            Self::FineTune => Learn::FineTune,
            Self::Seed => Learn::Seed,
            Self::Scratch => Learn::Scratch,
        }
    }
}

/// A pair of confused classes, by name.
type Pair = (String, String);

/// The name of the class that a pair is together.
fn joint((a, b): &Pair) -> String {
    format!("{a} or {b}")
}

pub(crate) fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    tokio::runtime::Runtime::new()?.block_on(study(options))
}

async fn study(options: &Options) -> Result<(), Box<dyn Error>> {
    let rows = texts(&read(&options.train)?);
    let tests = texts(&read(&options.test)?);
    let folder = TempDir::new()?;
    let mut daemon = Daemon::start(&folder).await?;
    let training =
        || TrainRequest { seed: Some(options.seed), epochs: options.epochs, ..TrainRequest::default() };

    let fine = daemon.learn("fine", &rows, options.preset, training()).await?;
    let pairs = confused(&mut daemon, &rows, options.pairs).await?;
    let (gone, all): (BTreeSet<&String>, Vec<&Pair>) =
        (pairs.iter().map(|(_, b)| b).collect(), pairs.iter().collect());
    let joined = |text: &LabelledText| {
        let pair = all.iter().find(|(a, b)| text.label == *a || text.label == *b);
        LabelledText { label: pair.map_or(text.label.clone(), |pair| joint(pair)), ..text.clone() }
    };
    let merged: Vec<LabelledText> = rows.iter().map(joined).collect();
    let fewer: Vec<LabelledText> = rows.iter().filter(|text| !gone.contains(&text.label)).cloned().collect();
    let touched: BTreeSet<String> =
        pairs.iter().flat_map(|pair| [pair.0.clone(), pair.1.clone(), joint(pair)]).collect();
    // The model that changes, the one from scratch after the change, and the test texts in the classes after it.
    let (start, scratch, tests) = match options.change {
        Kind::Merge => {
            let seconds = daemon.learn("coarse", &merged, options.preset, training()).await?;
            ("fine", ("coarse", seconds), tests.iter().map(joined).collect())
        }
        Kind::Split => {
            daemon.learn("coarse", &merged, options.preset, training()).await?;
            ("coarse", ("fine", fine), tests)
        }
        Kind::Add => {
            daemon.learn("fewer", &fewer, options.preset, training()).await?;
            daemon.add("fewer", &rows).await?;
            ("fewer", ("fine", fine), tests)
        }
        Kind::Remove => {
            let seconds = daemon.learn("fewer", &fewer, options.preset, training()).await?;
            let left = tests.into_iter().filter(|text| !gone.contains(&text.label)).collect();
            ("fine", ("fewer", seconds), left)
        }
    };
    let plateau = daemon.evaluate(&format!("models/{}", scratch.0), &tests).await?;
    let before = daemon.evaluate(&format!("models/{start}"), &tests).await?;
    let changes = changes(options.change, &pairs, &rows);

    let questions = Questions::start(&daemon, start, &rows);
    let mut stages = Vec::new();
    for strategy in &options.strategies {
        let learn = strategy.learn();
        let epochs = if *strategy == Strategy::Seed { options.seed_epochs } else { None };
        let measured = change(&mut daemon, start, &changes, (learn, epochs, options.seed)).await?;
        daemon.undo(start).await?;
        // The same again, with nothing kept of what the encoder makes of the examples.
        fs::remove_dir_all(folder.path().join("features"))?;
        let uncached = change(&mut daemon, start, &changes, (learn, epochs, options.seed)).await?;
        daemon.undo(start).await?;
        for (Measured { stage, version, seconds, promoted }, uncached) in measured.iter().zip(uncached) {
            let after = daemon.evaluate(&format!("models/{start}/versions/{version}"), &tests).await?;
            stages.push(json!({
                "strategy": learn.as_str_name().trim_start_matches("LEARN_"),
                "stage": stage,
                "epochs": epochs,
                "accuracy": after.accuracy,
                "seconds": seconds,
                "seconds_uncached": uncached.seconds,
                "share_of_scratch": seconds / scratch.1,
                "untouched_before": untouched(&before, &touched),
                "untouched_after": untouched(&after, &touched),
                "promoted": promoted,
            }));
        }
    }
    let asked = questions.stop().await;
    let report = json!({
        "change": format!("{:?}", options.change).to_lowercase(),
        "pairs": pairs.len(),
        "seed": options.seed,
        "scratch": { "accuracy": plateau.accuracy, "seconds": scratch.1 },
        "stages": stages,
        "predict": asked,
    });
    daemon.stop().await?;
    if options.json {
        println!("{report}");
    } else {
        show(&report);
    }
    Ok(())
}

fn texts(rows: &[Row]) -> Vec<LabelledText> {
    rows.iter().map(|row| LabelledText { text: row.text.clone(), label: row.label.to_string() }).collect()
}

/// The pairs of classes that share most probability on labelled texts; no class is in two.
async fn confused(
    daemon: &mut Daemon,
    rows: &[LabelledText],
    count: usize,
) -> Result<Vec<Pair>, Box<dyn Error>> {
    let mut mass: BTreeMap<Pair, f64> = BTreeMap::new();
    for rows in rows.chunks(CALL) {
        let request = PredictRequest {
            model: "models/fine".into(),
            texts: rows.iter().map(|row| row.text.clone()).collect(),
            top_k: Some(RIVALS),
            ..PredictRequest::default()
        };
        let answers = daemon.predict.predict(request).await?.into_inner().predictions;
        for (row, answer) in rows.iter().zip(answers) {
            for rival in answer.classes.into_iter().filter(|class| class.name != row.label) {
                let (a, b) = (row.label.clone().min(rival.name.clone()), row.label.clone().max(rival.name));
                *mass.entry((a, b)).or_default() += rival.probability;
            }
        }
    }
    let mut ranked: Vec<(Pair, f64)> = mass.into_iter().collect();
    ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let (mut taken, mut pairs) = (BTreeSet::new(), Vec::new());
    for (pair, _) in ranked {
        if pairs.len() < count && !taken.contains(&pair.0) && !taken.contains(&pair.1) {
            taken.extend([pair.0.clone(), pair.1.clone()]);
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

/// The changes of all pairs, to be applied as one.
fn changes(kind: Kind, pairs: &[Pair], rows: &[LabelledText]) -> Vec<ClassChange> {
    let of_class = |name: &String| {
        let texts = rows.iter().filter(|row| row.label == *name).map(|row| row.text.clone());
        ClassPart { name: name.clone(), texts: texts.collect(), ..ClassPart::default() }
    };
    let second = || pairs.iter().map(|(_, b)| b.clone()).collect();
    let changes: Vec<Change> = match kind {
        Kind::Merge => pairs
            .iter()
            .map(|pair| {
                Change::Merge(MergeChange {
                    classes: vec![pair.0.clone(), pair.1.clone()],
                    into: joint(pair),
                })
            })
            .collect(),
        Kind::Split => pairs
            .iter()
            .map(|pair| {
                let parts = vec![of_class(&pair.0), of_class(&pair.1)];
                Change::Split(SplitChange { class_name: joint(pair), parts })
            })
            .collect(),
        Kind::Add => vec![Change::Add(AddChange { names: second() })],
        Kind::Remove => vec![Change::Remove(RemoveChange { classes: second() })],
    };
    changes.into_iter().map(|change| ClassChange { change: Some(change) }).collect()
}

/// A version on the way.
struct Measured {
    stage: String,
    version: u64,
    /// From the call to the version, as the client sees it.
    seconds: f64,
    promoted: bool,
}

impl Measured {
    fn of(published: VersionPublished, seconds: f64) -> Self {
        let version = published.version.unwrap_or_default();
        let stage = version.report.map_or_else(String::new, |report| report.stage.to_uppercase());
        Self { stage, version: version.number, seconds, promoted: published.promoted }
    }
}

/// Applies changes and follows them to the end. With a number of epochs, nothing is learnt of the changes themselves, but by
/// a training in their classes.
async fn change(
    daemon: &mut Daemon,
    model: &str,
    changes: &[ClassChange],
    (learn, epochs, seed): (Learn, Option<u32>, u64),
) -> Result<Vec<Measured>, Box<dyn Error>> {
    let request = ApplyChangesRequest {
        model: format!("models/{model}"),
        changes: changes.to_vec(),
        learn: if epochs.is_some() { Learn::None } else { learn }.into(),
        ..ApplyChangesRequest::default()
    };
    let began = Instant::now();
    let mut steps = daemon.taxonomy.apply_changes(request).await?.into_inner();
    let mut measured = Vec::new();
    while let Some(step) = steps.message().await? {
        let seconds = began.elapsed().as_secs_f64();
        match step.result {
            Some(Step::Applied(applied)) => {
                let version = applied.version.unwrap_or_default().number;
                measured.push(Measured { stage: "INSTANT".into(), version, seconds, promoted: true });
            }
            Some(Step::Event(v1::JobEvent { event: Some(Event::Published(published)), .. })) => {
                measured.push(Measured::of(published, seconds));
            }
            Some(Step::Event(v1::JobEvent { event: Some(Event::Finished(finished)), .. })) => {
                let job = finished.job.unwrap_or_default();
                if job.state() != v1::JobState::Succeeded {
                    return Err(format!("{} did not succeed: {}", job.name, job.message).into());
                }
            }
            Some(Step::Preview(_) | Step::Event(_)) | None => {}
        }
    }
    if epochs.is_some() {
        let training =
            TrainRequest { seed: Some(seed), epochs, learn: learn.into(), ..TrainRequest::default() };
        for (published, at) in daemon.train(model, training).await? {
            measured.push(Measured::of(published, (at - began).as_secs_f64()));
        }
    }
    Ok(measured)
}

/// Accuracy on the texts of classes that do not change: the mean recall, weighted by their texts.
fn untouched(evaluated: &EvaluateResponse, touched: &BTreeSet<String>) -> f64 {
    let same = || evaluated.classes.iter().filter(|class| !touched.contains(&class.name));
    let texts: u64 = same().map(|class| class.support).sum();
    same().map(|class| class.recall * class.support as f64).sum::<f64>() / texts.max(1) as f64
}

/// A client that asks one question after the other.
struct Questions {
    stop: Arc<AtomicBool>,
    client: tokio::task::JoinHandle<()>,
    answered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl Questions {
    fn start(daemon: &Daemon, model: &str, rows: &[LabelledText]) -> Self {
        let (stop, answered, failed) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let (model, mut predict) = (format!("models/{model}"), daemon.predict.clone());
        let texts: Vec<String> = rows.iter().take(CALL).map(|row| row.text.clone()).collect();
        let client = tokio::spawn({
            let (stop, answered, failed) = (Arc::clone(&stop), Arc::clone(&answered), Arc::clone(&failed));
            async move {
                for text in texts.iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (model, texts) = (model.clone(), vec![text.clone()]);
                    let request = PredictRequest { model, texts, ..PredictRequest::default() };
                    let counter = if predict.predict(request).await.is_ok() { &answered } else { &failed };
                    counter.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            }
        });
        Self { stop, client, answered, failed }
    }

    async fn stop(self) -> Value {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.client.await.is_ok();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({ "answered": count(&self.answered), "failed": count(&self.failed) + u64::from(!ended) })
    }
}

fn show(report: &Value) {
    println!("scratch: accuracy {:.4}, {:.2} s", report["scratch"]["accuracy"], report["scratch"]["seconds"]);
    for stage in report["stages"].as_array().into_iter().flatten() {
        println!(
            "{} {}: accuracy {:.4}, {:.3} s ({:.3} of scratch; uncached {:.3} s), untouched {:.4} -> {:.4}{}",
            stage["strategy"].as_str().unwrap_or_default(),
            stage["stage"].as_str().unwrap_or_default(),
            stage["accuracy"].as_f64().unwrap_or(f64::NAN),
            stage["seconds"].as_f64().unwrap_or(f64::NAN),
            stage["share_of_scratch"].as_f64().unwrap_or(f64::NAN),
            stage["seconds_uncached"].as_f64().unwrap_or(f64::NAN),
            stage["untouched_before"].as_f64().unwrap_or(f64::NAN),
            stage["untouched_after"].as_f64().unwrap_or(f64::NAN),
            if stage["promoted"] == json!(true) { "" } else { ", not promoted" },
        );
    }
    println!(
        "predict meanwhile: {} answered, {} failed",
        report["predict"]["answered"], report["predict"]["failed"]
    );
}
