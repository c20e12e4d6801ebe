//! Small models to store.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{path::Path, time::SystemTime};

use taxond::{
    error::Error,
    model::{Architecture, Array, Checkpoint, Pooling, Preset},
    registry::{Batch, ModelId, Origin, Publication, PublishedManifest, Registry, Tensors},
    store::{Store, StoreOptions},
    taxonomy::{ClassName, LeafId, Manifest, Revision},
};

pub(crate) fn open(path: &Path) -> Store {
    Store::open(path, StoreOptions::default()).expect("the store opens")
}

pub(crate) fn reopen(path: &Path) -> Registry {
    Registry::open(open(path)).expect("the registry opens")
}

pub(crate) fn id(raw: &str) -> ModelId {
    ModelId::new(raw).expect("a valid name")
}

pub(crate) fn label(raw: &str) -> ClassName {
    ClassName::new(raw).expect("a valid name")
}

/// A manifest of two classes with the leaves 1 and 2.
pub(crate) fn manifest(revision: u64, reason: &str) -> Manifest {
    let first = Manifest::create(&[label("card"), label("取款")], SystemTime::now()).expect("distinct names");
    Manifest { revision: Revision(revision), reason: reason.to_owned(), ..first }
}

/// A checkpoint for [`manifest`] with `numbers` numbers in its body, which depend on `body`, and a head that depends
/// on `head`.
pub(crate) fn checkpoint(body: u32, head: u32, numbers: usize) -> Checkpoint {
    let data = |seed: u32, length: usize| -> Vec<f32> {
        (0..length as u32)
            .map(|i| {
                (i.wrapping_mul(2_654_435_761) ^ seed.wrapping_mul(40_503)) as f32 / u32::MAX as f32 - 0.5
            })
            .collect()
    };
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
            wide: true,
            frozen_rows: 0,
            segmentation: taxond::text::Segmentation::Words,
        },
        vocabulary: vec![String::new(), format!("word {body}"), "取款".to_owned()],
        terms: vec![u64::from(body), u64::MAX],
        leaves: vec![LeafId(1), LeafId(2)],
        tensors: [
            ("body".to_owned(), Array::new([numbers], data(body, numbers))),
            ("head".to_owned(), Array::new([2, 6], data(head, 12))),
        ]
        .into(),
    }
}

/// A promoted version with a new manifest or with revision 1.
pub(crate) fn publication(model: &ModelId, tensors: Tensors, manifest: Option<Manifest>) -> Publication {
    Publication {
        model: model.clone(),
        tensors,
        manifest: manifest
            .map_or(PublishedManifest::Existing(Revision(1)), |new| PublishedManifest::New(Box::new(new))),
        parent: None,
        origin: Origin::Training,
        mode: None,
        reason: "a test".to_owned(),
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

/// The kind of an error, with what a caller tells cases apart by.
pub(crate) fn kind(error: &Error) -> String {
    match error {
        Error::NotFound { resource, name, .. } => format!("not found: {resource} {name}"),
        Error::AlreadyExists { name, .. } => format!("exists: {name}"),
        Error::Precondition { reason, .. }
        | Error::Conflict { reason, .. }
        | Error::Exhausted { reason, .. } => (*reason).to_owned(),
        other => format!("{other:?}"),
    }
}
