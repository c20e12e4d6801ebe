//! What a job asks of the schedule: time for an identity and a model, and memory.

use crate::registry::ModelId;

/// What kind of work a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It learns a change of the classes, which takes seconds.
    Change,
    /// Anything else.
    Training,
}

/// Memory that a job takes while it is started, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Need {
    /// Of the machine.
    pub(super) memory: u64,
    /// Of the graphics processor.
    pub(super) device: u64,
}

/// A job as the schedule sees it.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// The identity whose share of the time it uses.
    pub(super) identity: String,
    /// The model.
    pub(super) model: ModelId,
    /// What kind of work.
    pub(super) class: Class,
    /// What it takes; nothing before that is known.
    pub(super) need: Need,
}

impl Need {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            memory: self.memory.saturating_add(other.memory),
            device: self.device.saturating_add(other.device),
        }
    }

    /// Whether it fits beside `others`. A job that has the device alone may try, however much it takes.
    pub(super) fn fits_beside(self, others: Self, room: Self) -> bool {
        let sum = self.plus(others);
        let is_alone = self.device == 0 || others.device == 0;
        sum.memory <= room.memory && (is_alone || sum.device <= room.device)
    }
}
