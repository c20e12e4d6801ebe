use std::{path::Path, time::SystemTime};

use prost::Message as _;

use super::*;
use crate::{
    model::{Architecture, Array, Checkpoint, Pooling, Preset, Segmentation},
    registry::{Batch, Publication, PublishedManifest, Report, Selector, Tensors},
    store::{Store, StoreOptions},
    taxonomy::{ClassName, Edit, Provenance, Revision},
};

const LEAVES: u32 = 12;

fn bank() -> ModelId {
    ModelId::new("bank").unwrap()
}

fn open(folder: &Path) -> Registry {
    Registry::open(Store::open(folder, StoreOptions::default()).unwrap()).unwrap()
}

/// A network of a few numbers, whose head has more rows than there are classes at first.
fn network() -> Checkpoint {
    Checkpoint {
        architecture: Architecture {
            preset: Preset::Default,
            embedding: 2,
            hidden: 1,
            bidirectional: true,
            reversed: false,
            max_tokens: 8,
            subwords: true,
            pooling: Pooling::MeanMaxInput,
            wide: false,
            frozen_rows: 0,
            segmentation: Segmentation::Words,
        },
        vocabulary: vec![String::new()],
        terms: Vec::new(),
        leaves: (1..=LEAVES).map(LeafId).collect(),
        tensors: [("body".to_owned(), Array::new([2], vec![1.0, 2.0]))].into(),
    }
}

fn publication(manifest: Manifest, parent: Option<u64>, origin: Origin) -> Publication {
    Publication {
        model: bank(),
        tensors: if parent.is_some() { Tensors::Same(VersionNumber(1)) } else { Tensors::New(network()) },
        manifest: PublishedManifest::New(Box::new(manifest)),
        parent: parent.map(VersionNumber),
        origin,
        mode: None,
        reason: String::new(),
        job: None,
        new_job: None,
        report: None,
        lineage: None,
        fitted: Vec::new(),
        promote: true,
        expected_serving: None,
        job_record: None,
        receipt: None,
        also: Batch::new(),
    }
}

fn after(manifest: &Manifest) -> Provenance {
    Provenance {
        revision: Revision(manifest.revision.0 + 1),
        serving: VersionNumber(manifest.revision.0),
        reason: String::new(),
        author: String::new(),
        created: SystemTime::UNIX_EPOCH,
    }
}

/// A version that a training measured, as the first one and, where it says so, as a later one.
fn measured(publication: Publication) -> Publication {
    let rejection = vec![RejectionPoint { min_confidence: 0.5, precision: 0.9, coverage: 0.8 }];
    let report = Report { rejection, unlearnt: vec![LeafId(2)], ..Report::default() };
    Publication { report: Some(report), ..publication }
}

/// A training, then changes of every kind that makes lineage: one that leaves classes their leaves, ones that do not, one that
/// fits leaves, an undo of it, one that takes classes out.
fn history(registry: &Registry) -> Vec<Manifest> {
    registry.create_model(&bank(), Preset::Default, None).unwrap();
    let names = ["a", "b", "c", "d", "e"].map(|name| ClassName::new(name).unwrap());
    let mut manifests = vec![Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap()];
    registry.publish(measured(publication(manifests[0].clone(), None, Origin::Training))).unwrap();
    let change = |manifests: &mut Vec<Manifest>, edit: Edit, fitted: &[u32]| {
        let now = manifests.last().unwrap();
        let next = now.edit(&edit, after(now)).unwrap();
        let made = publication(next.clone(), Some(now.revision.0), Origin::Instant);
        let fitted = fitted.iter().copied().map(LeafId).collect();
        registry.publish(Publication { fitted, ..made }).unwrap();
        manifests.push(next);
    };
    let rename =
        |class: &str, new_name: &str| Edit::Rename { class: class.into(), new_name: new_name.into() };
    let add = |name: &str| Edit::Add { names: vec![name.into()] };
    change(&mut manifests, rename("a", "first"), &[]);
    change(&mut manifests, Edit::Merge { classes: vec!["b".into(), "c".into()], into: "bc".into() }, &[]);
    change(&mut manifests, add("f"), &[6]);
    change(&mut manifests, add("g"), &[7]);
    let now = manifests.last().unwrap();
    let undone = now.undo(&manifests[3], after(now));
    let restored = undone.undo.unwrap();
    assert_eq!(restored.version, VersionNumber(3));
    registry.publish(publication(undone.clone(), Some(4), Origin::Undo)).unwrap();
    manifests.push(undone);
    change(&mut manifests, Edit::Remove { classes: vec!["d".into()] }, &[]);
    change(&mut manifests, rename("e", "last"), &[]);
    manifests
}

