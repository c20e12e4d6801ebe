//! Data folders and backups that earlier builds wrote still open, with everything in them. `tests/golden/format-N` holds one of
//! each format; they are never written again. A new format gets a folder of its own from the ignored test below.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod store_fixtures;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use store_fixtures::{checkpoint, id, label, manifest, publication, reopen};
use taxond::{
    dataset::{Dataset, Filter, Meanings},
    model::Preset,
    registry::{AliasName, JobState, Receipt, Registry, Selector, Tensors},
    store::{Store, StoreOptions},
    taxonomy::{Revision, VersionNumber},
};

fn golden(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/format-{format}"))
}

/// Fills a folder with one of everything.
fn write(path: &Path) {
    let store = store_fixtures::open(path);
    let registry = Registry::open(store.clone()).unwrap();
    let dataset = Dataset::open(store, &registry.uids().unwrap()).unwrap();
    let bank = id("bank");
    let model = registry.create_model(&bank, Preset::Default, None).unwrap();
    registry.create_model(&id("empty"), Preset::Seed, None).unwrap();
    let mut session = dataset.add(&model).unwrap();
    let texts = [("cash please", "card"), ("取款 三万", "取款"), ("a note", "card"), ("my card", "card")];
    session.push(texts.map(|(text, name)| (text.to_owned(), label(name))).to_vec()).unwrap();
    session.commit(None).unwrap();
    let note = Filter { ids: [3].into(), ..Filter::default() };
    dataset.delete(&model, &note, &Meanings::new(None)).unwrap().commit(None).unwrap();
    let mut job = registry.new_job(&bank, "", None).unwrap();
    for revision in 1..=3 {
        let mut publication = publication(
            &bank,
            Tensors::New(checkpoint(revision as u32, 1, 30)),
            Some(manifest(revision, "because")),
        );
        publication.parent = (revision > 1).then(|| VersionNumber(revision - 1));
        publication.receipt = (revision == 3).then(|| {
            let created = SystemTime::now() + Duration::from_secs(100 * 365 * 24 * 3600);
            Receipt::new("", "request", [7; 32], created)
        });
        registry.publish(publication).unwrap();
    }
    registry.delete_version(&bank, VersionNumber(1), true, None).unwrap();
    registry.set_alias(&bank, AliasName::new("canary").unwrap(), VersionNumber(2), None, None).unwrap();
    job.state = JobState::Succeeded;
    job.versions = vec![VersionNumber(3)];
    job.ended = Some(SystemTime::now());
    registry.put_job(&job).unwrap();
}

/// Everything that `write` wrote is there, and can be worked with.
fn check(path: &Path) {
    let store = store_fixtures::open(path);
    assert!(store.check().damage.is_empty());
    let registry = Registry::open(store.clone()).unwrap();
    let dataset = Dataset::open(store, &registry.uids().unwrap()).unwrap();
    let bank = id("bank");
    let model = registry.model(&bank).unwrap();
    assert_eq!(registry.versions(&bank, None, 9).unwrap().len(), 2);
    assert_eq!(registry.manifests(&bank, None, 9).unwrap().len(), 3);
    assert_eq!((model.preset, model.latest_version, model.latest_revision), (Preset::Default, 3, 3));
    assert_eq!(registry.model(&id("empty")).unwrap().preset, Preset::Seed);
    let canary = Selector::Alias(AliasName::new("canary").unwrap());
    assert_eq!(registry.resolve(&bank, &canary).unwrap(), VersionNumber(2));
    assert_eq!(registry.resolve(&bank, &Selector::Serving).unwrap(), VersionNumber(3));
    for number in 2..=3 {
        assert_eq!(
            registry.checkpoint(&bank, VersionNumber(number)).unwrap(),
            checkpoint(number as u32, 1, 30)
        );
    }
    assert_eq!(registry.version_ever(&bank, VersionNumber(1)).unwrap().number, VersionNumber(1));
    let kept = registry.manifest(&bank, Revision(3)).unwrap();
    assert_eq!((kept.reason.as_str(), kept.active().count()), ("because", 2));
    let examples = dataset.all(model.uid).unwrap();
    let found: Vec<_> =
        examples.iter().map(|example| (example.id, example.text.as_str(), example.label.as_str())).collect();
    assert_eq!(found, [(1, "cash please", "card"), (2, "取款 三万", "取款"), (4, "my card", "card")]);
    let [job] = &registry.jobs(None, None, 9).unwrap()[..] else { panic!("one job") };
    assert_eq!((job.state, &job.versions[..]), (JobState::Succeeded, &[VersionNumber(3)][..]));
    assert_eq!(registry.receipt("", "request").unwrap().unwrap().outcome, "models/bank/versions/3");
    // Earlier builds kept no identity: whoever repeats that very request gets its answer.
    assert_eq!(registry.receipt("ada", "request").unwrap(), None);
    let of_anybody = |fingerprint| registry.receipt_of_anybody("request", fingerprint).unwrap();
    assert_eq!(of_anybody(&[7; 32]).unwrap().outcome, "models/bank/versions/3");
    assert_eq!(of_anybody(&[8; 32]), None);

    // And it is written on.
    registry.publish(publication(&bank, Tensors::Same(VersionNumber(3)), Some(manifest(4, "")))).unwrap();
    let mut session = dataset.add(&model).unwrap();
    session.push(vec![("my card".into(), label("card")), ("new".into(), label("card"))]).unwrap();
    let added = session.commit(None).unwrap();
    assert_eq!((added.added, added.duplicates, added.total), (1, 1, 4));
    drop((registry, dataset));
    assert_eq!(reopen(path).resolve(&bank, &Selector::Serving).unwrap(), VersionNumber(4));
}

#[test]
fn folders_of_earlier_builds_open() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("data");
    fs::create_dir_all(to.join("db/blobs")).unwrap();
    for name in ["format", "high-water", "db/conf", "db/db"] {
        fs::copy(golden(1).join(name), to.join(name)).unwrap();
    }
    check(&to);
}

#[test]
fn backups_of_earlier_builds_are_restored() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("data");
    let file = File::open(golden(1).join("backup.taxond")).unwrap();
    drop(Store::restore(&to, StoreOptions::default(), file).unwrap());
    check(&to);
}

#[test]
fn what_is_kept_is_what_is_written_now() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    check(dir.path());
}

#[test]
#[ignore = "writes the folder of a new format, once"]
fn write_a_golden_folder() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let format = fs::read_to_string(dir.path().join("format")).unwrap().trim().parse().unwrap();
    let to = golden(format);
    fs::create_dir_all(to.join("db")).expect("a new folder");
    let backup = File::create_new(to.join("backup.taxond")).expect("it is not written again");
    reopen(dir.path()).backup(backup).unwrap();
    for name in ["format", "high-water", "db/conf", "db/db"] {
        fs::copy(dir.path().join(name), to.join(name)).unwrap();
    }
}
