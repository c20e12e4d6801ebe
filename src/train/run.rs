//! One job from start to end: examples, plan, start network, fit, gate, publication.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    time::{Duration, Instant, SystemTime},
};

use tracing::{info, warn};

use super::{
    Current, EventKind, FitProgress, Fitted, Memory, Plan, Planned, Recipe, Sample, Strategy, TrainOptions,
    answered::Answered,
    divide::is_open,
    feed::Feed,
    fit,
    gate::{self, Comparison, Standing},
    jobs::{Shared, no_examples},
    leaves::Leaves,
    plan,
    refit::{MOST_SAMPLES, refit_all},
    start::{Samples, recipe, samples, start_network},
    stop::Stop,
    strategy::Stage,
};
use crate::{
    cancel::Cancellation,
    error::{Error, Result},
    model::Checkpoint,
    registry::{
        Batch, JobRecord, JobState, Mode, Model, Origin, Publication, PublishedManifest, Registry, Report,
        Tensors, Version,
    },
    taxonomy::{Class, ClassId, ClassName, LeafGroups, Manifest, Provenance, Revision, VersionNumber},
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
    let labels = shared.dataset.until(cancel.clone()).stats(model.uid)?.labels.into_keys().collect();
    make_plan(&shared.registry, model, &labels, "").map(|_| ())
}

/// A job under way.
struct Run<'a> {
    shared: &'a Shared,
    options: &'a TrainOptions,
    feed: &'a Feed,
    stop: &'a Stop,
    started: Instant,
    uid: u64,
    mode: Mode,
    plan: Plan,
    leaves: Leaves,
    samples: Samples,
    groups: LeafGroups,
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
) -> Result<Learnt> {
    let started = Instant::now();
    let registry = &shared.registry;
    record.state = JobState::Running;
    let model = registry.model(&record.model)?;
    let examples = shared.dataset.all(model.uid)?;
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

    let leaves = Leaves::new(registry, &model, &plan.manifest, &examples)?;
    let start = start_network(shared, &model, &leaves, &plan.manifest, &examples, mode, options)?;
    let groups = LeafGroups::new(&plan.manifest, &start.leaves)?;
    let samples = samples(&plan.manifest, &groups, &start.text_encoder()?, &examples);
    if samples.train.is_empty() {
        return Err(no_examples(&model));
    }
    let stages = options.strategy.stages(mode);
    let recipe = recipe(model.preset, mode, samples.train.len(), options);
    let epochs = if stages.contains(&Stage::Fit) { recipe.epochs } else { 0 };
    feed.send(EventKind::Planned(Planned {
        mode,
        reason: plan.reason.clone(),
        added: plan.added.clone(),
        train_examples: samples.train.len() as u64,
        validation_examples: samples.validation.len() as u64,
        epochs,
    }));
    let trained = samples.train.len();
    let kept = shared.features.fits(trained, start.architecture.features());
    let read = if stages.contains(&Stage::Refit) { trained.min(MOST_SAMPLES) } else { 0 };
    let featured = if kept { trained } else { read };
    let memory = Memory::estimate(&start, &samples.train, &samples.validation, &recipe, featured);
    info!(estimate = %memory, "memory");
    memory.check(shared.memory_limit)?;

    let mut standing = match model.serving() {
        Some(number) => {
            let own = registry.manifest(&model.id, registry.version(&model.id, number)?.revision)?;
            let answered = Answered::by(shared, &model.id, number, examples, &Cancellation::default())?;
            let (confusion, columns) = answered.confusion(&own, &plan.manifest)?;
            Standing::new(&confusion, &columns).map(|standing| (standing, untouched(&own, &plan.manifest)))
        }
        None => None,
    };
    let uid = model.uid;
    let run = Run { shared, options, feed, stop, started, uid, mode, plan, leaves, samples, groups };
    let (mut network, mut serving) = (start, model.serving());
    let mut wide = recipe.wide;
    for (index, stage) in stages.iter().enumerate() {
        let fitted = run.learn(*stage, &network, &Recipe { wide, ..recipe.clone() })?;
        let next = fitted.checkpoint.clone();
        let candidate =
            fitted.confusion.as_ref().and_then(|confusion| Standing::new(confusion, &run.groups.classes));
        let is_last = index + 1 == stages.len();
        let gated = (&standing, &candidate);
        if let Some(promoted) = run.publish(*stage, is_last, fitted, recipe.epochs, gated, serving, record)? {
            (network, serving) = (next, Some(promoted));
            // What was fitted of the wide branch is not fitted again, unless it was on a part of the examples.
            if run.samples.train.len() <= MOST_SAMPLES {
                wide.epochs = 0;
            }
            // From now on nothing that the change touched is new.
            let all = run.groups.classes.clone();
            standing = candidate.map(|candidate| (candidate, all));
        }
        if stop.is_set() {
            return Err(Error::Cancelled);
        }
    }
    Ok(Learnt { network, samples: run.samples, uid })
}

/// What a job leaves: the network that serves, and what it was learnt from.
pub(super) struct Learnt {
    network: Checkpoint,
    samples: Samples,
    uid: u64,
}

impl Learnt {
    /// Computes what the encoder makes of the examples and keeps it for the next change, unless there is no room or
    /// `stop` is set.
    pub(super) fn keep_features(&self, shared: &Shared, stop: &Stop) -> Result<()> {
        let Samples { train, train_ids, validation, validation_ids } = &self.samples;
        let mut of: Vec<(u64, &Sample)> = train_ids.iter().copied().zip(train).collect();
        of.extend(validation_ids.iter().copied().zip(validation));
        if !shared.features.fits(of.len(), self.network.architecture.features()) {
            return Ok(());
        }
        of.sort_unstable_by_key(|(id, _)| *id);
        let (ids, samples): (Vec<u64>, Vec<&Sample>) = of.into_iter().unzip();
        let kept = shared.kept(self.uid);
        let mut go_on = |_| if stop.is_set() { Err(Error::Cancelled) } else { Ok(()) };
        kept.of(&self.network).fill(&samples, &ids, &mut go_on)
    }
}

/// The classes that are in both manifests and own the same leaves.
fn untouched(before: &Manifest, after: &Manifest) -> Vec<ClassId> {
    let same = |class: &&Class| before.classes.get(&class.id).is_some_and(|old| old.state == class.state);
    after.active().filter(same).map(|class| class.id).collect()
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
            ControlFlow::Continue(())
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
        (replaced, candidate): (&Option<(Standing, Vec<ClassId>)>, &Option<Standing>),
        serving: Option<VersionNumber>,
        record: &mut JobRecord,
    ) -> Result<Option<VersionNumber>> {
        let Self { shared, options, feed, stop, plan, .. } = self;
        // A change of the classes that began before this stops the job first, so that neither publishes over the other.
        let changing = shared.lock_changes();
        let decision = match (stop.is_set(), stop.is_cancelled()) {
            (false, _) => Comparison {
                replaced: replaced.as_ref().map(|(standing, _)| standing),
                candidate: candidate.as_ref(),
                untouched: replaced.as_ref().map(|(_, untouched)| untouched.clone()).unwrap_or_default(),
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
                .as_ref()
                .filter(|_| !was_cancelled)
                .map(|(standing, _)| standing.accuracy),
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
