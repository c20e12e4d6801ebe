//! Domain types as messages of the API.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::SystemTime,
};

use prost_types::Timestamp;

use super::page::{self, PAGE_BYTES, Page};
use crate::{
    dataset::{self, Example, Meanings},
    error::Result,
    model::Preset,
    predict,
    proto::v1,
    registry::{
        self, Epoch, JobRecord, JobState, LostClass, Mode, ModelId, Origin, RejectionPoint, Report, Version,
    },
    taxonomy::{Change, Class, ClassId, ClassName, ClassState, Manifest, Unresolved},
    train::{
        ConfusedExample, Contradiction, Division, Event, EventKind, FitProgress, RelabelSuggestions, Share,
        SplitSuggestions, SuggestedPair, SuggestedPart, SuggestedSplit, Suggestions,
    },
};

/// Classes that are gone of a manifest that stands beside other things.
const MAX_GONE: usize = 100;
/// Bytes of a manifest that stands beside other things, and of the splits beside it.
const MANIFEST_BYTES: usize = PAGE_BYTES / 3 * 2;
const SPLIT_BYTES: usize = PAGE_BYTES / 3;
/// Bytes of the names of classes that a training adds.
const ADDED_BYTES: usize = PAGE_BYTES / 3;
/// Former names of a class that are shown at most.
const MAX_FORMER_NAMES: usize = 1000;
/// Classes that lost by a training that are shown at most.
const MAX_LOST: usize = 1000;
/// Examples of a text in conflict that are shown at most.
const MAX_CONFLICTING: usize = 20;
/// Small classes that the plan of a job names at most.
const MAX_SMALL: usize = 100;

pub(super) fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Some(Timestamp::from(time))
}

pub(super) fn preset(preset: Preset) -> v1::Preset {
    match preset {
        Preset::Default => v1::Preset::Default,
        Preset::Seed => v1::Preset::Seed,
    }
}

fn mode(mode: Option<Mode>) -> v1::TrainingMode {
    match mode {
        None => v1::TrainingMode::Unspecified,
        Some(Mode::Scratch) => v1::TrainingMode::Scratch,
        Some(Mode::Continue) => v1::TrainingMode::Continue,
        Some(Mode::Transfer) => v1::TrainingMode::Transfer,
    }
}

pub(super) fn origin(origin: Origin) -> v1::VersionOrigin {
    match origin {
        Origin::Training => v1::VersionOrigin::Training,
        Origin::Instant => v1::VersionOrigin::Instant,
        Origin::Undo => v1::VersionOrigin::Undo,
        Origin::Import => v1::VersionOrigin::Import,
    }
}

fn job_state(state: JobState) -> v1::JobState {
    match state {
        JobState::Queued => v1::JobState::Queued,
        JobState::Running => v1::JobState::Running,
        JobState::Succeeded => v1::JobState::Succeeded,
        JobState::Failed => v1::JobState::Failed,
        JobState::Cancelled => v1::JobState::Cancelled,
        JobState::Interrupted => v1::JobState::Interrupted,
        JobState::Superseded => v1::JobState::Superseded,
    }
}

/// What the record of a model does not hold itself.
#[derive(Debug, Default)]
pub(super) struct ModelFacts {
    pub(super) manifest_revision: u64,
    pub(super) class_count: usize,
    pub(super) example_count: u64,
    pub(super) running_job: Option<registry::JobId>,
}

pub(super) fn model(model: registry::Model, facts: ModelFacts) -> v1::Model {
    v1::Model {
        name: model.id.name(),
        preset: preset(model.preset).into(),
        word_vectors: model
            .word_vectors
            .map(|vectors| v1::WordVectors { file: vectors.file.to_string(), frozen: vectors.frozen }),
        aliases: model.aliases.iter().map(|(alias, number)| (alias.to_string(), number.0)).collect(),
        manifest_revision: facts.manifest_revision,
        latest_version: model.latest_version,
        class_count: facts.class_count as u32,
        example_count: facts.example_count,
        running_job: facts.running_job.map(registry::JobId::name).unwrap_or_default(),
        etag: model.sequence.to_string(),
        create_time: timestamp(model.created),
    }
}

