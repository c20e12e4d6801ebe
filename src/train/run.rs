//! One job from start to end: examples, plan, start network, fit, gate, publication.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    time::{Duration, Instant, SystemTime},
};

use rayon::prelude::*;
use tracing::{info, warn};

use super::{
    Current, EventKind, FitProgress, Fitted, Memory, Plan, Planned, Recipe, Sample, TrainOptions,
    answered::Answered,
    feed::Feed,
    fit, gate,
    jobs::{Shared, Stop, no_examples},
    leaves::Leaves,
    plan,
};
use crate::{
    dataset::{Example, Split},
    error::{Error, Result},
    model::{Architecture, Checkpoint, VectorFile, from_vectors, surgery},
    registry::{
        JobRecord, JobState, Mode, Model, Origin, PretrainedVectors, Publication, PublishedManifest,
        Registry, Report, Tensors, Version,
    },
    taxonomy::{ClassName, LeafGroups, LeafId, Manifest, Meaning, Provenance, Revision, VersionNumber},
    text::TextEncoder,
};

/// Progress is passed on at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// The examples of a model, ready to learn from: each with the column of its class.
pub(super) struct Samples {
    pub(super) train: Vec<Sample>,
    pub(super) validation: Vec<Sample>,
}

/// Refuses a model whose training could only fail.
pub(super) fn check_trainable(shared: &Shared, model: &Model) -> Result<()> {
    if shared.dataset.count(model.uid)? == 0 {
        return Err(no_examples(model));
    }
    let labels = shared.dataset.stats(model.uid)?.labels.into_keys().collect();
    make_plan(&shared.registry, model, &labels).map(|_| ())
}

/// Runs a job. Leaves the record as it shall be stored when the job succeeded.
///
/// # Errors
/// [`Error::Cancelled`] once `stop` is set; else what kept the job from succeeding. Where the job was cancelled, what its
/// best epoch learnt is stored first, as a version that is not promoted.
pub(super) fn run(
    shared: &Shared,
    record: &mut JobRecord,
    options: &TrainOptions,
    feed: &Feed,
    stop: &Stop,
) -> Result<()> {
    let started = Instant::now();
    let registry = &shared.registry;
    record.state = JobState::Running;
    let model = registry.model(&record.model)?;
    let examples = shared.dataset.all(model.uid)?;
    let labels: BTreeSet<ClassName> = examples.iter().map(|example| example.label.clone()).collect();
    let plan = make_plan(registry, &model, &labels)?;
    (record.mode, record.mode_reason) = (Some(plan.mode), plan.reason.clone());
    registry.put_job(record)?;
    info!(mode = ?plan.mode, reason = plan.reason, "planned");
    if !plan.ambiguous.is_empty() {
        warn!(labels = plan.ambiguous.len(), "labels that could mean several classes take no part");
    }

    let leaves = Leaves::new(registry, &model, &plan.manifest, &examples)?;
    let start = start_network(shared, &model, &leaves, &examples, options.seed)?;
    let groups = LeafGroups::new(&plan.manifest, &start.leaves)?;
    let samples = samples(&plan.manifest, &groups, &start.text_encoder()?, &examples);
    if samples.train.is_empty() {
        return Err(no_examples(&model));
    }
    let recipe = recipe(model.preset, plan.mode, samples.train.len(), options);
    feed.send(EventKind::Planned(Planned {
        mode: plan.mode,
        reason: plan.reason.clone(),
        added: plan.added.clone(),
        train_examples: samples.train.len() as u64,
        validation_examples: samples.validation.len() as u64,
        epochs: recipe.epochs,
    }));

    let memory = Memory::estimate(&start, &samples.train, &samples.validation, &recipe);
    info!(estimate = %memory, "memory");
    memory.check(shared.memory_limit)?;

    let mut passed_on: Option<(Instant, u32)> = None;
    let fitted = fit(
        &start,
        &samples.train,
        &samples.validation,
        &groups,
        &recipe,
        options.seed,
        &shared.device,
        &mut |progress: &FitProgress| {
            if stop.is_set() {
                return ControlFlow::Break(());
            }
            if passed_on.is_none_or(|(at, epoch)| at.elapsed() >= PROGRESS_EVERY || epoch != progress.epoch) {
                passed_on = Some((Instant::now(), progress.epoch));
                feed.send(EventKind::Progress(progress.clone()));
            }
            ControlFlow::Continue(())
        },
    )?;

    let replaced = match model.serving() {
        // Nothing will be replaced.
        _ if stop.is_set() => None,
        Some(number) => {
            let own = registry.manifest(&model.id, registry.version(&model.id, number)?.revision)?;
            let answered = Answered::by(shared, &model.id, number, examples)?;
            answered.score(&own, &plan.manifest)?.accuracy()
        }
        None => None,
    };
    // A change of the classes that began before this stops the job first, so that neither publishes over the other.
    let changing = shared.lock_changes();
    let decision = match (stop.is_set(), stop.is_cancelled()) {
        (false, _) => gate::decide(replaced, fitted.validation_accuracy),
        (true, true) => gate::cancelled(fitted.epochs, recipe.epochs),
        (true, false) => return Err(Error::Cancelled),
    };
    info!(gate = decision.explanation, seconds = started.elapsed().as_secs_f64(), "learnt");
    record.state = if stop.is_set() { JobState::Cancelled } else { JobState::Succeeded };
    record.ended = Some(SystemTime::now());
    let report = Report {
        train_examples: samples.train.len() as u64,
        validation_examples: samples.validation.len() as u64,
        validation_accuracy: fitted.validation_accuracy,
        validation_macro_f1: fitted.validation_macro_f1,
        replaced_validation_accuracy: replaced,
        train_loss: fitted.train_loss,
        epochs: fitted.epochs,
        best_epoch: fitted.best_epoch,
        seed: options.seed,
        seconds: started.elapsed().as_secs_f64(),
        gate: decision.explanation,
        calibration_error: fitted.calibration_error,
        device: fitted.device.clone(),
        rejection: fitted.rejection.clone(),
        curve: fitted.curve.clone(),
        unlearnt: leaves.unlearnt(),
    };
    let version = publish(registry, &model, plan, fitted, report, decision.promote, record)?;
    record.versions.push(version.number);
    if decision.promote {
        (shared.promoted)(&version);
    }
    drop(changing);
    let seconds = started.elapsed().as_secs_f64();
    feed.send(EventKind::Published { version: Box::new(version), promoted: decision.promote, seconds });
    if record.state == JobState::Cancelled { Err(Error::Cancelled) } else { Ok(()) }
}

