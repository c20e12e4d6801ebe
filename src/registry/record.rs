//! Between the records in the store and the types of the domain: what all conversions share.

use std::time::SystemTime;

use prost::Message;
use prost_types::Timestamp;

use super::{Mode, ModelId};
use crate::{
    error::{Error, Result},
    model::Preset,
    proto::storage,
};

/// The error for a record that says what it cannot.
pub(crate) fn damaged(what: &str, detail: impl Into<String>) -> Error {
    Error::Corrupt {
        what: what.to_owned(),
        detail: detail.into(),
        remedy: "restore a backup of the data directory, or start the taxond that wrote it",
    }
}

/// Reads a record.
pub(crate) fn decode<M: Message + Default>(what: &str, bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|error| damaged(what, error.to_string()))
}

/// Writes a time.
pub(crate) fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Some(time.into())
}

/// Reads a time.
pub(crate) fn time(what: &str, stored: Option<Timestamp>) -> Result<SystemTime> {
    stored
        .ok_or_else(|| damaged(what, "it has no time"))?
        .try_into()
        .map_err(|error| damaged(what, format!("its time is out of range: {error}")))
}

/// Reads the name of a model.
pub(super) fn model_id(what: &str, raw: &str) -> Result<ModelId> {
    ModelId::new(raw).map_err(|fault| damaged(what, format!("its model's name {fault}")))
}

/// Writes a preset.
pub(super) fn from_preset(preset: Preset) -> i32 {
    let stored = match preset {
        Preset::Default => storage::Preset::Default,
        Preset::Seed => storage::Preset::Seed,
    };
    stored.into()
}

/// Reads a preset.
pub(super) fn to_preset(what: &str, stored: i32) -> Result<Preset> {
    match storage::Preset::try_from(stored) {
        Ok(storage::Preset::Default) => Ok(Preset::Default),
        Ok(storage::Preset::Seed) => Ok(Preset::Seed),
        Ok(storage::Preset::Unspecified) | Err(_) => {
            Err(damaged(what, format!("preset {stored} is unknown")))
        }
    }
}

/// Writes a mode.
pub(super) fn from_mode(mode: Option<Mode>) -> i32 {
    let stored = match mode {
        None => storage::Mode::Unspecified,
        Some(Mode::Scratch) => storage::Mode::Scratch,
        Some(Mode::Continue) => storage::Mode::Continue,
        Some(Mode::Transfer) => storage::Mode::Transfer,
    };
    stored.into()
}

/// Reads a mode.
pub(super) fn to_mode(what: &str, stored: i32) -> Result<Option<Mode>> {
    match storage::Mode::try_from(stored) {
        Ok(storage::Mode::Unspecified) => Ok(None),
        Ok(storage::Mode::Scratch) => Ok(Some(Mode::Scratch)),
        Ok(storage::Mode::Continue) => Ok(Some(Mode::Continue)),
        Ok(storage::Mode::Transfer) => Ok(Some(Mode::Transfer)),
        Err(_) => Err(damaged(what, format!("mode {stored} is unknown"))),
    }
}