pub(super) fn version(version: Version) -> v1::Version {
    v1::Version {
        name: version.model.version_name(version.number),
        number: version.number.0,
        parent: version.parent.map_or(0, |parent| parent.0),
        manifest_revision: version.revision.0,
        origin: origin(version.origin).into(),
        mode: mode(version.mode).into(),
        reason: version.reason,
        job: version.job.map(registry::JobId::name).unwrap_or_default(),
        report: version.report.map(report),
        size_bytes: version.size_bytes,
        parameter_count: version.parameter_count,
        create_time: timestamp(version.created),
    }
}

fn report(report: Report) -> v1::TrainingReport {
    v1::TrainingReport {
        train_examples: report.train_examples,
        validation_examples: report.validation_examples,
        validation_accuracy: report.validation_accuracy,
        validation_macro_f1: report.validation_macro_f1,
        replaced_validation_accuracy: report.replaced_validation_accuracy,
        train_loss: report.train_loss,
        epochs: report.epochs,
        best_epoch: report.best_epoch,
        seed: report.seed,
        seconds: report.seconds,
        gate: report.gate,
        curve: report.curve.into_iter().map(epoch).collect(),
        calibration_error: report.calibration_error,
        device: report.device.clone(),
        stage: report.stage.clone(),
        lost: report
            .lost
            .iter()
            .take(MAX_LOST)
            .cloned()
            .map(|LostClass { name, f1_before, f1_after }| v1::LostClass { name, f1_before, f1_after })
            .collect(),
        rejection: report.rejection.into_iter().map(rejection_point).collect(),
    }
}

fn epoch(epoch: Epoch) -> v1::TrainingEpoch {
    v1::TrainingEpoch {
        epoch: epoch.epoch,
        step: epoch.step,
        train_loss: epoch.train_loss,
        learning_rate: epoch.learning_rate,
        validation_accuracy: epoch.validation_accuracy,
        seconds: epoch.seconds,
        validation_loss: epoch.validation_loss,
    }
}

/// How splits divide the examples, as many as fit beside a manifest, and how many were left out; `manifest` holds the parts
/// and what they were.
pub(super) fn divided(divisions: &[Division], manifest: &Manifest) -> (Vec<v1::DividedClass>, u32) {
    let name = |id| manifest.classes.get(&id).map_or_else(String::new, |class| class.name.to_string());
    let part = |part: &Share| v1::DividedPart {
        name: name(part.class),
        train: part.train,
        validation: part.validation,
    };
    let divided = divisions.iter().map(|division| v1::DividedClass {
        class_name: name(division.class),
        parts: division.parts.iter().map(part).collect(),
        unassigned: division.unassigned,
        unmatched_texts: division.unmatched_texts,
    });
    let (divided, omitted) = page::fitting(divided.collect(), SPLIT_BYTES, false, page::item_bytes);
    (divided, omitted as u32)
}

fn rejection_point(point: RejectionPoint) -> v1::RejectionPoint {
    let RejectionPoint { min_confidence, precision, coverage } = point;
    v1::RejectionPoint { min_confidence, precision, coverage }
}

/// A manifest as it stands beside other things: with the living classes and the newest of those that are gone, without some of
/// them where not all fit. So an answer to a change takes no longer the more changes there were.
pub(super) fn manifest(model: &ModelId, manifest: &Manifest) -> v1::Manifest {
    let former_names = manifest.former_names_by_class();
    let gone = manifest.classes.gone().take(MAX_GONE);
    let mut shown = Vec::new();
    let mut bytes = 0;
    for class in manifest.living().chain(gone) {
        let class = class_message(class, manifest.heirs(class.id), &former_names);
        bytes += page::item_bytes(&class);
        if bytes > MANIFEST_BYTES {
            break;
        }
        shown.push(class);
    }
    shown.sort_unstable_by_key(|class| class.id);
    let omitted_classes = (manifest.classes.len() - shown.len()) as u32;
    v1::Manifest { classes: shown, omitted_classes, ..frame(model, manifest) }
}

