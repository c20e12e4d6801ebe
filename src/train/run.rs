//! One job from start to end: examples, plan, start network, fit, gate, publication.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    time::{Duration, Instant, SystemTime},
};

use tracing::{info, warn};

use super::{
    Current, EventKind, FitProgress, Fitted, Memory, Plan, Planned, Recipe, Sample, Strategy, TrainOptions,
    claim::{Claim, Need},
    divide::is_open,
    feed::Feed,
    fit,
    gate::{self, Comparison},
    jobs::{Shared, no_examples},
    leaves::Leaves,
    plan,
    refit::{MOST_SAMPLES, refit_all},
    standing::{Candidate, Compared, Replaced},
    start::{Samples, recipe, samples, start_network},
    stop::Stop,
    strategy::Stage,
    warnings::{named, warnings},
    work::Turn,
};
use crate::{
    cancel::Cancellation,
    dataset::{Meanings, hold_out},
    error::{Error, Result},
    model::{Checkpoint, Device},
    registry::{
        Batch, JobRecord, JobState, Mode, Model, Origin, Publication, PublishedManifest, Registry, Report,
        Tensors, Version,
    },
    taxonomy::{ClassName, LeafGroups, Provenance, Revision, VersionNumber},
};

/// Progress is passed on at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Refuses a model whose training could only fail.
pub(super) fn check_trainable(
    shared: &Shared,
    model: &Model,
    strategy: Strategy,
    cancel: &Cancellation,
) -> Result<()> {
    if shared.dataset.count(model.uid)? == 0 {
        return Err(no_examples(model));
    }
    if model.serving().is_none() && matches!(strategy, Strategy::HeadOnly | Strategy::FineTune) {
        return Err(Error::Precondition {
            reason: "NO_VERSION",
            subject: model.id.name(),
            description: format!(
                "{} has no version whose network could stay; learn with AUTO",
                model.id.name()
            ),
        });
    }
    let stats = shared.dataset.until(cancel.clone()).stats(model.uid, &Meanings::new(None))?;
    let labels = stats.labels.into_keys().collect();
    make_plan(&shared.registry, model, &labels, "").map(|_| ())
}

/// A job under way.
struct Run<'a> {
    shared: &'a Shared,
    options: &'a TrainOptions,
    feed: &'a Feed,
    turn: Turn<'a>,
    stop: &'a Stop,
    started: Instant,
    uid: u64,
    mode: Mode,
    plan: Plan,
    leaves: Leaves,
    samples: Samples,
    groups: LeafGroups,
    /// What versions are compared on.
    compared: Compared,
    /// Classes whose few examples all train.
    small: Vec<ClassName>,
}

/// How a job was run.
pub(super) enum Ran {
    /// To its end.
    Learnt(Learnt),
    /// Not at all: there is no room for it beside the jobs in progress.
    NoRoom(Claim),
}

