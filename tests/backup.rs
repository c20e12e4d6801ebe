//! Backups taken while the daemon writes, data folders made of them, and databases that are written anew.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod store_fixtures;
mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use store_fixtures::open;
use support::{BANK, Daemon, QUESTIONS, texts};
use taxond::{
    config::{Config, Settings},
    error::{Error, Result},
    proto::v1::{BackupRequest, Learn, admin_service_client::AdminServiceClient},
    server::{self, DataReport},
    store::{BackupWriter, Batch, BlobId, Entry, Store, StoreOptions, Tree},
};

fn config(path: &Path) -> Config {
    Config::new(Settings { data_dir: Some(path.to_owned()), ..Settings::default() }).unwrap()
}

fn restore(path: &Path, file: &[u8]) -> Result<DataReport> {
    server::restore(&config(path), file)
}

async fn backup(daemon: &Daemon) -> Vec<u8> {
    let mut client = AdminServiceClient::new(daemon.channel.clone());
    let mut stream = client.backup(BackupRequest {}).await.unwrap().into_inner();
    let mut file = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        assert!((1..=1 << 20).contains(&message.data.len()));
        file.extend(message.data);
    }
    file
}

/// All of a store, by what a copy of it says.
fn copied(store: &Store) -> BTreeMap<(Tree, Vec<u8>), Vec<u8>> {
    let mut all = BTreeMap::new();
    store
        .copy(|entry| {
            apply(&mut all, entry);
            Ok(())
        })
        .unwrap();
    all
}

fn apply(all: &mut BTreeMap<(Tree, Vec<u8>), Vec<u8>>, entry: Entry) {
    match entry {
        Entry::Value { tree, key, value } => {
            all.insert((tree, key), value);
        }
        Entry::Removed { tree, key } => {
            all.remove(&(tree, key));
        }
        Entry::RemovedAll { tree, prefix } => {
            all.retain(|(kept, key), _| *kept != tree || !key.starts_with(&prefix));
        }
    }
}

fn pair(store: &Store, key: &str, value: Vec<u8>) {
    let mut batch = Batch::new();
    batch.put(Tree::Catalog, key, value.clone());
    batch.put(Tree::Jobs, key, value);
    store.commit(batch).unwrap();
}

/// Values over several cells, of a length that changes each time.
fn value(round: u64) -> Vec<u8> {
    let mut value = round.to_be_bytes().to_vec();
    value.resize(8 + (round as usize * 7919) % 60_000, round as u8);
    value
}

#[test]
fn a_copy_holds_what_was_written_together_together() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let keys: Vec<String> = (0..40).map(|key| format!("key {key:02}")).collect();
    keys.iter().for_each(|key| pair(&store, key, value(0)));
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        // Rounds of writes over all keys; every third round removes some and puts a blob that a record names.
        scope.spawn(|| {
            for round in 1.. {
                for key in &keys {
                    pair(&store, key, value(round));
                }
                store.delete_prefix(Tree::Receipts, b"r").unwrap();
                let blob = store.put_blob(&value(round)).unwrap();
                let mut batch = Batch::new();
                batch.put(Tree::Receipts, format!("r{round}"), round.to_be_bytes().to_vec());
                batch.put(
                    Tree::Catalog,
                    "blob",
                    [blob.0.to_vec(), value(round).len().to_be_bytes().to_vec()].concat(),
                );
                if round % 3 == 0 {
                    batch.delete(Tree::Catalog, keys[0].as_str());
                    batch.delete(Tree::Jobs, keys[0].as_str());
                }
                store.commit(batch).unwrap();
                acknowledged.store(round, Ordering::Release);
                if stop.load(Ordering::Acquire) {
                    return;
                }
            }
        });
        for _ in 0..12 {
            let before = acknowledged.load(Ordering::Acquire);
            let checked = store.check_while(|_| true);
            assert!(checked.damage.is_empty() && checked.values >= 78, "{checked:?}");
            let all = copied(&store);
            for key in &keys {
                let at = |tree| all.get(&(tree, key.clone().into_bytes()));
                assert_eq!(at(Tree::Catalog), at(Tree::Jobs), "{key}");
                if let Some(value) = at(Tree::Jobs) {
                    let round = u64::from_be_bytes(value[..8].try_into().unwrap());
                    assert!(round >= before, "{key} of round {round}, after {before} was acknowledged");
                }
            }
            if let Some(named) = all.get(&(Tree::Catalog, b"blob".to_vec())) {
                let blob = all.get(&(Tree::Chunks, named[..32].to_vec())).expect("named, so it is there");
                assert_eq!(blob.len().to_be_bytes(), named[32..]);
            }
            let receipts = all.keys().filter(|(tree, _)| *tree == Tree::Receipts).count();
            assert!(receipts <= 1, "{receipts} receipts at once");
        }
        stop.store(true, Ordering::Release);
    });
}