fn publish(
    registry: &Registry,
    model: &Model,
    plan: Plan,
    fitted: Fitted,
    report: Report,
    promote: bool,
    record: &JobRecord,
) -> Result<Version> {
    let known = plan.manifest.revision.0 <= model.latest_revision;
    let manifest = if known {
        PublishedManifest::Existing(plan.manifest.revision)
    } else {
        PublishedManifest::New(plan.manifest)
    };
    registry.publish(Publication {
        model: model.id.clone(),
        tensors: Tensors::New(fitted.checkpoint),
        manifest,
        parent: model.serving(),
        origin: Origin::Training,
        mode: Some(plan.mode),
        reason: plan.reason,
        job: Some(record.id),
        report: Some(report),
        promote,
        expected_serving: Some(model.serving()),
        job_record: Some(record.clone()),
        receipt: None,
    })
}

fn make_plan(registry: &Registry, model: &Model, labels: &BTreeSet<ClassName>) -> Result<Plan> {
    let serving = model.serving().map(|number| registry.version(&model.id, number)).transpose()?;
    // Of a first training that was cancelled there is a manifest, whose ids are given out.
    let revision = match (&serving, model.latest_revision) {
        (Some(version), _) => Some(version.revision),
        (None, 0) => None,
        (None, newest) => Some(Revision(newest)),
    };
    let manifest = revision.map(|revision| registry.manifest_to_change(model, revision)).transpose()?;
    let learnt = match &serving {
        Some(version) => is_learnt(registry, version)?,
        None => false,
    };
    let provenance = Provenance {
        revision: Revision(model.latest_revision + 1),
        serving: model.serving().unwrap_or(VersionNumber(0)),
        reason: "labels of the examples".into(),
        created: SystemTime::now(),
    };
    let serves = serving.is_some();
    plan(
        &model.id,
        manifest.as_ref().map(|manifest| Current { manifest, serves, learnt }),
        labels,
        provenance,
    )
}

