//! Whether everything in a data folder is whole: each value by its checksum, then each model by what it is made of.

use super::offline;
use crate::{
    config::Config,
    dataset::Dataset,
    error::Result,
    registry::{Model, Registry},
    store::Store,
};

/// What a data folder holds, and what of it is damaged.
#[derive(Debug, Default)]
pub struct DataReport {
    /// Values of the store that are whole.
    pub values: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Models.
    pub models: u64,
    /// Versions whose tensors are whole and of the shapes that they should have.
    pub versions: u64,
    /// Manifests.
    pub manifests: u64,
    /// Examples.
    pub examples: u64,
    /// What is damaged or missing, in the order found.
    pub damage: Vec<String>,
}

/// Checks the data folder of a daemon that does not run. Where every value is whole, what an interrupted daemon left is tidied up
/// first, as at each start; else nothing is changed, and models are not looked at.
///
/// # Errors
/// The folder cannot be opened, or is in use.
pub fn fsck(config: &Config) -> Result<DataReport> {
    inspect(offline::open(config)?)
}

/// Checks everything in a store.
pub(super) fn inspect(store: Store) -> Result<DataReport> {
    let checked = store.check();
    let mut report = DataReport {
        values: checked.values,
        bytes: checked.bytes,
        damage: checked.damage.iter().map(|damage| damage.error.to_string()).collect(),
        ..DataReport::default()
    };
    if !report.damage.is_empty() {
        return Ok(report);
    }
    let registry = Registry::open(store.clone())?;
    let dataset = Dataset::open(store, &registry.uids()?)?;
    for model in registry.models(None, usize::MAX)? {
        report.models += 1;
        report.add(&registry, &dataset, &model);
    }
    Ok(report)
}

impl DataReport {
    /// Checks a model: manifests, versions with their tensors, aliases, and examples.
    fn add(&mut self, registry: &Registry, dataset: &Dataset, model: &Model) {
        if let Some(manifests) = self.whole(registry.manifests(&model.id, None, usize::MAX)) {
            self.manifests += manifests.len() as u64;
        }
        for version in self.whole(registry.versions(&model.id, None, usize::MAX)).unwrap_or_default() {
            let checkpoint = registry.checkpoint(&model.id, version.number);
            let is_whole = self.whole(checkpoint.and_then(|checkpoint| checkpoint.validate())).is_some();
            let has_manifest = self.whole(registry.manifest(&model.id, version.revision)).is_some();
            self.versions += u64::from(is_whole && has_manifest);
        }
        for (alias, number) in &model.aliases {
            if let Err(error) = registry.version(&model.id, *number) {
                self.damage.push(format!("{}: {error}", model.id.alias_name(alias)));
            }
        }
        let (examples, count) = (dataset.all(model.uid), dataset.count(model.uid));
        if let (Some(examples), Some(count)) = (self.whole(examples), self.whole(count)) {
            self.examples += examples.len() as u64;
            if examples.len() as u64 != count {
                self.damage.push(format!(
                    "{}: {} examples are there, not {count}",
                    model.id.name(),
                    examples.len()
                ));
            }
        }
    }

    /// What was read, if it is whole.
    fn whole<T>(&mut self, read: Result<T>) -> Option<T> {
        read.map_err(|error| self.damage.push(error.to_string())).ok()
    }
}
