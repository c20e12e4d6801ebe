//! How much a daemon takes in.

use super::{ModelId, Registry};
use crate::{
    error::{Error, Result},
    taxonomy::Manifest,
};

/// How many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Models.
    pub models: usize,
    /// Active classes and groups of a model.
    pub classes: usize,
}

impl Default for Quotas {
    /// No limits.
    fn default() -> Self {
        Self { models: usize::MAX, classes: usize::MAX }
    }
}

impl Registry {
    /// The same with limits.
    #[must_use]
    pub fn with_quotas(self, quotas: Quotas) -> Self {
        Self { quotas, ..self }
    }

    /// Refuses a manifest with too many classes, unless it has no more than the one it replaces.
    ///
    /// # Errors
    /// [`Error::Exhausted`] with reason `CLASSES`.
    pub fn check_classes(&self, id: &ModelId, before: Option<&Manifest>, after: &Manifest) -> Result<()> {
        let count = |manifest: &Manifest| manifest.living().count();
        let (before, after, most) = (before.map_or(0, count), count(after), self.quotas.classes);
        if after <= most.max(before) {
            return Ok(());
        }
        Err(exhausted(
            "CLASSES",
            format!("{} would have {after} classes, and max_classes is {most}", id.name()),
        ))
    }

    /// Refuses one model more where there are as many as there may be.
    pub(super) fn check_models(&self) -> Result<()> {
        let most = self.quotas.models;
        if most == usize::MAX || self.uids()?.len() < most {
            return Ok(());
        }
        Err(exhausted(
            "MODELS",
            format!("there are {most} models, and max_models is {most}; delete one first"),
        ))
    }
}

fn exhausted(reason: &'static str, description: String) -> Error {
    Error::Exhausted { reason, description, retry_after: None }
}
