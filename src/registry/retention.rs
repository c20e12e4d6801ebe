//! Which versions of a model are kept, when new ones keep coming.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use super::{Model, ModelId, Registry, Version};
use crate::{error::Result, taxonomy::VersionNumber};

/// How much of a model's past is kept. What an alias points to, what that was made from, and what an undo of its classes would
/// restore is kept in any case, and so is the newest version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Versions, the newest of them.
    pub versions: Option<usize>,
    /// Service time since they were made.
    pub age: Option<Duration>,
    /// Bytes of their tensors together, those that several share counted for each.
    pub bytes: Option<u64>,
}

impl Registry {
    /// Deletes the versions of a model that are beyond what is to be kept, and returns which those were.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::error::Error::NotFound) for a model that is gone; what the store says when it cannot be
    /// written.
    pub fn retire(&self, id: &ModelId, retention: Retention) -> Result<Vec<VersionNumber>> {
        let model = self.model(id)?;
        let versions = self.versions(id, None, usize::MAX)?;
        let surplus = retention.surplus(&versions, &self.needed(&model)?, self.service_time());
        for number in &surplus {
            self.delete_version(id, *number, true, None)?;
        }
        Ok(surplus)
    }

    /// What aliases point to, what that was made from, and what an undo would restore.
    fn needed(&self, model: &Model) -> Result<BTreeSet<VersionNumber>> {
        let mut needed: BTreeSet<VersionNumber> = model.aliases.values().copied().collect();
        for number in model.aliases.values() {
            let version = self.version(&model.id, *number)?;
            needed.extend(version.parent);
            needed.extend(self.manifest(&model.id, version.revision)?.undo.map(|undo| undo.version));
        }
        Ok(needed)
    }
}

impl Retention {
    /// The versions that go, of all there are, newest first. `now` is a service time.
    fn surplus(
        &self,
        versions: &[Version],
        needed: &BTreeSet<VersionNumber>,
        now: SystemTime,
    ) -> Vec<VersionNumber> {
        let mut bytes = 0_u64;
        let mut surplus = Vec::new();
        for (index, version) in versions.iter().enumerate() {
            let age = now.duration_since(version.aged_from).unwrap_or_default();
            let within = self.versions.is_none_or(|most| index < most)
                && self.age.is_none_or(|most| age < most)
                && self.bytes.is_none_or(|most| bytes.saturating_add(version.size_bytes) <= most);
            if within || index == 0 || needed.contains(&version.number) {
                bytes = bytes.saturating_add(version.size_bytes);
            } else {
                surplus.push(version.number);
            }
        }
        surplus
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{registry::Origin, taxonomy::Revision};

    const DAY: Duration = Duration::from_secs(86_400);

    /// Versions 9 to 1, each a day older than the one after it, of 100 bytes.
    fn versions(now: SystemTime) -> Vec<Version> {
        let version = |number: u64| Version {
            model: ModelId::new("bank").unwrap(),
            number: VersionNumber(number),
            parent: None,
            revision: Revision(1),
            origin: Origin::Training,
            mode: None,
            reason: String::new(),
            job: None,
            report: None,
            lineage: None,
            fitted: Vec::new(),
            size_bytes: 100,
            parameter_count: 25,
            created: now,
            aged_from: now - DAY * (9 - number as u32),
        };
        (1..=9).rev().map(version).collect()
    }

    fn surplus(retention: Retention, needed: &[u64]) -> Vec<u64> {
        let now = SystemTime::now();
        let needed = needed.iter().copied().map(VersionNumber).collect();
        retention.surplus(&versions(now), &needed, now).into_iter().map(|number| number.0).collect()
    }

    #[test]
    fn each_limit_counts_and_what_is_needed_stays() {
        let all = Retention { versions: None, age: None, bytes: None };
        assert_eq!(surplus(all, &[]), [0; 0]);
        assert_eq!(surplus(Retention { versions: Some(6), ..all }, &[]), [3, 2, 1]);
        assert_eq!(surplus(Retention { versions: Some(6), ..all }, &[2]), [3, 1]);
        assert_eq!(surplus(Retention { age: Some(DAY * 7), ..all }, &[]), [2, 1]);
        assert_eq!(surplus(Retention { bytes: Some(350), ..all }, &[]), [6, 5, 4, 3, 2, 1]);
        // What is needed takes its part of the bytes.
        assert_eq!(surplus(Retention { bytes: Some(500), ..all }, &[8, 7, 1]), [4, 3, 2]);
        let tight = Retention { versions: Some(0), age: Some(Duration::ZERO), bytes: Some(0) };
        assert_eq!(surplus(tight, &[5]), [8, 7, 6, 4, 3, 2, 1]);
    }
}
