//! A version: an immutable checkpoint and how it came to be.

use std::time::SystemTime;

use super::{
    JobId, Lineage, ModelId, Report,
    record::{damaged, from_mode, time, timestamp, to_mode},
};
use crate::{
    error::Result,
    proto::storage,
    taxonomy::{LeafId, Revision, VersionNumber},
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
    /// What it has of those it was made from, where that is stored with it; [`super::Registry::lineage`] tells of any.
    pub lineage: Option<Lineage>,
    /// Leaves that came with it, at once, and whose rows were fitted to examples.
    pub fitted: Vec<LeafId>,
    /// Bytes of its tensors; equal tensors of several versions are stored once.
    pub size_bytes: u64,
    /// Network parameters.
    pub parameter_count: u64,
    /// When it was made, by the wall clock.
    pub created: SystemTime,
    /// From when on it ages, in service time.
    pub aged_from: SystemTime,
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
    /// It came from another model.
    Import,
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
            Origin::Import => storage::Origin::Import,
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
            deleted: false,
            lineage: self.lineage.as_ref().map(Lineage::to_record),
            fitted: self.fitted.iter().map(|leaf| leaf.0).collect(),
            aged_from: timestamp(self.aged_from),
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
            Ok(storage::Origin::Import) => Origin::Import,
            Ok(storage::Origin::Unspecified) | Err(_) => {
                return Err(damaged(&what, format!("origin {} is unknown", record.origin)));
            }
        };
        let created = time(&what, record.created)?;
        // Earlier builds had the wall clock alone.
        let aged_from = record.aged_from.map_or(Ok(created), |from| time(&what, Some(from)))?;
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
            lineage: record.lineage.map(Lineage::from_record),
            fitted: record.fitted.into_iter().map(LeafId).collect(),
            size_bytes: record.size_bytes,
            parameter_count: record.parameter_count,
            created,
            aged_from,
        })
    }
}