#[test]
fn two_copies_at_once_are_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    pair(&store, "key", value(1));
    let mut refused = None;
    store
        .copy(|_| {
            refused = store.copy(|_| Ok(())).err();
            Ok(())
        })
        .unwrap();
    assert!(matches!(refused, Some(Error::Conflict { reason: "BACKUP_RUNNING", .. })), "{refused:?}");
    let failed = store.copy(|_| Err(Error::Cancelled));
    assert!(matches!(failed, Err(Error::Cancelled)), "{failed:?}");
    assert_eq!(copied(&store).len(), 2, "the next one is made");
}

#[test]
fn damage_is_not_backed_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    pair(&store, "key", value(1));
    let blob = store.put_blob(&value(2)).unwrap();
    store.sync().unwrap();
    drop(store);
    {
        let db = sled::Config::new().path(dir.path().join("db")).segment_size(2 << 20).open().unwrap();
        let tree = db.open_tree("chunks").unwrap();
        let (key, sealed) = tree.iter().next().unwrap().unwrap();
        let mut sealed = sealed.to_vec();
        sealed[20] ^= 1;
        tree.insert(key, sealed).unwrap();
        db.flush().unwrap();
    }
    let store = open(dir.path());
    let error = store.copy(|_| Ok(())).unwrap_err();
    let key: String = BlobId(blob.0).to_string();
    assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().contains(&key), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_daemon_that_writes_becomes_a_daemon_that_answers_alike() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(&dir.path().join("first")).await;
    let (_, stream) = daemon.merge(Learn::None).await;
    drop(stream);
    let said = daemon.ask("models/bank/versions/2", &QUESTIONS).await;

    // A second model is made, filled and trained meanwhile, and a third is deleted.
    daemon.create("gone").await;
    daemon.add("models/gone", texts()).await;
    let mut writing = Daemon {
        running: daemon.running,
        channel: daemon.channel.clone(),
        registry: daemon.registry.clone(),
        dataset: daemon.dataset.clone(),
        training: daemon.training.clone(),
        taxonomy: daemon.taxonomy.clone(),
        predict: daemon.predict.clone(),
    };
    let backups = {
        let client = AdminServiceClient::new(daemon.channel.clone());
        tokio::spawn(async move {
            let mut client = client;
            let mut files = Vec::new();
            for _ in 0..6 {
                let mut stream = client.backup(BackupRequest {}).await.unwrap().into_inner();
                let mut file = Vec::new();
                while let Some(message) = stream.message().await.unwrap() {
                    file.extend(message.data);
                }
                files.push(file);
            }
            files
        })
    };
    writing.create("cards").await;
    writing.add("models/cards", texts()).await;
    let delete = taxond::proto::v1::DeleteModelRequest { name: "models/gone".into(), ..Default::default() };
    writing.registry.delete_model(delete).await.unwrap();
    let train = taxond::proto::v1::TrainRequest {
        model: "models/cards".into(),
        epochs: Some(2),
        ..Default::default()
    };
    support::assert_succeeded(&writing.train(train).await);
    let mut files = backups.await.unwrap();
    files.push(backup(&writing).await);
    writing.stop().await;

    for (number, file) in files.iter().enumerate() {
        let path = dir.path().join(format!("restored {number}"));
        let report = restore(&path, file).unwrap();
        assert_eq!(report.damage, [""; 0], "backup {number}");
        assert!((1..=3).contains(&report.models) && report.versions >= 2, "{report:?}");
        // What a model has is there as a whole: a stream of examples, a version with its manifest.
        assert_eq!(report.examples % texts().len() as u64, 0, "{report:?}");
    }
    let last = dir.path().join("restored 6");
    let mut restored = Daemon::start(&last).await;
    assert_eq!(restored.ask(BANK, &QUESTIONS).await, said);
    assert_eq!(restored.ask("models/cards", &QUESTIONS).await.version, "models/cards/versions/1");
    restored.undo().await;
    restored.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_restored_whole_or_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::with_examples(&dir.path().join("first")).await;
    let file = backup(&daemon).await;
    daemon.stop().await;

    let (cut, whole) = (dir.path().join("cut"), dir.path().join("whole"));
    let error = restore(&cut, &file[..file.len() - 40]).unwrap_err();
    assert!(error.to_string().contains("the backup is damaged: it ends too early"), "{error}");
    let error = Store::open(&cut, StoreOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Precondition { reason: "NOT_RESTORED", .. }), "{error}");
    assert!(!cut.join("db").exists(), "a part takes no room");
    // As a kill would leave it.
    fs::create_dir(cut.join("db")).unwrap();
    fs::write(cut.join("db/db"), b"half").unwrap();
    assert_eq!(restore(&cut, &file).unwrap().examples, texts().len() as u64);
    let error = restore(&cut, &file).unwrap_err();
    assert!(matches!(error, Error::Precondition { reason: "DATA_DIR_NOT_EMPTY", .. }), "{error}");

    // The root of a file system of its own is as good as empty.
    fs::create_dir_all(whole.join("lost+found")).unwrap();
    assert_eq!(restore(&whole, &file).unwrap().examples, texts().len() as u64);
    let mut daemon = Daemon::start(&whole).await;
    assert_eq!(daemon.add(BANK, texts()).await.duplicates, texts().len() as u64);
    daemon.stop().await;
    let error = restore(&whole, &file).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");

    let error = restore(&dir.path().join("other"), b"text,label\nhello there,greeting\n").unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    assert!(!dir.path().join("other").exists(), "nothing was made of it");
}