/// Runs a job. Leaves the record as it shall be stored when the job succeeded.
///
/// Until it is known what it takes it computes in one piece; then it offers its turn between steps.
///
/// # Errors
/// [`Error::Cancelled`] once the job was stopped; else what kept the job from succeeding. Where the job was cancelled, what
/// its best epoch learnt is stored first, as a version that is not promoted.
pub(super) fn run(
    shared: &Shared,
    record: &mut JobRecord,
    options: &TrainOptions,
    feed: &Feed,
    turn: Turn<'_>,
) -> Result<Ran> {
    let (started, stop) = (Instant::now(), turn.stop());
    let registry = &shared.registry;
    record.state = JobState::Running;
    let model = registry.model(&record.model)?;
    let mut examples = shared.dataset.all(model.uid)?;
    let labels: BTreeSet<ClassName> = examples.iter().map(|example| example.label.clone()).collect();
    let mut plan = make_plan(registry, &model, &labels, &options.author)?;
    let mode = options.strategy.mode(plan.mode);
    plan.reason.push_str(options.strategy.note());
    (record.mode, record.mode_reason) = (Some(mode), plan.reason.clone());
    registry.put_job(record)?;
    info!(?mode, reason = plan.reason, "planned");
    let open = examples.iter().filter(|example| is_open(example, &plan.manifest)).count();
    if open > 0 {
        warn!(examples = open, "examples that could belong to several classes take no part");
    }

    let small = named(&hold_out(&mut examples, &plan.manifest), &plan.manifest);
    stop.check()?;
    let leaves = Leaves::new(registry, &model, &plan.manifest, &examples)?;
    let start = start_network(shared, &model, &leaves, &plan.manifest, &examples, mode, options)?;
    let groups = LeafGroups::new(&plan.manifest, &start.leaves)?;
    stop.check()?;
    let samples = samples(&plan.manifest, &groups, &start.text_encoder()?, &examples);
    if samples.train.is_empty() {
        return Err(no_examples(&model));
    }
    let stages = options.strategy.stages(mode);
    let recipe = recipe(model.preset, mode, samples.train.len(), options);
    let epochs = if stages.contains(&Stage::Fit) { recipe.epochs } else { 0 };
    let trained = samples.train.len();
    let kept = shared.features.fits(trained, start.architecture.features());
    let read = if stages.contains(&Stage::Refit) { trained.min(MOST_SAMPLES) } else { 0 };
    let featured = if kept { trained } else { read };
    let memory = Memory::estimate(&start, &samples.train, &samples.validation, &recipe, featured);
    info!(estimate = %memory, "memory");
    let within_limit = memory.check(shared.memory_limit);
    if within_limit.is_ok()
        && let Err(claim) = turn.reserve(need(&memory, &shared.device))
    {
        return Ok(Ran::NoRoom(claim));
    }
    let warnings = warnings(&small, samples.validation.len());
    warnings.iter().for_each(|warning| warn!("{warning}"));
    let small: Vec<ClassName> = small.into_iter().map(|(name, _)| name).collect();
    feed.send(EventKind::Planned(Planned {
        mode,
        reason: plan.reason.clone(),
        added: plan.added.clone(),
        train_examples: samples.train.len() as u64,
        validation_examples: samples.validation.len() as u64,
        epochs,
        small_classes: small.clone(),
        warnings,
    }));
    within_limit?;
    turn.offer_or_end()?;

    let compared = Compared::new(&samples);
    let mut replaced = match model.serving() {
        Some(number) => compared.replaced(shared, (&model, number), &plan.manifest, &samples, examples)?,
        None => None,
    };
    let uid = model.uid;
    turn.offer_or_end()?;
    let run = Run {
        shared,
        options,
        feed,
        turn,
        stop,
        started,
        uid,
        mode,
        plan,
        leaves,
        samples,
        groups,
        compared,
        small,
    };
    let (mut network, mut serving) = (start, model.serving());
    let mut wide = recipe.wide;
    for (index, stage) in stages.iter().enumerate() {
        let fitted = run.learn(*stage, &network, &Recipe { wide, ..recipe.clone() })?;
        let next = fitted.checkpoint.clone();
        let candidate = run.compared.candidate(&fitted, &run.samples, &run.groups)?;
        let validation_accuracy = fitted.validation_accuracy;
        let is_last = index + 1 == stages.len();
        let gated = (replaced.as_ref(), &candidate);
        if let Some(promoted) = run.publish(*stage, is_last, fitted, recipe.epochs, gated, serving, record)? {
            (network, serving) = (next, Some(promoted));
            // What was fitted of the wide branch is not fitted again, unless it was on a part of the examples.
            if run.samples.train.len() <= MOST_SAMPLES {
                wide.epochs = 0;
            }
            // From now on nothing that the change touched is new.
            let untouched = run.groups.classes.clone();
            replaced =
                candidate.standing.map(|standing| Replaced { standing, validation_accuracy, untouched });
        }
        turn.offer_or_end()?;
    }
    Ok(Ran::Learnt(Learnt { network, samples: run.samples, uid }))
}

