//! `fsck` over the data folder of a daemon that has stopped: what it counts, and that it finds what is damaged.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;

use support::{Daemon, texts};
use taxond::{
    config::{Config, Settings},
    proto::v1::{self, Learn},
    server::{self, DataReport, Repaired},
};

fn config(path: &Path) -> Config {
    Config::new(Settings { data_dir: Some(path.to_owned()), ..Settings::default() }).unwrap()
}

fn fsck(path: &Path) -> taxond::error::Result<DataReport> {
    server::fsck(&config(path))
}

fn repair(path: &Path) -> Repaired {
    server::repair(&config(path)).unwrap()
}

async fn stopped(path: &Path) {
    let mut daemon = Daemon::trained(path).await;
    daemon.merge(Learn::None).await;
    daemon.create("empty").await;
    daemon.stop().await;
}

/// Changes a byte of a stored value behind the back of the store.
fn flip(path: &Path, tree: &str, number: usize) {
    flip_where(path, tree, number, |_| true);
}

/// Changes a byte of one of the stored values whose keys pass, behind the back of the store.
fn flip_where(path: &Path, tree: &str, number: usize, passes: fn(&[u8]) -> bool) {
    let db = sled::Config::new().path(path.join("db")).segment_size(2 * 1024 * 1024).open().unwrap();
    let tree = db.open_tree(tree).unwrap();
    let mut values = tree.iter().map(Result::unwrap).filter(|(key, _)| passes(key));
    let (key, value) = values.nth(number).unwrap();
    let mut value = value.to_vec();
    let last = value.len() - 1;
    value[last] ^= 1;
    tree.insert(key, value).unwrap();
    db.flush().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_folder_is_counted_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path()).await;
    for _ in 0..2 {
        let report = fsck(dir.path()).unwrap();
        assert_eq!(report.damage, [""; 0]);
        assert_eq!((report.models, report.versions, report.manifests), (2, 2, 2));
        assert_eq!(report.examples, texts().len() as u64);
        assert!(report.values > report.examples && report.bytes > 100_000, "{report:?}");
    }
    let mut daemon = Daemon::start(dir.path()).await;
    assert_eq!(daemon.ask(support::BANK, &support::QUESTIONS).await.version, "models/bank/versions/2");
    let error = fsck(dir.path()).unwrap_err().to_string();
    assert!(error.contains("another taxond has the data directory"), "{error}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_named() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path()).await;
    flip(dir.path(), "examples", 7);
    flip(dir.path(), "chunks", 3);
    let report = fsck(dir.path()).unwrap();
    assert_eq!(report.damage.len(), 2, "{report:?}");
    assert!(report.damage[0].contains("of examples is damaged"), "{report:?}");
    assert!(report.damage[1].contains("chunks"), "{report:?}");
}