/// A page of a manifest: the classes behind an id, as many as fit, and the id of the last where more follow.
pub(super) fn manifest_page(
    model: &ModelId,
    manifest: &Manifest,
    after: Option<ClassId>,
) -> Result<(v1::Manifest, Option<ClassId>)> {
    // Found for all classes at once: there may be many that are gone, and each alone would follow its successors.
    let (mut heirs, former_names) = (manifest.heirs_of_retired(), manifest.former_names_by_class());
    let behind = manifest.classes.range(after.map_or(Bound::Unbounded, Bound::Excluded));
    let following = behind.map(|class| {
        let heirs = heirs.remove(&class.id).unwrap_or_default();
        Ok((class.id, class_message(class, heirs, &former_names)))
    });
    let page = Page::new(usize::MAX).fill(following)?;
    let next = page.next().copied();
    Ok((v1::Manifest { classes: page.items, ..frame(model, manifest) }, next))
}

/// A manifest without its classes.
fn frame(model: &ModelId, manifest: &Manifest) -> v1::Manifest {
    v1::Manifest {
        name: model.manifest_name(manifest.revision),
        revision: manifest.revision.0,
        parent_revision: manifest.parent.map_or(0, |parent| parent.0),
        classes: Vec::new(),
        change: change(&manifest.change).into(),
        description: manifest.describe(),
        reason: manifest.reason.clone(),
        create_time: timestamp(manifest.created),
        undoable: manifest.undo.is_some(),
        author: manifest.author.clone(),
        omitted_classes: 0,
    }
}

/// A class as a message, with the active classes that it lives on in where it retired.
fn class_message(
    class: &Class,
    heirs: BTreeSet<ClassId>,
    former_names: &BTreeMap<ClassId, Vec<&ClassName>>,
) -> v1::Class {
    let ids = |classes: &BTreeSet<ClassId>| classes.iter().map(|id| id.0).collect();
    let (state, successors, heirs) = match &class.state {
        ClassState::Active(_) => (v1::ClassState::Active, Vec::new(), Vec::new()),
        ClassState::Group => (v1::ClassState::Group, Vec::new(), Vec::new()),
        ClassState::Removed => (v1::ClassState::Removed, Vec::new(), Vec::new()),
        ClassState::Retired(successors) => (v1::ClassState::Retired, ids(successors), ids(&heirs)),
    };
    let former_names = former_names.get(&class.id).map_or(&[][..], Vec::as_slice);
    v1::Class {
        id: class.id.0,
        name: class.name.to_string(),
        leaves: class.leaves().map(|leaf| leaf.0).collect(),
        state: state.into(),
        successors,
        heirs,
        parent: class.parent.map(|parent| parent.0),
        former_names: former_names.iter().take(MAX_FORMER_NAMES).map(ToString::to_string).collect(),
        omitted_former_names: former_names.len().saturating_sub(MAX_FORMER_NAMES) as u32,
    }
}

pub(super) fn change(change: &Change) -> v1::ChangeKind {
    match change {
        Change::Create => v1::ChangeKind::Create,
        Change::Add(_) => v1::ChangeKind::Add,
        Change::Merge { .. } => v1::ChangeKind::Merge,
        Change::Split { .. } => v1::ChangeKind::Split,
        Change::Several(_) => v1::ChangeKind::Several,
        Change::Rename { .. } => v1::ChangeKind::Rename,
        Change::Remove(_) => v1::ChangeKind::Remove,
        Change::Move { .. } => v1::ChangeKind::Move,
        Change::Undo(_) => v1::ChangeKind::Undo,
    }
}

pub(super) fn job(job: JobRecord, latest: Option<&FitProgress>) -> v1::Job {
    v1::Job {
        name: job.id.name(),
        versions: job.versions.iter().map(|number| job.model.version_name(*number)).collect(),
        model: job.model.name(),
        state: job_state(job.state).into(),
        mode: mode(job.mode).into(),
        mode_reason: job.mode_reason,
        progress: latest.map(progress),
        message: job.message,
        create_time: timestamp(job.created),
        end_time: job.ended.and_then(timestamp),
        continues: job.continues.map(registry::JobId::name).unwrap_or_default(),
        continued_by: job.continued_by.map(registry::JobId::name).unwrap_or_default(),
        waiting: false,
        jobs_ahead: 0,
    }
}