/// What a training takes of the machine and, for what lies there, of the device.
fn need(memory: &Memory, device: &Device) -> Need {
    let device = match device {
        Device::Cpu => 0,
        Device::Cuda(_) => memory.network + memory.optimiser + memory.batch,
    };
    Need { memory: memory.total(), device }
}

/// What a job leaves: the network that serves, and what it was learnt from.
pub(super) struct Learnt {
    network: Checkpoint,
    samples: Samples,
    uid: u64,
}

impl Learnt {
    /// Computes what the encoder makes of the examples and keeps it for the next change, unless there is no room or
    /// the daemon stops.
    pub(super) fn keep_features(&self, shared: &Shared, turn: Turn<'_>) -> Result<()> {
        let Samples { train, train_ids, validation, validation_ids } = &self.samples;
        let mut of: Vec<(u64, &Sample)> = train_ids.iter().copied().zip(train).collect();
        of.extend(validation_ids.iter().copied().zip(validation));
        if !shared.features.fits(of.len(), self.network.architecture.features()) {
            return Ok(());
        }
        of.sort_unstable_by_key(|(id, _)| *id);
        let (ids, samples): (Vec<u64>, Vec<&Sample>) = of.into_iter().unzip();
        let kept = shared.kept(self.uid);
        let mut go_on = |_| turn.offer_or_end();
        kept.of(&self.network).fill(&samples, &ids, &mut go_on)
    }
}

