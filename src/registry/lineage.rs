//! What a version has of those it was made from, through however many of them. It is worked out when a version is published
//! and stored with it, so that nothing walks the history later; a version of a store that older builds wrote has none stored, and
//! is walked from. What is known of a version is kept when it is deleted, so that nothing here changes by that.

use std::{collections::BTreeSet, sync::Arc};

use super::{Model, ModelId, Origin, Registry, RejectionPoint, Version, key, record::decode};
use crate::{
    error::Result,
    proto::storage,
    store::Tree,
    taxonomy::{LeafId, Manifest, VersionNumber},
};

/// What a version has of those it was made from. An imported version brings it along, as they stayed behind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lineage {
    /// Whether it was learnt in the classes it answers in. What an undo restored counts as what it restored, and what a change
    /// made that left every class its leaves as what it was made of.
    pub learnt: bool,
    /// The leaves that some training had examples for.
    pub learnt_leaves: BTreeSet<LeafId>,
    /// What refusing unsure answers costs and brings. A version that was made at once has that of the version it came from:
    /// summing leaves makes no answer less precise. Where classes were taken out there is none, for the others then get the
    /// probability of texts that are not theirs.
    pub rejection: Vec<RejectionPoint>,
    /// The leaves that came since the last training and whose rows were fitted to examples at once.
    pub fitted_leaves: BTreeSet<LeafId>,
}

/// The classes that a version answers in, and those of the version that it was made from.
pub(super) struct Revisions<'a> {
    pub(super) own: &'a Manifest,
    pub(super) parent: &'a Manifest,
}

impl Lineage {
    pub(super) fn to_record(&self) -> storage::Lineage {
        let numbers = |leaves: &BTreeSet<LeafId>| leaves.iter().map(|leaf| leaf.0).collect();
        storage::Lineage {
            learnt: self.learnt,
            learnt_leaves: numbers(&self.learnt_leaves),
            rejection: self.rejection.iter().copied().map(RejectionPoint::to_record).collect(),
            fitted_leaves: numbers(&self.fitted_leaves),
        }
    }

    pub(super) fn from_record(record: storage::Lineage) -> Self {
        let leaves = |numbers: Vec<u32>| numbers.into_iter().map(LeafId).collect();
        Self {
            learnt: record.learnt,
            learnt_leaves: leaves(record.learnt_leaves),
            rejection: record.rejection.into_iter().map(RejectionPoint::from_record).collect(),
            fitted_leaves: leaves(record.fitted_leaves),
        }
    }

    /// What is known of a version by itself, whatever it was made from: what is stored with it, or what a training measured.
    fn of_itself(
        version: &Version,
        manifest: impl FnOnce() -> Result<Arc<Manifest>>,
    ) -> Result<Option<Self>> {
        if version.lineage.is_some() {
            return Ok(version.lineage.clone());
        }
        let Some(report) = &version.report else { return Ok(None) };
        let mut learnt_leaves = manifest()?.leaves();
        for leaf in &report.unlearnt {
            learnt_leaves.remove(leaf);
        }
        Ok(Some(Self {
            learnt: version.origin == Origin::Training,
            learnt_leaves,
            rejection: report.rejection.clone(),
            fitted_leaves: version.fitted.iter().copied().collect(),
        }))
    }

    /// What a version has that was made from nothing.
    fn of_first(version: &Version) -> Self {
        Self {
            learnt: version.origin == Origin::Training,
            fitted_leaves: version.fitted.iter().copied().collect(),
            ..Self::default()
        }
    }

    /// What a version has that no training measured, from what the version has that it was made from.
    fn inherit(self, version: &Version, revisions: &Revisions<'_>) -> Self {
        let Revisions { own, parent } = revisions;
        let Self { learnt, learnt_leaves, mut rejection, mut fitted_leaves } = self;
        let learnt = match version.origin {
            Origin::Training => true,
            Origin::Instant => learnt && own.has_leaves_of(parent),
            Origin::Undo | Origin::Import => learnt,
        };
        if own.change.removes() {
            rejection.clear();
        }
        fitted_leaves.extend(&version.fitted);
        Self { learnt, learnt_leaves, rejection, fitted_leaves }
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
    /// [`crate::error::Error::Corrupt`] for a damaged record.
    pub fn lineage(&self, version: &Version) -> Result<Lineage> {
        let model = self.model(&version.model)?;
        let manifest = |version: &Version| self.manifest_of(&model, version.revision);
        let (mut version, mut passed) = (version.clone(), Vec::new());
        let mut lineage = loop {
            if let Some(lineage) = Lineage::of_itself(&version, || manifest(&version))? {
                break lineage;
            }
            let Some(parent) = self.parent_in(&model, &version)? else { break Lineage::of_first(&version) };
            passed.push(std::mem::replace(&mut version, parent));
        };
        if passed.is_empty() {
            return Ok(lineage);
        }
        let mut parent = manifest(&version)?;
        for version in passed.into_iter().rev() {
            let own = manifest(&version)?;
            lineage = lineage.inherit(&version, &Revisions { own: &own, parent: &parent });
            parent = own;
        }
        Ok(lineage)
    }

    /// What is to be stored of the lineage of a new version that answers in `own`; none where the version says it itself.
    pub(super) fn lineage_to_store(
        &self,
        model: &Model,
        version: &Version,
        own: &Manifest,
    ) -> Result<Option<Lineage>> {
        if version.lineage.is_some() || version.report.is_some() {
            return Ok(version.lineage.clone());
        }
        let Some(parent) = self.parent_in(model, version)? else { return Ok(None) };
        let classes = self.manifest_of(model, parent.revision)?;
        let inherited = self.lineage(&parent)?;
        Ok(Some(inherited.inherit(version, &Revisions { own, parent: &classes })))
    }

    /// The rejection curve of a version.
    ///
    /// # Errors
    /// As [`Registry::lineage`].
    pub fn rejection(&self, version: &Version) -> Result<Vec<RejectionPoint>> {
        Ok(self.lineage(version)?.rejection)
    }

    /// Whether a version was learnt in the classes it answers in.
    ///
    /// # Errors
    /// As [`Registry::lineage`].
    pub fn is_learnt(&self, version: &Version) -> Result<bool> {
        Ok(self.lineage(version)?.learnt)
    }

    /// The leaves that some training up to a version had examples for.
    ///
    /// # Errors
    /// As [`Registry::lineage`].
    pub fn learnt_leaves(&self, version: &Version) -> Result<BTreeSet<LeafId>> {
        Ok(self.lineage(version)?.learnt_leaves)
    }

    /// The leaves that came to a version since it was learnt and whose rows were fitted to examples at once.
    ///
    /// # Errors
    /// As [`Registry::lineage`].
    pub fn fitted_leaves(&self, version: &Version) -> Result<BTreeSet<LeafId>> {
        Ok(self.lineage(version)?.fitted_leaves)
    }

    /// The version that a version was made from, also if it was deleted since.
    pub(super) fn parent_of(&self, version: &Version) -> Result<Option<Version>> {
        self.parent_in(&self.model(&version.model)?, version)
    }

    fn parent_in(&self, model: &Model, version: &Version) -> Result<Option<Version>> {
        let Some(number) = version.parent else { return Ok(None) };
        let record = self.version_record(model, number)?;
        record.map(|record| Version::from_record(version.model.clone(), number, record)).transpose()
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

#[cfg(test)]
mod tests;
