//! The documents that `--json` prints. Their keys are those of the API; `docs/cli.md` lists them.
//!
//! Enums are the API's names without prefix in lower case, times are RFC 3339, and what the API leaves out is null.

use serde_json::{Value, json};

use crate::proto::v1::{
    ChangeKind, Class, ClassState, Conflict, ConflictingExample, ConfusedExample, DividedClass, DividedPart,
    EvaluateResponse, Example, HistoryEntry, HistoryVersion, Job, JobEvent, JobState, LostClass, Manifest,
    Model, Prediction, Preset, Progress, RelabelSuggestion, Split, SplitSuggestion, SuggestMergesResponse,
    SuggestRelabelsResponse, SuggestSplitsResponse, SuggestedPart, TrainingMode, TypicalExample,
    UnresolvedClass, Version, VersionOrigin, VersionPublished, job_event::Event,
};

/// An enum as a word: `TRAINING_MODE_SCRATCH` is `scratch`.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

pub(crate) fn preset(preset: Preset) -> String {
    word(preset.as_str_name(), "PRESET_")
}

pub(crate) fn mode(mode: TrainingMode) -> String {
    word(mode.as_str_name(), "TRAINING_MODE_")
}

pub(crate) fn origin(origin: VersionOrigin) -> String {
    word(origin.as_str_name(), "VERSION_ORIGIN_")
}

pub(crate) fn job_state(state: JobState) -> String {
    word(state.as_str_name(), "JOB_STATE_")
}

pub(crate) fn class_state(state: ClassState) -> String {
    word(state.as_str_name(), "CLASS_STATE_")
}

pub(crate) fn change(kind: ChangeKind) -> String {
    word(kind.as_str_name(), "CHANGE_KIND_")
}

pub(crate) fn split(split: Split) -> String {
    word(split.as_str_name(), "SPLIT_")
}

fn time(time: Option<&prost_types::Timestamp>) -> Value {
    time.map_or(Value::Null, |time| time.to_string().into())
}

pub(crate) fn model(model: &Model) -> Value {
    json!({
        "name": model.name,
        "preset": preset(model.preset()),
        "aliases": model.aliases.iter().collect::<std::collections::BTreeMap<_, _>>(),
        "manifest_revision": model.manifest_revision,
        "latest_version": model.latest_version,
        "class_count": model.class_count,
        "example_count": model.example_count,
        "running_job": model.running_job,
        "etag": model.etag,
        "create_time": time(model.create_time.as_ref()),
        "word_vectors": model.word_vectors.as_ref().map(|of| json!({"file": of.file, "frozen": of.frozen})),
    })
}

pub(crate) fn version(version: &Version) -> Value {
    let report = version.report.as_ref().map(|report| {
        json!({
            "train_examples": report.train_examples,
            "validation_examples": report.validation_examples,
            "validation_accuracy": report.validation_accuracy,
            "validation_macro_f1": report.validation_macro_f1,
            "replaced_validation_accuracy": report.replaced_validation_accuracy,
            "train_loss": report.train_loss,
            "epochs": report.epochs,
            "best_epoch": report.best_epoch,
            "seed": report.seed,
            "seconds": report.seconds,
            "gate": report.gate,
            "calibration_error": report.calibration_error,
            "device": report.device,
            "stage": report.stage,
            "lost": report.lost.iter().map(lost).collect::<Vec<_>>(),
            "rejection": report.rejection.iter().map(|point| json!({
                "min_confidence": point.min_confidence,
                "precision": point.precision,
                "coverage": point.coverage,
            })).collect::<Vec<_>>(),
        })
    });
    json!({
        "name": version.name,
        "number": version.number,
        "parent": version.parent,
        "manifest_revision": version.manifest_revision,
        "origin": origin(version.origin()),
        "mode": mode(version.mode()),
        "reason": version.reason,
        "job": version.job,
        "report": report,
        "size_bytes": version.size_bytes,
        "parameter_count": version.parameter_count,
        "create_time": time(version.create_time.as_ref()),
    })
}

fn lost(class: &LostClass) -> Value {
    json!({"name": class.name, "f1_before": class.f1_before, "f1_after": class.f1_after})
}

pub(crate) fn divided(split: &DividedClass) -> Value {
    let part =
        |part: &DividedPart| json!({"name": part.name, "train": part.train, "validation": part.validation});
    json!({
        "class": split.class_name,
        "parts": split.parts.iter().map(part).collect::<Vec<_>>(),
        "unassigned": split.unassigned,
        "unmatched_texts": split.unmatched_texts,
    })
}

pub(crate) fn class(class: &Class) -> Value {
    json!({
        "id": class.id,
        "name": class.name,
        "leaves": class.leaves,
        "state": class_state(class.state()),
        "successors": class.successors,
        "parent": class.parent,
        "former_names": class.former_names,
        "omitted_former_names": class.omitted_former_names,
        "heirs": class.heirs,
    })
}

