//! `fsck` over the data folder of a daemon that has stopped: what it counts, and that it finds what is damaged.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;

use support::{Daemon, texts};
use taxond::{
    config::{Config, Settings},
    proto::v1::Learn,
    server::{self, DataReport},
};

fn fsck(path: &Path) -> taxond::error::Result<DataReport> {
    let settings = Settings { data_dir: Some(path.to_owned()), ..Settings::default() };
    server::fsck(&Config::new(settings).unwrap())
}

async fn stopped(path: &Path) {
    let mut daemon = Daemon::trained(path).await;
    daemon.merge(Learn::None).await;
    daemon.create("empty").await;
    daemon.stop().await;
}

/// Changes a byte of a stored value behind the back of the store.
fn flip(path: &Path, tree: &str, number: usize) {
    let db = sled::Config::new().path(path.join("db")).segment_size(2 * 1024 * 1024).open().unwrap();
    let tree = db.open_tree(tree).unwrap();
    let (key, value) = tree.iter().nth(number).unwrap().unwrap();
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