#[test]
fn a_folder_that_is_not_there_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let error = fsck(&dir.path().join("nowhere")).unwrap_err().to_string();
    assert!(error.contains("data_dir") && error.contains("nowhere"), "{error}");
    assert!(!dir.path().join("nowhere").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_gives_up_the_damaged_version_and_example_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let before = daemon.ask(support::BANK, &support::QUESTIONS).await;
    support::assert_succeeded(&daemon.train(support::train_request()).await);
    assert_eq!(daemon.ask(support::BANK, &support::QUESTIONS).await.version, "models/bank/versions/2");
    daemon.stop().await;

    flip_where(dir.path(), "examples", 6, |key| key[0] == b'x');
    // The record that says what the tensors of the newest version are.
    flip_where(dir.path(), "catalog", 1, |key| key[0] == b'k');
    flip(dir.path(), "jobs", 0);
    assert_eq!(fsck(dir.path()).unwrap().damage.len(), 3);

    let Repaired { lost, report } = repair(dir.path());
    assert_eq!(report.damage, [""; 0]);
    assert_eq!((report.models, report.versions), (1, 1));
    assert_eq!(report.examples, texts().len() as u64 - 1);
    assert_eq!(lost.len(), 3, "{lost:?}");
    assert_eq!(lost[0], "jobs/1");
    assert!(lost[1].starts_with("models/bank/versions/2: "), "{lost:?}");
    assert!(lost[1].ends_with("; serving is version 1 now"), "{lost:?}");
    assert_eq!(lost[2], "models/bank: example 7");
    assert_eq!(repair(dir.path()).lost, [""; 0], "there is nothing more to repair");

    let mut daemon = Daemon::start(dir.path()).await;
    let after = daemon.ask(support::BANK, &support::QUESTIONS).await;
    assert_eq!(after.version, "models/bank/versions/1");
    assert_eq!(after.predictions, before.predictions);
    support::assert_succeeded(&daemon.train(support::train_request()).await);
    let number = daemon.ask(support::BANK, &support::QUESTIONS).await.version;
    assert_eq!(number, "models/bank/versions/3", "the number of what was given up is not given again");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_service_time_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path()).await;
    flip_where(dir.path(), "catalog", 0, |key| key[0] == b't');
    assert_eq!(fsck(dir.path()).unwrap().damage.len(), 1);
    let Repaired { lost, report } = repair(dir.path());
    assert!(lost.len() == 1 && lost[0].contains("service time"), "{lost:?}");
    assert_eq!((report.damage.len(), report.versions), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_whole_version_keeps_its_examples_and_learns_anew() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::trained(dir.path()).await;
    daemon.stop().await;
    flip(dir.path(), "chunks", 3);
    flip_where(dir.path(), "examples", 0, |key| key[0] == b'e');
    let Repaired { lost, report } = repair(dir.path());
    assert_eq!(report.damage, [""; 0]);
    assert_eq!((report.versions, report.examples), (0, texts().len() as u64));
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert!(lost[0].starts_with("models/bank/versions/1: "), "{lost:?}");
    assert!(lost[0].ends_with("; serving is no version now"), "{lost:?}");
    assert!(lost[1].contains("how many examples there are"), "{lost:?}");

    let mut daemon = Daemon::start(dir.path()).await;
    support::assert_succeeded(&daemon.train(support::train_request()).await);
    assert_eq!(daemon.ask(support::BANK, &support::QUESTIONS).await.version, "models/bank/versions/2");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_damaged_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path()).await;
    flip_where(dir.path(), "catalog", 0, |key| key[0] == b'r');
    let Repaired { lost, report } = repair(dir.path());
    assert!(report.damage.is_empty() && lost.len() == 1, "{report:?} {lost:?}");
    let mut daemon = Daemon::start(dir.path()).await;
    let request = v1::GetHistoryRequest { model: support::BANK.into(), ..Default::default() };
    let entries = daemon.taxonomy.get_history(request).await.unwrap().into_inner().entries;
    assert!(entries.iter().all(|entry| !entry.versions.is_empty()), "{entries:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_can_stand_in_for_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path()).await;
    flip(dir.path(), "examples", 7);
    flip_where(dir.path(), "catalog", 0, |key| key[0] == b'f');
    let before = fsck(dir.path()).unwrap();
    let Repaired { lost, report } = repair(dir.path());
    assert_eq!(lost, [""; 0]);
    assert_eq!(report.damage, before.damage);
    assert_eq!(report.damage.len(), 2, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_value_is_damaged_a_repair_ends_whole_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path()).await;
    for tree in ["catalog", "examples", "jobs", "chunks", "receipts"] {
        let values = count(dir.path(), tree);
        for number in (0..values).step_by((values / 4).max(1)) {
            let copy = tempfile::tempdir().unwrap();
            copy_folder(dir.path(), copy.path());
            flip(copy.path(), tree, number);
            let damage = fsck(copy.path()).unwrap().damage;
            assert!(!damage.is_empty(), "{tree} {number}");
            let Repaired { lost, report } = repair(copy.path());
            if lost.is_empty() {
                assert_eq!(report.damage, damage, "{tree} {number}");
            } else {
                assert_eq!(report.damage, [""; 0], "{tree} {number}: {lost:?}");
                assert_eq!(fsck(copy.path()).unwrap().damage, [""; 0], "{tree} {number}");
            }
        }
    }
}

fn count(path: &Path, tree: &str) -> usize {
    let db = sled::Config::new().path(path.join("db")).segment_size(2 * 1024 * 1024).open().unwrap();
    db.open_tree(tree).unwrap().len()
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