#[test]
fn a_database_written_anew_is_smaller_and_holds_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let blobs: Vec<BlobId> = (0..60_u32)
        .map(|round| {
            let bytes: Vec<u8> = (0..400_000_u32).map(|at| (at.wrapping_mul(round + 7) >> 9) as u8).collect();
            pair(&store, &format!("key {round}"), value(round.into()));
            store.put_blob(&bytes).unwrap()
        })
        .collect();
    for blob in &blobs[5..] {
        store.delete_blob(*blob).unwrap();
    }
    store.sync().unwrap();
    let all = copied(&store);
    drop(store);
    let sizes = Store::compact(dir.path(), StoreOptions::default()).unwrap();
    assert!(sizes.after * 2 < sizes.before, "{sizes:?}");
    let names = || {
        let names =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(), ["db", "format", "high-water", "lock"].map(String::from).into());
    let store = open(dir.path());
    assert_eq!(copied(&store), all);
    // What is acknowledged from now on is known to be.
    pair(&store, "last", value(3));
    drop(store);
    assert_eq!(copied(&open(dir.path())).len(), all.len() + 2);
    Store::compact(dir.path(), StoreOptions::default()).unwrap();
    assert_eq!(copied(&open(dir.path())).len(), all.len() + 2);
}

#[test]
fn a_database_is_written_anew_into_another_folder_and_the_first_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let store = open(&from);
    (0..40).for_each(|round| pair(&store, &format!("key {}", round % 7), value(round)));
    let all = copied(&store);
    drop(store);
    let sizes = Store::compact_to(&from, &to, StoreOptions::default()).unwrap();
    assert!(sizes.after <= sizes.before, "{sizes:?}");
    for path in [&from, &to] {
        let store = open(path);
        assert_eq!(copied(&store), all, "{}", path.display());
        // Syncs are numbered on from where the first was.
        pair(&store, "last", value(3));
        drop(store);
        assert_eq!(copied(&open(path)).len(), all.len() + 2, "{}", path.display());
    }

    let error = Store::compact_to(&from, &to, StoreOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Precondition { reason: "DATA_DIR_NOT_EMPTY", .. }), "{error}");
    for inside in [from.clone(), from.join("new"), dir.path().join("to/../from/new")] {
        let error = Store::compact_to(&from, &inside, StoreOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{}: {error}", inside.display());
    }
    assert_eq!(copied(&open(&from)).len(), all.len() + 2);
}