pub(super) fn progress(progress: &FitProgress) -> v1::Progress {
    v1::Progress {
        stage: progress.stage.to_string(),
        epoch: progress.epoch,
        epochs: progress.epochs,
        step: progress.step,
        steps: progress.steps,
        loss: progress.loss,
        validation_accuracy: progress.validation_accuracy,
        examples_per_second: progress.examples_per_second,
        eta_seconds: progress.eta.as_secs_f64(),
    }
}

pub(super) fn job_event(id: registry::JobId, model: &ModelId, event: Event) -> v1::JobEvent {
    use v1::job_event::Event as Kind;
    let kind = match event.kind {
        EventKind::Accepted => Kind::Accepted(v1::JobAccepted { model: model.name() }),
        EventKind::Planned(planned) => {
            let added = planned.added.iter().map(ToString::to_string).collect();
            let (added_classes, omitted) =
                page::fitting(added, ADDED_BYTES, false, |name: &String| name.len() + 4);
            Kind::Planned(v1::JobPlanned {
                mode: mode(Some(planned.mode)).into(),
                reason: planned.reason,
                added_classes,
                train_examples: planned.train_examples,
                validation_examples: planned.validation_examples,
                epochs: planned.epochs,
                omitted_added_classes: omitted as u32,
                small_classes: planned
                    .small_classes
                    .iter()
                    .take(MAX_SMALL)
                    .map(ToString::to_string)
                    .collect(),
                small_class_count: planned.small_classes.len() as u32,
                warnings: planned.warnings,
            })
        }
        EventKind::Progress(latest) => Kind::Progress(progress(&latest)),
        EventKind::Published { version: stored, promoted, seconds } => {
            Kind::Published(v1::VersionPublished { version: Some(version(*stored)), promoted, seconds })
        }
        EventKind::Finished(record) => Kind::Finished(v1::JobFinished { job: Some(job(*record, None)) }),
    };
    v1::JobEvent { job: id.name(), sequence: event.sequence, time: timestamp(event.time), event: Some(kind) }
}

pub(super) fn answers(answered: &predict::Answers) -> v1::PredictResponse {
    v1::PredictResponse {
        predictions: answered.answers.iter().map(|answer| prediction(answered, answer)).collect(),
        version: answered.live.version.name(),
        manifest_revision: answered.revision().0,
        rejection_threshold: answered.rejection_threshold,
        unresolved: answered.unresolved().iter().map(|class| unresolved(answered, class)).collect(),
    }
}

fn prediction(answers: &predict::Answers, answer: &predict::Answer) -> v1::Prediction {
    v1::Prediction {
        classes: answer
            .scores
            .iter()
            .map(|score| v1::ScoredClass {
                name: answers.name(score.class).to_string(),
                id: score.class.0,
                probability: score.probability,
                newer: answers.is_newer(score.class),
            })
            .collect(),
        truncated: answer.truncated,
        token_count: answer.tokens as u32,
        rejected: answer.rejected,
    }
}

fn unresolved(answers: &predict::Answers, of: &Unresolved) -> v1::UnresolvedClass {
    v1::UnresolvedClass {
        id: of.class.0,
        name: answers.name(of.class).to_string(),
        answered_under: of.answered_under.iter().map(|id| id.0).collect(),
        silent: of.silent,
    }
}