pub(crate) fn manifest(manifest: &Manifest) -> Value {
    json!({
        "name": manifest.name,
        "revision": manifest.revision,
        "parent_revision": manifest.parent_revision,
        "change": change(manifest.change()),
        "description": manifest.description,
        "reason": manifest.reason,
        "undoable": manifest.undoable,
        "author": manifest.author,
        "create_time": time(manifest.create_time.as_ref()),
        "classes": manifest.classes.iter().map(class).collect::<Vec<_>>(),
        "omitted_classes": manifest.omitted_classes,
    })
}

pub(crate) fn history_entry(entry: &HistoryEntry) -> Value {
    let version = |version: &HistoryVersion| {
        json!({
            "name": version.name,
            "number": version.number,
            "origin": origin(version.origin()),
            "create_time": time(version.create_time.as_ref()),
            "serving": version.serving,
            "validation_accuracy": version.validation_accuracy,
            "replaced_validation_accuracy": version.replaced_validation_accuracy,
            "gate": version.gate,
        })
    };
    json!({
        "revision": entry.revision,
        "manifest": entry.manifest,
        "parent_revision": entry.parent_revision,
        "create_time": time(entry.create_time.as_ref()),
        "author": entry.author,
        "change": change(entry.change()),
        "description": entry.description,
        "reason": entry.reason,
        "class_count": entry.class_count,
        "versions": entry.versions.iter().map(version).collect::<Vec<_>>(),
        "omitted_versions": entry.omitted_versions,
    })
}

pub(crate) fn progress(progress: &Progress) -> Value {
    json!({
        "stage": progress.stage,
        "epoch": progress.epoch,
        "epochs": progress.epochs,
        "step": progress.step,
        "steps": progress.steps,
        "loss": progress.loss,
        "validation_accuracy": progress.validation_accuracy,
        "examples_per_second": progress.examples_per_second,
        "eta_seconds": progress.eta_seconds,
    })
}

pub(crate) fn job(job: &Job) -> Value {
    json!({
        "name": job.name,
        "model": job.model,
        "state": job_state(job.state()),
        "mode": mode(job.mode()),
        "mode_reason": job.mode_reason,
        "progress": job.progress.as_ref().map(progress),
        "versions": job.versions,
        "message": job.message,
        "create_time": time(job.create_time.as_ref()),
        "end_time": time(job.end_time.as_ref()),
        "continues": job.continues,
        "continued_by": job.continued_by,
        "waiting": job.waiting,
        "jobs_ahead": job.jobs_ahead,
    })
}

fn published(published: &VersionPublished) -> Value {
    json!({
        "version": published.version.as_ref().map(version),
        "promoted": published.promoted,
        "seconds": published.seconds,
    })
}

/// `{"event": "progress", "job": "jobs/3", "sequence": 7, "time": .., "progress": {..}}`
pub(crate) fn event(event: &JobEvent) -> Value {
    let (name, body) = match &event.event {
        Some(Event::Accepted(accepted)) => ("accepted", json!({ "model": accepted.model })),
        Some(Event::Planned(planned)) => (
            "planned",
            json!({
                "mode": mode(planned.mode()),
                "reason": planned.reason,
                "added_classes": planned.added_classes,
                "train_examples": planned.train_examples,
                "validation_examples": planned.validation_examples,
                "epochs": planned.epochs,
                "warnings": planned.warnings,
                "small_classes": planned.small_classes,
                "small_class_count": planned.small_class_count,
            }),
        ),
        Some(Event::Progress(of)) => ("progress", progress(of)),
        Some(Event::Published(of)) => ("published", published(of)),
        Some(Event::Finished(finished)) => ("finished", json!({ "job": finished.job.as_ref().map(job) })),
        None => ("unknown", Value::Null),
    };
    json!({
        "event": name,
        "job": event.job,
        "sequence": event.sequence,
        "time": time(event.time.as_ref()),
        name: body,
    })
}

pub(crate) fn example(example: &Example) -> Value {
    json!({
        "id": example.id,
        "text": example.text,
        "label": example.label,
        "class_name": example.class_name,
        "split": split(example.split()),
        "create_time": time(example.create_time.as_ref()),
    })
}

pub(crate) fn conflict(of: &Conflict) -> Value {
    let example = |e: &ConflictingExample| json!({"id": e.id, "label": e.label, "class_name": e.class_name});
    json!({"text": of.text, "examples": of.examples.iter().map(example).collect::<Vec<_>>()})
}

