//! Where examples went when their class was split.

use std::collections::HashMap;

use prost::Message as _;

use super::{Dataset, Example};
use crate::{
    error::Result,
    proto::storage,
    registry::{
        key::{number, owned, owner},
        record::decode,
    },
    store::{Batch, Tree},
    taxonomy::{ClassId, ClassName, Manifest, Meaning},
};

pub(super) const ASSIGNED: u8 = b'a';

/// Examples of one record.
const IDS: usize = 1024;

impl Dataset {
    /// What to store so that examples belong to classes: ids, ascending, by class. It counts for an example while the
    /// class descends from one that bore its label.
    pub fn assignment<'a>(uid: u64, classes: impl IntoIterator<Item = (ClassId, &'a [u64])>) -> Batch {
        let mut batch = Batch::new();
        for (class, ids) in classes {
            for (chunk, ids) in (0u64..).zip(ids.chunks(IDS)) {
                let steps = ids.iter().scan(0, |before, id| Some(id - std::mem::replace(before, *id)));
                let record = storage::AssignedExamples { steps: steps.collect() };
                let key = owned(ASSIGNED, uid, u64::from(class.0) << 32 | chunk);
                batch.put(Tree::Examples, key, record.encode_to_vec());
            }
        }
        batch
    }

    /// The classes that the examples of a model went to, by example, the latest last: ids of classes grow.
    pub(super) fn assigned(&self, uid: u64) -> Result<HashMap<u64, Vec<ClassId>>> {
        let mut assigned: HashMap<u64, Vec<ClassId>> = HashMap::new();
        for entry in self.store.scan(Tree::Examples, &owner(ASSIGNED, uid), None) {
            self.cancel.check()?;
            let (key, bytes) = entry?;
            let record: storage::AssignedExamples = decode("what a split did to the examples", &bytes)?;
            let mut id = 0u64;
            for step in record.steps {
                id = id.saturating_add(step);
                assigned.entry(id).or_default().push(ClassId((number(&key) >> 32) as u32));
            }
        }
        Ok(assigned)
    }
}

impl Example {
    /// Tells it where splits sent it.
    pub(super) fn sent_to(self, mut classes: Vec<ClassId>) -> Self {
        classes.retain(|class| *class > self.settled);
        Self { assigned: classes, ..self }
    }

    /// The same under a label that counts, wherever splits sent it until now.
    pub(super) fn settled_as(&self, label: &ClassName) -> Self {
        let settled = self.assigned.last().copied().unwrap_or(self.settled);
        Self { label: label.clone(), assigned: Vec::new(), settled, ..self.clone() }
    }

    /// What it means in a manifest.
    pub fn meaning(&self, manifest: &Manifest) -> Meaning {
        manifest.meaning_of(&self.label, &self.assigned)
    }

    /// The one active class that it means in a manifest.
    pub fn class_in(&self, manifest: &Manifest) -> Option<ClassId> {
        self.meaning(manifest).class()
    }
}