pub(super) fn suggestions(of: &Suggestions) -> v1::SuggestMergesResponse {
    let name = |id: &ClassId| of.manifest.classes[id].name.to_string();
    let example = |example: &ConfusedExample| v1::ConfusedExample {
        id: example.id,
        text: example.text.clone(),
        label: name(&example.label),
        answer: name(&example.answer),
        probability: example.probability,
    };
    let pair = |pair: &SuggestedPair| v1::MergeSuggestion {
        classes: pair.classes.iter().map(name).collect(),
        accuracy_gain: pair.gain as f64 / of.examples as f64,
        class_ids: pair.classes.iter().map(|id| id.0).collect(),
        confused: pair.confused,
        examples: pair.shown.iter().map(example).collect(),
    };
    let pairs = of.pairs.iter().map(pair).collect();
    v1::SuggestMergesResponse {
        suggestions: page::fitting(pairs, PAGE_BYTES, true, page::item_bytes).0,
        version: of.version.name(),
        manifest_revision: of.manifest.revision.0,
        validation_examples: of.examples,
        validation_accuracy: (of.examples > 0).then(|| of.right as f64 / of.examples as f64),
    }
}

pub(super) fn split_suggestions(of: SplitSuggestions) -> v1::SuggestSplitsResponse {
    let part = |part: SuggestedPart| v1::SuggestedPart {
        example_ids: part.ids,
        words: part.words,
        typical: part.typical.into_iter().map(|(id, text)| v1::TypicalExample { id, text }).collect(),
    };
    let suggestion = |split: SuggestedSplit| v1::SplitSuggestion {
        class_name: of.manifest.classes[&split.class].name.to_string(),
        class_id: split.class.0,
        separation: split.separation,
        examples: split.examples,
        parts: split.parts.into_iter().map(part).collect(),
    };
    let splits = of.splits.into_iter().map(suggestion).collect();
    v1::SuggestSplitsResponse {
        suggestions: page::fitting(splits, PAGE_BYTES, true, page::item_bytes).0,
        version: of.version.name(),
        manifest_revision: of.manifest.revision.0,
        classes: of.classes,
    }
}

pub(super) fn split(split: dataset::Split) -> v1::Split {
    match split {
        dataset::Split::Train => v1::Split::Train,
        dataset::Split::Validation => v1::Split::Validation,
    }
}

/// The active class that a label means, as the API names it: empty where there is none.
pub(super) fn class_name(meanings: &Meanings, label: &ClassName) -> String {
    meanings.class(label).map(|class| class.name.to_string()).unwrap_or_default()
}

pub(super) fn example(example: Example, meanings: &Meanings) -> v1::Example {
    let class = meanings.class_of(&example).map(|class| class.name.to_string());
    example_of(example, class.unwrap_or_default())
}

fn example_of(example: Example, class_name: String) -> v1::Example {
    v1::Example {
        id: example.id,
        class_name,
        text: example.text,
        label: example.label.to_string(),
        split: split(example.split).into(),
        create_time: timestamp(example.created),
    }
}

/// The examples of one text, which are stored under several classes.
pub(super) fn conflict(examples: Vec<Example>, meanings: &Meanings) -> v1::Conflict {
    v1::Conflict {
        text: examples.first().map(|oldest| oldest.text.clone()).unwrap_or_default(),
        examples: examples
            .iter()
            .take(MAX_CONFLICTING)
            .map(|example| v1::ConflictingExample {
                id: example.id,
                label: example.label.to_string(),
                class_name: meanings
                    .class_of(example)
                    .map(|class| class.name.to_string())
                    .unwrap_or_default(),
            })
            .collect(),
    }
}

pub(super) fn relabel_suggestions(of: RelabelSuggestions) -> v1::SuggestRelabelsResponse {
    let name = |id: ClassId| of.manifest.classes[&id].name.to_string();
    let suggestion = |found: Contradiction| v1::RelabelSuggestion {
        example: Some(example_of(found.example, name(found.label))),
        answer: name(found.answer),
        answer_id: found.answer.0,
        probability: found.probability,
        label_probability: found.label_probability,
    };
    let found = of.found.into_iter().map(suggestion).collect();
    v1::SuggestRelabelsResponse {
        suggestions: page::fitting(found, PAGE_BYTES, true, page::item_bytes).0,
        contradicted: of.contradicted,
        examples: of.examples,
        version: of.version.name(),
        manifest_revision: of.manifest.revision.0,
    }
}