/// The answer to a text, with the version and the revision of all answers and what that revision has no more.
pub(crate) fn prediction(
    text: &str,
    prediction: &Prediction,
    (version, revision, unresolved): (&str, u64, &[UnresolvedClass]),
) -> Value {
    let classes = prediction
        .classes
        .iter()
        .map(|c| json!({"name": c.name, "id": c.id, "probability": c.probability, "newer": c.newer}));
    let unresolved = unresolved
        .iter()
        .map(|c| json!({"id": c.id, "name": c.name, "answered_under": c.answered_under, "silent": c.silent}));
    json!({
        "text": text,
        "classes": classes.collect::<Vec<_>>(),
        "truncated": prediction.truncated,
        "token_count": prediction.token_count,
        "rejected": prediction.rejected,
        "version": version,
        "manifest_revision": revision,
        "unresolved": unresolved.collect::<Vec<_>>(),
    })
}

pub(crate) fn evaluation(of: &EvaluateResponse) -> Value {
    let classes = of.classes.iter().map(|c| {
        json!({"name": c.name, "support": c.support, "precision": c.precision, "recall": c.recall, "f1": c.f1})
    });
    let confused =
        of.confused.iter().map(|c| json!({"label": c.label, "answer": c.answer, "count": c.count}));
    json!({
        "version": of.version,
        "examples": of.examples,
        "accuracy": of.accuracy,
        "macro_f1": of.macro_f1,
        "calibration_error": of.calibration_error,
        "classes": classes.collect::<Vec<_>>(),
        "confused": confused.collect::<Vec<_>>(),
        "unknown_labels": of.unknown_labels,
        "unknown_label_names": of.unknown_label_names,
    })
}

pub(crate) fn suggestions(of: &SuggestMergesResponse) -> Value {
    let example = |e: &ConfusedExample| json!({"id": e.id, "text": e.text, "label": e.label, "answer": e.answer, "probability": e.probability});
    let suggestions = of.suggestions.iter().map(|pair| {
        json!({
            "classes": pair.classes,
            "accuracy_gain": pair.accuracy_gain,
            "class_ids": pair.class_ids,
            "confused": pair.confused,
            "examples": pair.examples.iter().map(example).collect::<Vec<_>>(),
        })
    });
    json!({
        "suggestions": suggestions.collect::<Vec<_>>(),
        "version": of.version,
        "manifest_revision": of.manifest_revision,
        "validation_examples": of.validation_examples,
        "validation_accuracy": of.validation_accuracy,
    })
}

pub(crate) fn relabel_suggestions(of: &SuggestRelabelsResponse) -> Value {
    let suggestion = |s: &RelabelSuggestion| {
        json!({
            "example": s.example.as_ref().map(example),
            "answer": s.answer,
            "answer_id": s.answer_id,
            "probability": s.probability,
            "label_probability": s.label_probability,
        })
    };
    json!({
        "suggestions": of.suggestions.iter().map(suggestion).collect::<Vec<_>>(),
        "contradicted": of.contradicted,
        "examples": of.examples,
        "version": of.version,
        "manifest_revision": of.manifest_revision,
    })
}

/// `file` is where the first suggestion was written.
pub(crate) fn split_suggestions(of: &SuggestSplitsResponse, file: Option<&str>) -> Value {
    let typical = |e: &TypicalExample| json!({"id": e.id, "text": e.text});
    let part = |part: &SuggestedPart| {
        json!({
            "example_ids": part.example_ids,
            "words": part.words,
            "typical": part.typical.iter().map(typical).collect::<Vec<_>>(),
        })
    };
    let suggestion = |split: &SplitSuggestion| {
        json!({
            "class_name": split.class_name,
            "class_id": split.class_id,
            "separation": split.separation,
            "examples": split.examples,
            "parts": split.parts.iter().map(part).collect::<Vec<_>>(),
        })
    };
    json!({
        "suggestions": of.suggestions.iter().map(suggestion).collect::<Vec<_>>(),
        "version": of.version,
        "manifest_revision": of.manifest_revision,
        "classes": of.classes,
        "file": file,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::JobAccepted;

    #[test]
    fn events_carry_their_body_under_their_name() {
        let accepted = JobEvent {
            job: "jobs/3".into(),
            sequence: 1,
            time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            event: Some(Event::Accepted(JobAccepted { model: "models/bank".into() })),
        };
        let expected = json!({
            "event": "accepted", "job": "jobs/3", "sequence": 1, "time": "1970-01-01T00:00:00Z",
            "accepted": {"model": "models/bank"},
        });
        assert_eq!(event(&accepted), expected);
    }

    #[test]
    fn enums_are_plain_words() {
        assert_eq!(mode(TrainingMode::Scratch), "scratch");
        assert_eq!(job_state(JobState::Interrupted), "interrupted");
        assert_eq!(change(ChangeKind::Merge), "merge");
        assert_eq!(preset(Preset::Default), "default");
        assert_eq!(split(Split::Validation), "validation");
        assert_eq!(origin(VersionOrigin::Instant), "instant");
    }

    #[test]
    fn absent_is_null() {
        let document = job(&Job::default());
        assert!(document["progress"].is_null() && document["end_time"].is_null());
    }
}
