//! How long a change of the classes takes on a model with few revisions and on one with many: `cargo bench --bench changes`.
//! The time is that until the change is durable and the version that answers in it is in memory. Works in the folder that
//! `TAXOND_BENCH_DIR` names, else in the system's temporary one, which should be on the disk that is meant; on one in memory
//! the figures show what is computed alone.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/store_fixtures/mod.rs"]
mod store_fixtures;

use std::{collections::HashSet, env, sync::Arc, time::SystemTime};

use divan::Bencher;
use store_fixtures::{id, label, publication};
use taxond::{
    cancel::Cancellation,
    dataset::{Dataset, FeatureCache},
    model::{AnswerWeights, Architecture, Device, Preset, surgery},
    predict::LiveVersions,
    registry::{ModelId, Registry, Tensors},
    store::{Store, StoreOptions},
    taxonomy::{Edit, LeafId, Manifest, Revision},
    train::{ChangeOrder, Edits, Host, Jobs, Learning, Tolerance, UndoOrder, VectorsDir},
};
use tempfile::TempDir;

const CLASSES: u32 = 77;
/// Revisions that the model has before anything is measured.
const REVISIONS: [u64; 2] = [10, 5_000];

fn main() {
    divan::main();
}

#[divan::bench(args = REVISIONS, sample_count = 60, sample_size = 1)]
fn merge_and_undo(bencher: Bencher<'_, '_>, revisions: u64) {
    let model = Served::with_revisions(revisions);
    bencher.bench_local(|| {
        model.merge();
        model.undo();
    });
}

#[divan::bench(args = REVISIONS, sample_count = 60, sample_size = 1)]
fn rename(bencher: Bencher<'_, '_>, revisions: u64) {
    let model = Served::with_revisions(revisions);
    let mut names = ["class 9", "card lost"].into_iter().cycle();
    let mut now = names.next().unwrap();
    bencher.bench_local(|| {
        let next = names.next().unwrap();
        model.change(Edit::Rename { class: now.into(), new_name: next.into() });
        now = next;
    });
}

#[divan::bench(args = REVISIONS, sample_count = 60, sample_size = 1)]
fn page_of_history(bencher: Bencher<'_, '_>, revisions: u64) {
    let model = Served::with_revisions(revisions);
    let served = model.registry.model(&model.id).unwrap();
    bencher.bench_local(|| {
        for manifest in model.registry.manifests_before(&served, None).take(10) {
            let manifest = manifest.unwrap();
            divan::black_box(model.registry.versions_in(&served, manifest.revision).unwrap());
        }
    });
}

/// A model that serves, and all that takes part in a change of its classes.
struct Served {
    id: ModelId,
    registry: Arc<Registry>,
    jobs: Jobs,
    _folder: TempDir,
}

impl Served {
    /// A model whose classes were merged and the merge undone, again and again.
    fn with_revisions(revisions: u64) -> Self {
        let folder = env::var_os("TAXOND_BENCH_DIR").map_or_else(env::temp_dir, Into::into);
        let folder = tempfile::tempdir_in(folder).unwrap();
        let store = Store::open(&folder.path().join("data"), StoreOptions::default()).unwrap();
        let registry = Arc::new(Registry::open(store.clone()).unwrap());
        let dataset = Dataset::open(store, &registry.uids().unwrap()).unwrap();
        let id = id("bank");
        registry.create_model(&id, Preset::Default, None).unwrap();
        let architecture = Architecture { embedding: 8, hidden: 8, ..Architecture::preset(Preset::Default) };
        let leaves: Vec<LeafId> = (1..=CLASSES).map(LeafId).collect();
        let network = surgery::from_scratch(architecture, ["my card was lost"], &leaves, 1);
        let names: Vec<_> = (0..CLASSES).map(|class| label(&format!("class {class}"))).collect();
        let first = Manifest::create(&names, SystemTime::now()).unwrap();
        registry.publish(publication(&id, Tensors::New(network), Some(first))).unwrap();

        let live = LiveVersions::new(Arc::clone(&registry), 1 << 30, HashSet::new(), AnswerWeights::F32);
        let host = Host {
            device: Device::Cpu,
            vectors: VectorsDir::new(None).unwrap(),
            memory_limit: 1 << 30,
            tolerance: Tolerance { accuracy: 0.0, class_f1: 0.1 },
            features: Arc::new(FeatureCache::new(folder.path().join("features"), 1 << 20)),
            niceness: 0,
        };
        let promoted = Box::new(move |version: &taxond::registry::Version| {
            live.get(&version.model, version.number).unwrap();
        });
        let jobs = Jobs::start(Arc::clone(&registry), dataset, host, promoted).unwrap();
        let served = Self { id, registry, jobs, _folder: folder };
        while served.revision() < Revision(revisions) {
            served.merge();
            served.undo();
        }
        served
    }

    fn revision(&self) -> Revision {
        Revision(self.registry.model(&self.id).unwrap().latest_revision)
    }

    fn merge(&self) {
        let classes = vec!["class 1".to_owned(), "class 2".to_owned()];
        self.change(Edit::Merge { classes, into: "one or two".to_owned() });
    }

    fn change(&self, edit: Edit) {
        let order = ChangeOrder {
            model: self.id.clone(),
            edits: Edits::One(edit),
            reason: "a benchmark".to_owned(),
            author: "ada".to_owned(),
            identity: "ada".to_owned(),
            expected_revision: None,
        };
        self.jobs.change(&order, Learning::None, None, &Cancellation::default()).unwrap();
    }

    fn undo(&self) {
        let order = UndoOrder {
            model: self.id.clone(),
            reason: "a benchmark".to_owned(),
            author: "ada".to_owned(),
            expected_revision: None,
        };
        self.jobs.undo(&order, None).unwrap();
    }
}