/// Whether a version was learnt in the classes it answers in. What an undo restored counts as what it restored, and what
/// a change made that left every class its leaves as what it was made of.
fn is_learnt(registry: &Registry, version: &Version) -> Result<bool> {
    let Some(parent) = version.parent.filter(|_| version.origin != Origin::Training) else {
        return Ok(version.origin == Origin::Training);
    };
    let parent = registry.version(&version.model, parent)?;
    if version.origin == Origin::Instant {
        let manifest = |version: &Version| registry.manifest(&version.model, version.revision);
        if !manifest(version)?.has_leaves_of(&manifest(&parent)?) {
            return Ok(false);
        }
    }
    is_learnt(registry, &parent)
}

/// The network that the training starts from: new, with word vectors if the model was made with some, or the serving one
/// with the rows that the manifest needs and the vocabulary that the examples bring.
fn start_network(
    shared: &Shared,
    model: &Model,
    leaves: &Leaves,
    examples: &[Example],
    seed: u64,
) -> Result<Checkpoint> {
    let all: Vec<LeafId> = leaves.all.iter().copied().collect();
    let texts = || examples.iter().filter(|e| e.split == Split::Train).map(|e| e.text.as_str());
    let architecture = Architecture::preset(model.preset);
    match (model.serving(), &model.word_vectors) {
        (None, None) => Ok(surgery::from_scratch(architecture, texts(), &all, seed)),
        (None, Some(PretrainedVectors { file, frozen })) => {
            let input = shared.vectors.open(file)?;
            let file = VectorFile { name: file.to_string(), input, frozen: *frozen };
            from_vectors(architecture, texts(), &all, seed, file)
        }
        (Some(number), _) => {
            let serving = shared.registry.checkpoint(&model.id, number)?;
            let grown = surgery::with_vocabulary_of(&serving, texts(), seed)?;
            let fresh = leaves.fresh();
            let kept: Vec<LeafId> = all.iter().filter(|leaf| !fresh.contains(leaf)).copied().collect();
            surgery::with_leaves(&surgery::with_leaves(&grown, &kept, seed)?, &all, seed)
        }
    }
}

/// Encodes the examples whose label means one class of the manifest.
pub(super) fn samples(
    manifest: &Manifest,
    groups: &LeafGroups,
    encoder: &TextEncoder,
    examples: &[Example],
) -> Samples {
    let mut columns: BTreeMap<&ClassName, Option<u32>> = BTreeMap::new();
    let mut meant = Vec::with_capacity(examples.len());
    for example in examples {
        let column =
            *columns.entry(&example.label).or_insert_with(|| match manifest.meaning(&example.label) {
                Meaning::Class(id) => groups.column(id),
                Meaning::Ambiguous(_) | Meaning::Removed | Meaning::Unknown => None,
            });
        meant.extend(column.map(|class| (example, class)));
    }
    let encode = |&(example, class): &(&Example, u32)| Sample { text: encoder.encode(&example.text), class };
    let encoded: Vec<Sample> = meant.par_iter().map(encode).collect();
    let mut samples = Samples { train: Vec::new(), validation: Vec::new() };
    for ((example, _), sample) in meant.into_iter().zip(encoded) {
        match example.split {
            Split::Train => samples.train.push(sample),
            Split::Validation => samples.validation.push(sample),
        }
    }
    samples
}

fn recipe(preset: crate::model::Preset, mode: Mode, examples: usize, options: &TrainOptions) -> Recipe {
    let recipe = Recipe::for_training(preset, mode, examples);
    let recipe = match options.optimiser {
        Some(optimiser) => recipe.with_optimiser(optimiser, mode),
        None => recipe,
    };
    Recipe {
        epochs: options.epochs.unwrap_or(recipe.epochs),
        learning_rate: options.learning_rate.unwrap_or(recipe.learning_rate),
        word_shuffle: options.word_shuffle.unwrap_or(recipe.word_shuffle),
        ..recipe
    }
}