impl Run<'_> {
    /// Takes a network through a stage.
    fn learn(&self, stage: Stage, network: &Checkpoint, recipe: &Recipe) -> Result<Fitted> {
        let mut passed_on: Option<(Instant, u32, &str)> = None;
        let mut observe = |progress: &FitProgress| {
            if self.stop.is_set() {
                return ControlFlow::Break(());
            }
            let recent = passed_on.is_some_and(|(at, epoch, stage)| {
                at.elapsed() < PROGRESS_EVERY && (epoch, stage) == (progress.epoch, progress.stage)
            });
            if !recent {
                passed_on = Some((Instant::now(), progress.epoch, progress.stage));
                self.feed.send(EventKind::Progress(progress.clone()));
            }
            self.turn.offer()
        };
        let Samples { train, validation, .. } = &self.samples;
        match stage {
            Stage::Refit => {
                let observe = &mut |progress: &FitProgress| match observe(progress) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(Error::Cancelled),
                };
                let how = (self.options.seed, self.shared.kept(self.uid));
                refit_all(network, &self.samples, &self.groups, recipe, how, observe)
            }
            Stage::Fit => {
                let (seed, device) = (self.options.seed, &self.shared.device);
                fit(network, train, validation, &self.groups, recipe, seed, device, &mut observe)
            }
        }
    }

    /// Stores what a stage learnt and, if the gate lets it, promotes it in place of the version that serves. The version if
    /// it was promoted.
    #[expect(clippy::too_many_arguments, reason = "what a stage made, and what it is compared with")]
    fn publish(
        &self,
        stage: Stage,
        is_last: bool,
        fitted: Fitted,
        planned_epochs: u32,
        (replaced, candidate): (Option<&Replaced>, &Candidate),
        serving: Option<VersionNumber>,
        record: &mut JobRecord,
    ) -> Result<Option<VersionNumber>> {
        let Self { shared, options, feed, stop, plan, .. } = self;
        // A change of the classes that began before this stops the job first, so that neither publishes over the other.
        let changing = shared.lock_changes();
        let decision = match (stop.is_set(), stop.is_cancelled()) {
            (false, _) => Comparison {
                basis: self.compared.basis,
                learnt_nothing: candidate.learnt_nothing.clone(),
                small: &self.small,
                replaced: replaced.map(|replaced| &replaced.standing),
                candidate: candidate.standing.as_ref(),
                untouched: replaced.map(|replaced| replaced.untouched.clone()).unwrap_or_default(),
                manifest: &plan.manifest,
            }
            .decide(shared.tolerance, options.force),
            (true, true) => gate::cancelled(fitted.epochs, planned_epochs),
            (true, false) => return Err(Error::Cancelled),
        };
        let seconds = self.started.elapsed().as_secs_f64();
        info!(stage = stage.name(), gate = decision.explanation, seconds, "learnt");
        if is_last || stop.is_set() {
            record.state = if stop.is_set() { JobState::Cancelled } else { JobState::Succeeded };
            record.ended = Some(SystemTime::now());
        }
        let was_cancelled = stop.is_set();
        let report = Report {
            train_examples: self.samples.train.len() as u64,
            validation_examples: self.samples.validation.len() as u64,
            validation_accuracy: fitted.validation_accuracy,
            validation_macro_f1: fitted.validation_macro_f1,
            replaced_validation_accuracy: replaced
                .filter(|_| !was_cancelled)
                .and_then(|replaced| replaced.validation_accuracy),
            train_loss: fitted.train_loss,
            epochs: fitted.epochs,
            best_epoch: fitted.best_epoch,
            seed: options.seed,
            seconds,
            gate: decision.explanation,
            calibration_error: fitted.calibration_error,
            device: fitted.device.clone(),
            rejection: fitted.rejection.clone(),
            curve: fitted.curve.clone(),
            unlearnt: self.leaves.unlearnt(),
            stage: stage.name().to_owned(),
            lost: decision.lost,
        };
        let version = self.store(fitted, report, decision.promote, serving, record)?;
        record.versions.push(version.number);
        if decision.promote {
            (shared.promoted)(&version);
        }
        drop(changing);
        let (promoted, number) = (decision.promote, version.number);
        feed.send(EventKind::Published { version: Box::new(version), promoted, seconds });
        Ok(promoted.then_some(number))
    }

    fn store(
        &self,
        fitted: Fitted,
        report: Report,
        promote: bool,
        serving: Option<VersionNumber>,
        record: &JobRecord,
    ) -> Result<Version> {
        let Self { shared, plan, mode, .. } = self;
        let model = shared.registry.model(&record.model)?;
        let known = plan.manifest.revision.0 <= model.latest_revision;
        let manifest = match known {
            true => PublishedManifest::Existing(plan.manifest.revision),
            false => PublishedManifest::New(Box::new(plan.manifest.clone())),
        };
        shared.registry.publish(Publication {
            model: model.id,
            tensors: Tensors::New(fitted.checkpoint),
            manifest,
            parent: serving,
            origin: Origin::Training,
            mode: Some(*mode),
            reason: plan.reason.clone(),
            job: Some(record.id),
            new_job: None,
            report: Some(report),
            lineage: None,
            fitted: Vec::new(),
            promote,
            expected_serving: Some(serving),
            job_record: Some(record.clone()),
            receipt: None,
            also: Batch::new(),
        })
    }
}

fn make_plan(registry: &Registry, model: &Model, labels: &BTreeSet<ClassName>, author: &str) -> Result<Plan> {
    let serving = model.serving().map(|number| registry.version(&model.id, number)).transpose()?;
    // Of a first training that was cancelled there is a manifest, whose ids are given out.
    let revision = match (&serving, model.latest_revision) {
        (Some(version), _) => Some(version.revision),
        (None, 0) => None,
        (None, newest) => Some(Revision(newest)),
    };
    let manifest = revision.map(|revision| registry.manifest_to_change(model, revision)).transpose()?;
    let learnt = match &serving {
        Some(version) => registry.is_learnt(version)?,
        None => false,
    };
    let provenance = Provenance {
        revision: Revision(model.latest_revision + 1),
        serving: model.serving().unwrap_or(VersionNumber(0)),
        reason: "labels of the examples".into(),
        author: author.to_owned(),
        created: SystemTime::now(),
    };
    let serves = serving.is_some();
    let current = manifest.as_ref().map(|manifest| Current { manifest, serves, learnt });
    let plan = plan(&model.id, current, labels, provenance)?;
    registry.check_classes(&model.id, manifest.as_ref(), &plan.manifest)?;
    Ok(plan)
}
