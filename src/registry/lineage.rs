//! What a version has of those it was made from, through however many of them. What is known of these is kept when they are
//! deleted, so that nothing here changes by that.

use std::collections::BTreeSet;

use super::{Model, ModelId, Origin, Registry, RejectionPoint, Version, key, record::decode};
use crate::{
    error::Result,
    proto::storage,
    store::Tree,
    taxonomy::{LeafId, Manifest, VersionNumber},
};

/// What a version has of those it was made from. An imported version brings it along, as they stayed behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Lineage {
    /// Whether it was learnt in the classes it answers in.
    pub learnt: bool,
    /// The leaves that some training had examples for.
    pub learnt_leaves: BTreeSet<LeafId>,
    /// What refusing unsure answers costs and brings.
    pub rejection: Vec<RejectionPoint>,
}

impl Lineage {
    pub(super) fn to_record(&self) -> storage::Lineage {
        storage::Lineage {
            learnt: self.learnt,
            learnt_leaves: self.learnt_leaves.iter().map(|leaf| leaf.0).collect(),
            rejection: self.rejection.iter().copied().map(RejectionPoint::to_record).collect(),
        }
    }

    pub(super) fn from_record(record: storage::Lineage) -> Self {
        Self {
            learnt: record.learnt,
            learnt_leaves: record.learnt_leaves.into_iter().map(LeafId).collect(),
            rejection: record.rejection.into_iter().map(RejectionPoint::from_record).collect(),
        }
    }
}

impl Registry {
    /// One version, also if it was deleted since.
    ///
    /// # Errors
    /// [`crate::error::Error::NotFound`] if there never was one.
    pub fn version_ever(&self, id: &ModelId, number: VersionNumber) -> Result<Version> {
        let model = self.model(id)?;
        match self.version_record(&model, number)? {
            Some(record) => Version::from_record(id.clone(), number, record),
            None => self.version(id, number),
        }
    }

    /// What a version has of those it was made from.
    ///
    /// # Errors
    /// As [`Registry::rejection`].
    pub fn lineage(&self, version: &Version) -> Result<Lineage> {
        Ok(Lineage {
            learnt: self.is_learnt(version)?,
            learnt_leaves: self.learnt_leaves(version)?,
            rejection: self.rejection(version)?,
        })
    }

    /// The rejection curve of a version. A version that was made at once has that of the version it came from: summing
    /// leaves makes no answer less precise. Where classes were taken out there is none, for the others then get the
    /// probability of texts that are not theirs.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] for a damaged record.
    pub fn rejection(&self, version: &Version) -> Result<Vec<RejectionPoint>> {
        let mut version = version.clone();
        loop {
            match (version.lineage.take(), version.report.take()) {
                (Some(lineage), _) => return Ok(lineage.rejection),
                (None, Some(report)) => return Ok(report.rejection),
                (None, None) => {}
            }
            let Some(parent) = self.parent_of(&version)? else { return Ok(Vec::new()) };
            if self.manifest_of_version(&version)?.change.removes() {
                return Ok(Vec::new());
            }
            version = parent;
        }
    }

    /// Whether a version was learnt in the classes it answers in. What an undo restored counts as what it restored, and
    /// what a change made that left every class its leaves as what it was made of.
    ///
    /// # Errors
    /// As [`Registry::rejection`].
    pub fn is_learnt(&self, version: &Version) -> Result<bool> {
        let mut version = version.clone();
        while version.origin != Origin::Training {
            if let Some(lineage) = version.lineage {
                return Ok(lineage.learnt);
            }
            let Some(parent) = self.parent_of(&version)? else { return Ok(false) };
            if version.origin == Origin::Instant {
                let manifest = self.manifest_of_version(&version)?;
                if !manifest.has_leaves_of(&self.manifest_of_version(&parent)?) {
                    return Ok(false);
                }
            }
            version = parent;
        }
        Ok(true)
    }

    /// The leaves that some training up to a version had examples for.
    ///
    /// # Errors
    /// As [`Registry::rejection`].
    pub fn learnt_leaves(&self, version: &Version) -> Result<BTreeSet<LeafId>> {
        let mut version = version.clone();
        loop {
            if let Some(lineage) = version.lineage {
                return Ok(lineage.learnt_leaves);
            }
            if let Some(report) = &version.report {
                let mut leaves = self.manifest_of_version(&version)?.leaves();
                report.unlearnt.iter().for_each(|leaf| {
                    leaves.remove(leaf);
                });
                return Ok(leaves);
            }
            let Some(parent) = self.parent_of(&version)? else { return Ok(BTreeSet::new()) };
            version = parent;
        }
    }

    /// The leaves that came to a version since it was learnt and whose rows were fitted to examples at once.
    ///
    /// # Errors
    /// As [`Registry::rejection`].
    pub fn fitted_leaves(&self, version: &Version) -> Result<BTreeSet<LeafId>> {
        let mut leaves: BTreeSet<LeafId> = version.fitted.iter().copied().collect();
        let mut version = version.clone();
        while version.report.is_none() && version.lineage.is_none() {
            let Some(parent) = self.parent_of(&version)? else { break };
            leaves.extend(&parent.fitted);
            version = parent;
        }
        Ok(leaves)
    }

    /// The version that a version was made from, also if it was deleted since.
    pub(super) fn parent_of(&self, version: &Version) -> Result<Option<Version>> {
        let Some(number) = version.parent else { return Ok(None) };
        let record = self.version_record(&self.model(&version.model)?, number)?;
        record.map(|record| Version::from_record(version.model.clone(), number, record)).transpose()
    }

    fn manifest_of_version(&self, version: &Version) -> Result<Manifest> {
        self.manifest(&version.model, version.revision)
    }

    /// The record of a version, which outlives its deletion.
    pub(super) fn version_record(
        &self,
        model: &Model,
        number: VersionNumber,
    ) -> Result<Option<storage::Version>> {
        let bytes = self.store.get(Tree::Catalog, &key::version(model.uid, number))?;
        bytes.map(|bytes| decode(&model.id.version_name(number), &bytes)).transpose()
    }
}
