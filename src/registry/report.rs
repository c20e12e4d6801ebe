//! What a training measured, kept with the version it made.

use crate::{proto::storage, taxonomy::LeafId};

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
    /// Expected calibration error on the validation examples, 0 to 1; none without such examples.
    pub calibration_error: Option<f64>,
    /// What refusing unsure answers costs and brings, measured on the validation examples; precision rises and coverage
    /// falls from point to point.
    pub rejection: Vec<RejectionPoint>,
    /// Where the network learnt; empty for a version older than this field.
    pub device: String,
    /// Leaves that no example was ever learnt for.
    pub unlearnt: Vec<LeafId>,
    /// What was learnt: `refit` for the rows of the softmax alone, `fit` for everything; empty for a version older than
    /// this field.
    pub stage: String,
    /// Classes that the change did not touch and that lost by more than the gate bears with.
    pub lost: Vec<LostClass>,
}

/// A class that is answered worse than before.
#[derive(Debug, Clone, PartialEq)]
pub struct LostClass {
    /// Its name.
    pub name: String,
    /// F1 on the validation examples of the version that was to be replaced.
    pub f1_before: f64,
    /// F1 of the version that was learnt.
    pub f1_after: f64,
}

/// What refusing to answer below a confidence costs and brings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RejectionPoint {
    /// Answers that are less sure are refused, 0 to 1.
    pub min_confidence: f64,
    /// Share of the other answers that were right.
    pub precision: f64,
    /// Share of the texts that were answered.
    pub coverage: f64,
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
    /// Mean loss on the validation examples at its end, calibrated, in nats; none without such examples.
    pub validation_loss: Option<f64>,
}

impl Report {
    pub(super) fn to_record(&self) -> storage::Report {
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
            calibration_error: self.calibration_error,
            device: self.device.clone(),
            rejection: self.rejection.iter().copied().map(RejectionPoint::to_record).collect(),
            unlearnt: self.unlearnt.iter().map(|leaf| leaf.0).collect(),
            stage: self.stage.clone(),
            lost: self.lost.iter().map(LostClass::to_record).collect(),
        }
    }

    pub(super) fn from_record(record: storage::Report) -> Self {
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
            calibration_error: record.calibration_error,
            device: record.device,
            rejection: record.rejection.into_iter().map(RejectionPoint::from_record).collect(),
            unlearnt: record.unlearnt.into_iter().map(LeafId).collect(),
            stage: record.stage,
            lost: record.lost.into_iter().map(LostClass::from_record).collect(),
        }
    }
}

impl LostClass {
    fn to_record(&self) -> storage::LostClass {
        let Self { name, f1_before, f1_after } = self.clone();
        storage::LostClass { name, f1_before, f1_after }
    }

    fn from_record(record: storage::LostClass) -> Self {
        let storage::LostClass { name, f1_before, f1_after } = record;
        Self { name, f1_before, f1_after }
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
            validation_loss: self.validation_loss,
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
            validation_loss: record.validation_loss,
        }
    }
}

impl RejectionPoint {
    pub(super) fn to_record(self) -> storage::RejectionPoint {
        let Self { min_confidence, precision, coverage } = self;
        storage::RejectionPoint { min_confidence, precision, coverage }
    }

    pub(super) fn from_record(record: storage::RejectionPoint) -> Self {
        let storage::RejectionPoint { min_confidence, precision, coverage } = record;
        Self { min_confidence, precision, coverage }
    }
}
