//! How a correction gets into the store: written down, then decided, then done.
//!
//! One transaction over many examples would hold up everybody who reads the store, and take many times their size in memory.
//! So the changes are first appended to the journal, which nobody reads. A small commit then sets the number of its
//! records in the extent, with the count and the receipt: from there on the correction stands. The examples are changed
//! after it, bit by bit, while who reads them waits; last, the journal is cleared. A start applies a journal that it finds.

use prost::Message as _;
use tracing::warn;

use super::{Dataset, Extent, example_key, extent_key};
use crate::{
    error::{Error, Result},
    proto::storage,
    registry::{
        key::{owned, owner},
        record::{damaged, decode},
    },
    store::{Batch, Tree},
};

pub(super) const JOURNAL: u8 = b'j';

/// Bytes of a record from which on the next one begins.
const RECORD_BYTES: usize = 256 * 1024;

const WHAT: &str = "the journal of the examples";

impl Extent {
    /// Its record in bytes.
    pub(super) fn to_record(self) -> Vec<u8> {
        let Self { end, count, journal } = self;
        storage::Extent { end, count, journal }.encode_to_vec()
    }
}

impl Dataset {
    /// Writes changes down, where they wait to be decided. Returns the number of records.
    pub(super) fn write_journal(&self, uid: u64, changes: Vec<storage::ExampleChange>) -> Result<u64> {
        let (mut records, mut bytes) = (0, 0);
        let mut journal = storage::Journal::default();
        for change in changes {
            bytes += change.encoded_len();
            journal.changes.push(change);
            if bytes >= RECORD_BYTES {
                self.append_record(uid, &mut records, &mut journal)?;
                bytes = 0;
            }
        }
        if !journal.changes.is_empty() {
            self.append_record(uid, &mut records, &mut journal)?;
        }
        Ok(records)
    }

    /// Removes what was written down and not decided.
    pub(super) fn clear_journal(&self, uid: u64) {
        if let Err(cause) = self.store.delete_prefix(Tree::Examples, &owner(JOURNAL, uid)) {
            warn!(%cause, uid, "the journal of a refused correction stays until the next start");
        }
    }

    /// Does what the journal of a model says, if that is decided, and clears it. A repeat changes nothing more.
    ///
    /// # Errors
    /// [`Error::Corrupt`]; what the store says when it cannot be written: the next start does the rest.
    pub(super) fn apply_journal(&self, uid: u64) -> Result<()> {
        let extent = self.extent(uid)?;
        for number in 0..extent.journal {
            let bytes = self.store.get(Tree::Examples, &owned(JOURNAL, uid, number))?;
            let bytes = bytes.ok_or_else(|| damaged(WHAT, format!("record {number} is missing")))?;
            let journal: storage::Journal = decode(WHAT, &bytes)?;
            let mut batch = Batch::freeing();
            for storage::ExampleChange { id, example } in journal.changes {
                match example {
                    Some(example) => batch.put(Tree::Examples, example_key(uid, id), example.encode_to_vec()),
                    None => batch.delete(Tree::Examples, example_key(uid, id)),
                }
            }
            self.store.append(batch)?;
        }
        if extent.journal > 0 {
            let mut batch = Batch::freeing();
            batch.put(Tree::Examples, extent_key(uid), Extent { journal: 0, ..extent }.to_record());
            self.store.append(batch)?;
        }
        self.store.delete_prefix(Tree::Examples, &owner(JOURNAL, uid)).map(drop)
    }

    /// How far the examples of a model reach, which are neither before nor after a correction but for a failed write.
    pub(super) fn whole_extent(&self, uid: u64) -> Result<Extent> {
        match self.extent(uid)? {
            extent if extent.journal == 0 => Ok(extent),
            _ => Err(Error::Unavailable(
                "a failed write interrupted a correction of the examples; start the daemon again to end it"
                    .into(),
            )),
        }
    }

    fn append_record(&self, uid: u64, records: &mut u64, journal: &mut storage::Journal) -> Result<()> {
        let only_removes = journal.changes.iter().all(|change| change.example.is_none());
        let mut batch = if only_removes { Batch::freeing() } else { Batch::new() };
        batch.put(Tree::Examples, owned(JOURNAL, uid, *records), journal.encode_to_vec());
        journal.changes.clear();
        *records += 1;
        self.store.append(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        dataset::{Filter, Meanings},
        registry::{Design, Model, ModelId, Registry},
        store::{Store, StoreOptions},
        taxonomy::ClassName,
    };

    fn open(path: &Path) -> (Registry, Dataset) {
        let store = Store::open(path, StoreOptions::default()).unwrap();
        let registry = Registry::open(store.clone()).unwrap();
        let uids = registry.uids().unwrap();
        (registry, Dataset::open(store, &uids).unwrap())
    }

    fn label(raw: &str) -> ClassName {
        ClassName::new(raw).unwrap()
    }

    fn labels(dataset: &Dataset, model: &Model) -> Vec<(u64, String)> {
        let all = dataset.all(model.uid).unwrap().into_iter();
        all.map(|example| (example.id, example.label.to_string())).collect()
    }

    #[test]
    fn a_start_does_what_was_decided_and_forgets_what_was_not() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, dataset) = open(dir.path());
        let design = Design { preset: Default::default(), word_vectors: None };
        let model = registry.create_model(&ModelId::new("bank").unwrap(), design, None).unwrap();
        let mut session = dataset.add(&model).unwrap();
        let long = "x".repeat(RECORD_BYTES);
        session.push(["a", "b", &long].map(|text| (text.to_owned(), label("card"))).to_vec()).unwrap();
        session.commit(None).unwrap();
        let before = labels(&dataset, &model);
        let all = dataset.all(model.uid).unwrap();
        let changes = || {
            let change = |example: &crate::dataset::Example| {
                let relabelled = crate::dataset::Example { label: label("cash"), ..example.clone() };
                let kept = (example.id != 2).then(|| relabelled.record());
                storage::ExampleChange { id: example.id, example: kept }
            };
            [&all[2], &all[0], &all[1]].map(change).to_vec()
        };

        // Written down and not decided: as if nothing had been.
        let records = dataset.write_journal(model.uid, changes()).unwrap();
        assert_eq!(records, 2);
        drop((registry, dataset));
        let (registry, dataset) = open(dir.path());
        assert_eq!(labels(&dataset, &model), before);
        assert!(dataset.store.scan(Tree::Examples, &owner(JOURNAL, model.uid), None).next().is_none());

        // Decided and not done: nobody sees a part of it, and the next start does it.
        let journal = dataset.write_journal(model.uid, changes()).unwrap();
        let extent = Extent { end: 3, count: 2, journal };
        let mut batch = Batch::new();
        batch.put(Tree::Examples, extent_key(model.uid), extent.to_record());
        dataset.store.commit(batch).unwrap();
        assert!(matches!(dataset.all(model.uid), Err(Error::Unavailable(_))));
        let deletion = dataset.delete(&model, &Filter::default(), &Meanings::new(None));
        assert!(matches!(deletion, Err(Error::Unavailable(_))));
        drop((registry, dataset));
        let (_registry, dataset) = open(dir.path());
        assert_eq!(labels(&dataset, &model), [(1, "cash".to_owned()), (3, "cash".to_owned())]);
        assert_eq!(dataset.count(model.uid).unwrap(), 2);
        assert!(dataset.store.scan(Tree::Examples, &owner(JOURNAL, model.uid), None).next().is_none());
    }
}
