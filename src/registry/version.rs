//! A version: an immutable checkpoint and how it came to be.

use std::time::SystemTime;

use super::{
    JobId, ModelId,
    record::{damaged, from_mode, time, timestamp, to_mode},
};
use crate::{
    error::Result,
    proto::storage,
    taxonomy::{Revision, VersionNumber},
};

/// An immutable checkpoint and the manifest it answers in. The tensors are read apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// The model it belongs to.
    pub model: ModelId,
    /// Number within the model, counted from 1, never reused.
    pub number: VersionNumber,
    /// The version it was made from.
    pub parent: Option<VersionNumber>,
    /// The manifest it answers in.
    pub revision: Revision,
    /// How it came to be.
    pub origin: Origin,
    /// For a trained version: how.
    pub mode: Option<Mode>,
    /// Why that mode, or what the change was.
    pub reason: String,
    /// The job that made it.
    pub job: Option<JobId>,
    /// What training measured.
    pub report: Option<Report>,
    /// Bytes of its tensors; equal tensors of several versions are stored once.
    pub size_bytes: u64,
    /// Network parameters.
    pub parameter_count: u64,
    /// When it was made.
    pub created: SystemTime,
}

/// How a version came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Training learnt it.
    Training,
    /// A change of the classes made it at once, without learning.
    Instant,
    /// An undo restored it.
    Undo,
}

/// How a training treats what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// There was no version: everything is learnt.
    Scratch,
    /// The classes are the same: training goes on from the serving version.
    Continue,
    /// The classes changed: everything is restored but the softmax layer, whose rows are kept where the class survives.
    Transfer,
}

/// What a training measured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Examples that trained.
    pub train_examples: u64,
    /// Examples that validated.
    pub validation_examples: u64,
    /// Accuracy on the validation examples, 0 to 1; none without such examples.
    pub validation_accuracy: Option<f64>,
    /// Macro F1 on the validation examples, 0 to 1; none without such examples.
    pub validation_macro_f1: Option<f64>,
    /// Accuracy of the version being replaced on the same examples; none if there was none.
    pub replaced_validation_accuracy: Option<f64>,
    /// Mean training loss of the epoch that was kept, in nats.
    pub train_loss: f64,
    /// Epochs run.
    pub epochs: u32,
    /// Epoch that was kept, counted from 1.
    pub best_epoch: u32,
    /// Seed of everything drawn at random.
    pub seed: u64,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Whether the version was promoted, and if not, why.
    pub gate: String,
    /// The training curve: an entry an epoch.
    pub curve: Vec<Epoch>,
}

/// One epoch of a training.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: u32,
    /// Optimiser steps done at its end, over all epochs.
    pub step: u64,
    /// Mean training loss over the epoch, with dropout and label smoothing, in nats.
    pub train_loss: f64,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Accuracy on the validation examples at its end, 0 to 1; none without such examples.
    pub validation_accuracy: Option<f64>,
    /// Seconds from the start of the first epoch to the end of this one.
    pub seconds: f64,
}

impl Version {
    /// Resource name.
    pub fn name(&self) -> String {
        self.model.version_name(self.number)
    }

    /// Its record. Its model and number are in the key.
    pub(super) fn to_record(&self) -> storage::Version {
        let origin = match self.origin {
            Origin::Training => storage::Origin::Training,
            Origin::Instant => storage::Origin::Instant,
            Origin::Undo => storage::Origin::Undo,
        };
        storage::Version {
            parent: self.parent.map_or(0, |number| number.0),
            revision: self.revision.0,
            origin: origin.into(),
            mode: from_mode(self.mode),
            reason: self.reason.clone(),
            job: self.job.map_or(0, |id| id.0),
            report: self.report.as_ref().map(Report::to_record),
            size_bytes: self.size_bytes,
            parameter_count: self.parameter_count,
            created: timestamp(self.created),
        }
    }

    /// The version of a record.
    pub(super) fn from_record(
        model: ModelId,
        number: VersionNumber,
        record: storage::Version,
    ) -> Result<Self> {
        let what = model.version_name(number);
        let origin = match storage::Origin::try_from(record.origin) {
            Ok(storage::Origin::Training) => Origin::Training,
            Ok(storage::Origin::Instant) => Origin::Instant,
            Ok(storage::Origin::Undo) => Origin::Undo,
            Ok(storage::Origin::Unspecified) | Err(_) => {
                return Err(damaged(&what, format!("origin {} is unknown", record.origin)));
            }
        };
        Ok(Self {
            model,
            number,
            parent: (record.parent != 0).then_some(VersionNumber(record.parent)),
            revision: Revision(record.revision),
            origin,
            mode: to_mode(&what, record.mode)?,
            reason: record.reason,
            job: (record.job != 0).then_some(JobId(record.job)),
            report: record.report.map(Report::from_record),
            size_bytes: record.size_bytes,
            parameter_count: record.parameter_count,
            created: time(&what, record.created)?,
        })
    }
}

impl Report {
    fn to_record(&self) -> storage::Report {
        storage::Report {
            train_examples: self.train_examples,
            validation_examples: self.validation_examples,
            validation_accuracy: self.validation_accuracy,
            validation_macro_f1: self.validation_macro_f1,
            replaced_validation_accuracy: self.replaced_validation_accuracy,
            train_loss: self.train_loss,
            epochs: self.epochs,
            best_epoch: self.best_epoch,
            seed: self.seed,
            seconds: self.seconds,
            gate: self.gate.clone(),
            curve: self.curve.iter().copied().map(Epoch::to_record).collect(),
        }
    }

    fn from_record(record: storage::Report) -> Self {
        Self {
            train_examples: record.train_examples,
            validation_examples: record.validation_examples,
            validation_accuracy: record.validation_accuracy,
            validation_macro_f1: record.validation_macro_f1,
            replaced_validation_accuracy: record.replaced_validation_accuracy,
            train_loss: record.train_loss,
            epochs: record.epochs,
            best_epoch: record.best_epoch,
            seed: record.seed,
            seconds: record.seconds,
            gate: record.gate,
            curve: record.curve.into_iter().map(Epoch::from_record).collect(),
        }
    }
}

impl Epoch {
    fn to_record(self) -> storage::Epoch {
        storage::Epoch {
            epoch: self.epoch,
            step: self.step,
            train_loss: self.train_loss,
            learning_rate: self.learning_rate,
            validation_accuracy: self.validation_accuracy,
            seconds: self.seconds,
        }
    }

    fn from_record(record: storage::Epoch) -> Self {
        Self {
            epoch: record.epoch,
            step: record.step,
            train_loss: record.train_loss,
            learning_rate: record.learning_rate,
            validation_accuracy: record.validation_accuracy,
            seconds: record.seconds,
        }
    }
}