#[test]
fn damage_leaves_nothing_of_a_database_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let store = open(&from);
    (0..9).for_each(|round| pair(&store, &format!("key {round}"), value(round)));
    drop(store);
    {
        let db = sled::Config::new().path(from.join("db")).segment_size(2 << 20).open().unwrap();
        let tree = db.open_tree("jobs").unwrap();
        let (key, sealed) = tree.iter().nth(5).unwrap().unwrap();
        let mut sealed = sealed.to_vec();
        *sealed.last_mut().unwrap() ^= 1;
        tree.insert(key, sealed).unwrap();
        db.flush().unwrap();
    }
    let error = Store::compact(&from, StoreOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(!from.join("compacted").exists());
    let error = Store::compact_to(&from, &to, StoreOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(!to.join("db").exists());
    // It is not taken for a new folder either.
    let error = Store::open(&to, StoreOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Precondition { reason: "NOT_RESTORED", .. }), "{error}");
}

#[test]
fn wherever_writing_anew_is_interrupted_all_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let made = |name: &str, values: u64| {
        let path = dir.path().join(name);
        let store = open(&path);
        (0..values).for_each(|round| pair(&store, &format!("key {round}"), value(round)));
        path
    };
    // The copy was begun: what there is of it goes.
    let path = made("begun", 3);
    fs::create_dir_all(path.join("compacted/db")).unwrap();
    fs::write(path.join("compacted/db/db"), b"half").unwrap();
    assert_eq!(copied(&open(&path)).len(), 6);
    assert!(!path.join("compacted").exists());
    // The database is away and the copy, told by what is in it, not yet in its place.
    let (path, copy) = (made("away", 3), made("copy", 3));
    pair(&open(&copy), "of the copy", value(9));
    fs::rename(path.join("db"), path.join("replaced")).unwrap();
    fs::create_dir(path.join("compacted")).unwrap();
    fs::rename(copy.join("db"), path.join("compacted/db")).unwrap();
    assert_eq!(copied(&open(&path)).len(), 8);
    assert!(!path.join("compacted").exists() && !path.join("replaced").exists());
    // The copy is in its place, and the old database not yet gone.
    let path = made("placed", 3);
    fs::create_dir_all(path.join("replaced")).unwrap();
    fs::write(path.join("replaced/db"), b"old").unwrap();
    assert_eq!(copied(&open(&path)).len(), 6);
    assert!(!path.join("replaced").exists());
}

#[test]
fn a_backup_by_hand_is_read_as_written() {
    let mut writer = BackupWriter::new(Vec::new()).unwrap();
    let entry = |key: &str, round| Entry::Value { tree: Tree::Jobs, key: key.into(), value: value(round) };
    for entry in [
        entry("a", 1),
        entry("b", 2),
        Entry::RemovedAll { tree: Tree::Jobs, prefix: b"a".to_vec() },
        entry("a", 3),
        Entry::Removed { tree: Tree::Jobs, key: b"b".to_vec() },
        entry("ab", 4),
    ] {
        writer.put(&entry).unwrap();
    }
    let file = writer.finish().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::restore(&dir.path().join("new"), StoreOptions::default(), &file[..]).unwrap();
    assert_eq!(store.get(Tree::Jobs, b"a").unwrap(), Some(value(3)));
    assert_eq!(store.get(Tree::Jobs, b"b").unwrap(), None);
    assert_eq!(store.get(Tree::Jobs, b"ab").unwrap(), Some(value(4)));
}
