//! What is done without when it is damaged: versions whose tensors are lost, jobs, receipts.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    AliasName, JobId, Model, Registry, Version,
    delete::put_deleted,
    key::{self, CHECKPOINTS, PAGE_KEY, REVISIONS},
    publish::put_model,
};
use crate::{
    error::{Error, Result},
    store::{Batch, Tree},
    taxonomy::VersionNumber,
};

/// A version that was given up because it cannot be read.
#[derive(Debug)]
pub struct GivenUp {
    /// The version.
    pub version: Version,
    /// What its reader was told.
    pub error: Error,
    /// The aliases that pointed to it, and where they point now; none where no version is left.
    pub aliases: BTreeMap<AliasName, Option<VersionNumber>>,
}

/// A record that can be done without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispensable {
    /// A job that was, or is to be done again.
    Job(JobId),
    /// The answer to a call, which is done again if it is repeated.
    Receipt,
    /// The key of page tokens, which is made anew: lists begin again.
    PageKey,
    /// How far the service time has come: it starts anew from the newest version.
    ServiceTime,
    /// Of the tensors of versions: those are given up by [`Registry::give_up_damaged_versions`].
    Tensors,
    /// That a version answers in a revision, which the key says alone: the value is empty.
    Index,
}

impl Dispensable {
    /// What a record of the catalog, the jobs, the receipts or the blobs is; none where nothing can stand in for it: models,
    /// manifests and versions say what everything else means.
    pub fn of(tree: Tree, record: &[u8]) -> Option<Self> {
        match tree {
            Tree::Jobs => Some(Self::Job(JobId(key::number(record)))),
            Tree::Receipts => Some(Self::Receipt),
            Tree::Chunks => Some(Self::Tensors),
            Tree::Catalog if record == key::SERVICE_TIME => Some(Self::ServiceTime),
            Tree::Catalog if record.first() == Some(&CHECKPOINTS) => Some(Self::Tensors),
            Tree::Catalog if record.first() == Some(&REVISIONS) => Some(Self::Index),
            Tree::Catalog if record == PAGE_KEY => Some(Self::PageKey),
            Tree::Catalog | Tree::Examples => None,
        }
    }
}

impl Registry {
    /// Gives up the versions of a model whose tensors are damaged, as if they had been deleted. An alias that pointed to one points
    /// to the nearest version that it was made from, else to the newest there is, else it goes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged record; what the store says when it cannot be written.
    pub fn give_up_damaged_versions(&self, model: &Model) -> Result<Vec<GivenUp>> {
        let _writer = self.writer();
        let versions = self.versions(&model.id, None, usize::MAX)?;
        let read = |version: &Version| self.checkpoint(&model.id, version.number)?.validate();
        let damaged: Vec<(Version, Error)> = versions
            .iter()
            .filter_map(|version| read(version).err().map(|error| (version.clone(), error)))
            .collect();
        if damaged.is_empty() {
            return Ok(Vec::new());
        }
        let lost: BTreeSet<VersionNumber> = damaged.iter().map(|(version, _)| version.number).collect();
        let whole = |number: &VersionNumber| {
            !lost.contains(number) && versions.iter().any(|version| version.number == *number)
        };
        let newest = versions.iter().map(|version| version.number).find(whole);
        let (mut batch, mut moved) = (Batch::freeing(), model.clone());
        let mut given_up = Vec::new();
        for (version, error) in damaged {
            put_deleted(&mut batch, model.uid, &version);
            let target = self.nearest_ancestor(&version, whole)?.or(newest);
            let aliases = model.aliases.iter().filter(|(_, points)| **points == version.number);
            let aliases: BTreeMap<_, _> = aliases.map(|(alias, _)| (alias.clone(), target)).collect();
            for (alias, target) in &aliases {
                match target {
                    Some(number) => moved.aliases.insert(alias.clone(), *number),
                    None => moved.aliases.remove(alias),
                };
            }
            given_up.push(GivenUp { version, error, aliases });
        }
        put_model(&mut batch, &mut moved);
        self.store.commit(batch)?;
        self.sweep_blobs()?;
        Ok(given_up)
    }

    /// The nearest of the versions that a version was made from which passes.
    fn nearest_ancestor(
        &self,
        version: &Version,
        passes: impl Fn(&VersionNumber) -> bool,
    ) -> Result<Option<VersionNumber>> {
        let mut version = version.clone();
        while let Some(parent) = self.parent_of(&version)? {
            if passes(&parent.number) {
                return Ok(Some(parent.number));
            }
            version = parent;
        }
        Ok(None)
    }
}