/// Makes the records those of a build that stored no lineage and had no index.
fn make_older(registry: &Registry) {
    let model = registry.model(&bank()).unwrap();
    let mut batch = Batch::new();
    for number in (1..=model.latest_version).map(VersionNumber) {
        let mut record = registry.version_record(&model, number).unwrap().unwrap();
        record.lineage = None;
        batch.put(Tree::Catalog, key::version(model.uid, number), record.encode_to_vec());
    }
    let record = storage::Model { indexed_versions: 0, ..model.to_record() };
    batch.put(Tree::Catalog, key::model(&model.id), record.encode_to_vec());
    for entry in registry.store.scan(Tree::Catalog, &key::owner(key::REVISIONS, model.uid), None) {
        batch.delete(Tree::Catalog, entry.unwrap().0);
    }
    registry.store.commit(batch).unwrap();
}

fn versions(registry: &Registry) -> Vec<Version> {
    let mut versions = registry.versions(&bank(), None, 99).unwrap();
    versions.reverse();
    versions
}

#[test]
fn what_is_stored_is_what_a_walk_finds() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path());
    history(&registry);
    let stored = versions(&registry);
    assert!(stored[0].lineage.is_none() && stored[1..].iter().all(|version| version.lineage.is_some()));
    let lineages: Vec<Lineage> = stored.iter().map(|version| registry.lineage(version).unwrap()).collect();
    make_older(&registry);
    let older = versions(&registry);
    assert!(older.iter().all(|version| version.lineage.is_none()));
    let walked: Vec<Lineage> = older.iter().map(|version| registry.lineage(version).unwrap()).collect();
    assert_eq!(lineages, walked);

    let learnt: Vec<bool> = walked.iter().map(|of| of.learnt).collect();
    assert_eq!(learnt, [true, true, false, false, false, false, false, false]);
    assert!(walked.iter().all(|of| of.learnt_leaves == [1, 3, 4, 5].map(LeafId).into()));
    let curves: Vec<usize> = walked.iter().map(|of| of.rejection.len()).collect();
    assert_eq!(curves, [1, 1, 1, 1, 1, 1, 0, 0]);
    let fitted: Vec<usize> = walked.iter().map(|of| of.fitted_leaves.len()).collect();
    assert_eq!(fitted, [0, 0, 0, 1, 2, 1, 1, 1]);
}

#[test]
fn a_change_reads_no_version_but_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path());
    let now = history(&registry).pop().unwrap();
    let model = registry.model(&bank()).unwrap();
    // Whoever walked on would come upon these.
    let mut batch = Batch::new();
    for number in (1..model.latest_version).map(VersionNumber) {
        batch.put(Tree::Catalog, key::version(model.uid, number), vec![0xff; 9]);
    }
    registry.store.commit(batch).unwrap();
    let edit = Edit::Rename { class: "bc".into(), new_name: "both".into() };
    let next = now.edit(&edit, after(&now)).unwrap();
    let version = registry.publish(publication(next, Some(model.latest_version), Origin::Instant)).unwrap();
    assert!(version.lineage.as_ref().is_some_and(|of| of.fitted_leaves == [LeafId(6)].into()));
    assert_eq!(registry.lineage(&version).unwrap(), version.lineage.clone().unwrap());
    assert!(registry.version(&bank(), VersionNumber(1)).is_err(), "the records are not damaged");
}

#[test]
fn an_older_store_is_walked_once_and_then_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path());
    let manifests = history(&registry);
    let before: Vec<Vec<Version>> = {
        let model = registry.model(&bank()).unwrap();
        let of = |manifest: &Manifest| registry.versions_in(&model, manifest.revision).unwrap();
        manifests.iter().map(of).collect()
    };
    assert!(
        before.iter().zip(1..).all(|(of, number)| of.len() == 1 && of[0].number == VersionNumber(number))
    );
    make_older(&registry);
    drop(registry);

    let registry = open(folder.path());
    let model = registry.model(&bank()).unwrap();
    assert_eq!(model.latest_version, 8);
    for (manifest, before) in manifests.iter().zip(&before) {
        let found = registry.versions_in(&model, manifest.revision).unwrap();
        assert_eq!(found[0].number, before[0].number);
    }
    let now = manifests.last().unwrap();
    let next = now.edit(&Edit::Add { names: vec!["h".into()] }, after(now)).unwrap();
    let version = registry.publish(publication(next, Some(8), Origin::Instant)).unwrap();
    let lineage = version.lineage.clone().unwrap();
    assert_eq!(lineage.learnt_leaves, [1, 3, 4, 5].map(LeafId).into());
    assert!(!lineage.learnt && lineage.rejection.is_empty());
    assert_eq!(registry.version(&bank(), version.number).unwrap().lineage, Some(lineage));
}

#[test]
fn an_exported_version_takes_its_lineage_along() {
    let folder = tempfile::tempdir().unwrap();
    let registry = open(folder.path());
    history(&registry);
    let archive = registry.export(&bank(), &Selector::Number(VersionNumber(6))).unwrap();
    assert_eq!(archive.lineage, registry.lineage(&versions(&registry)[5]).unwrap());
    let record = archive.lineage.to_record();
    assert_eq!(record.fitted_leaves, [6]);
    assert_eq!(Lineage::from_record(record), archive.lineage);
}
