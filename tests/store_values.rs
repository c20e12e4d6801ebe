//! Values come back as they were put, in the order of their keys, whatever their length; damage shows.

mod store_fixtures;

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    thread,
    time::Duration,
};

use proptest::prelude::*;
use store_fixtures::open;
use taxond::{
    error::Error,
    store::{Batch, BlobId, Store, StoreOptions, Tree},
};

const CELL: usize = 16 * 1024;

fn value(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|i| seed.wrapping_add((i / 7) as u8)).collect()
}

fn put(store: &Store, key: &[u8], value: Vec<u8>) {
    let mut batch = Batch::new();
    batch.put(Tree::Jobs, key, value);
    store.commit(batch).expect("committed");
}

/// The database behind a store that is closed.
fn database(path: &Path) -> sled::Db {
    // The threads of the closed one may hold its lock for a moment.
    loop {
        match sled::Config::new().path(path.join("db")).segment_size(2 * 1024 * 1024).open() {
            Ok(db) => return db,
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put { key: u8, length: usize, seed: u8, durable: bool },
    Delete(u8),
    DeletePrefix(u8),
    Reboot,
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![0..100usize, (CELL - 2)..(CELL + 3), (3 * CELL - 2)..(3 * CELL + 3)];
    prop_oneof![
        6 => (0..20u8, length, any::<u8>(), any::<bool>())
            .prop_map(|(key, length, seed, durable)| Step::Put { key, length, seed, durable }),
        2 => (0..20u8).prop_map(Step::Delete),
        1 => (0..4u8).prop_map(Step::DeletePrefix),
        1 => Just(Step::Reboot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_sorted_map(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut reference: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let key = |number: u8| vec![number / 5, number];
        for step in steps {
            let mut batch = Batch::new();
            match step {
                Step::Put { key: number, length, seed, durable } => {
                    batch.put(Tree::Jobs, key(number), value(seed, length));
                    if durable { store.commit(batch).unwrap() } else { store.append(batch).unwrap() }
                    reference.insert(key(number), value(seed, length));
                }
                Step::Delete(number) => {
                    batch.delete(Tree::Jobs, key(number));
                    store.commit(batch).unwrap();
                    reference.remove(&key(number));
                }
                Step::DeletePrefix(prefix) => {
                    let removed = store.delete_prefix(Tree::Jobs, &[prefix]).unwrap();
                    let before = reference.len();
                    reference.retain(|key, _| key[0] != prefix);
                    prop_assert_eq!(removed as usize, before - reference.len());
                }
                Step::Reboot => {
                    store.sync().unwrap();
                    drop(store);
                    store = open(dir.path());
                }
            }
            let all: Vec<_> = store.scan(Tree::Jobs, &[], None).map(Result::unwrap).collect();
            prop_assert_eq!(&all, &reference.clone().into_iter().collect::<Vec<_>>());
        }
        for prefix in 0..4u8 {
            let inside = || reference.iter().filter(|(key, _)| key[0] == prefix);
            for middle in [key(prefix * 5 + 2), vec![prefix, 255]] {
                let after: Vec<_> = store.scan(Tree::Jobs, &[prefix], Some(&middle)).map(|e| e.unwrap().0).collect();
                let before: Vec<_> =
                    store.scan_back(Tree::Jobs, &[prefix], Some(&middle)).map(|e| e.unwrap().0).collect();
                prop_assert_eq!(after, inside().map(|(key, _)| key.clone()).filter(|key| *key > middle).collect::<Vec<_>>());
                let below = inside().map(|(key, _)| key.clone()).filter(|key| *key < middle).rev();
                prop_assert_eq!(before, below.collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn a_batch_over_several_trees_applies_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut batch = Batch::new();
    batch.put(Tree::Jobs, *b"a", value(1, 3 * CELL));
    batch.put(Tree::Catalog, *b"a", value(2, 5));
    batch.put(Tree::Jobs, *b"a", value(3, 4));
    batch.put(Tree::Receipts, *b"b", value(4, 4));
    batch.delete(Tree::Receipts, *b"b");
    store.commit(batch).unwrap();
    drop(store);

    let store = open(dir.path());
    assert_eq!(store.get(Tree::Jobs, b"a").unwrap(), Some(value(3, 4)));
    assert_eq!(store.get(Tree::Catalog, b"a").unwrap(), Some(value(2, 5)));
    assert!(!store.contains(Tree::Receipts, b"b").unwrap());
}

#[test]
fn a_shorter_value_leaves_no_cell_of_the_longer_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for key in [b"committed", b"appended!"] {
        put(&store, key, value(1, 3 * CELL));
    }
    put(&store, b"committed", value(2, CELL + 1));
    let mut batch = Batch::new();
    batch.put(Tree::Jobs, *b"appended!", value(3, 1));
    store.append(batch).unwrap();
    store.sync().unwrap();
    drop(store);
    assert_eq!(database(dir.path()).open_tree("jobs").unwrap().len(), 2 + 1);
}

#[test]
fn a_reader_never_sees_half_a_replacement() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let values = [value(1, 2 * CELL + 1), value(2, 10), value(3, 4 * CELL)];
    put(&store, b"key", values[0].clone());
    thread::scope(|scope| {
        let writer = scope.spawn(|| (0..60).for_each(|i| put(&store, b"key", values[i % 3].clone())));
        while !writer.is_finished() {
            match store.get(Tree::Jobs, b"key") {
                Ok(read) => assert!(read.is_some_and(|read| values.contains(&read))),
                // Read between the cells of one value and another three times in a row: refused, not mixed.
                Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error}"),
            }
        }
    });
}

#[test]
fn a_flipped_bit_in_the_database_is_an_error_that_says_where_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, b"whole", value(1, 100));
    put(&store, b"flipped", value(2, 2 * CELL));
    let blob = store.put_blob(&value(3, 3 * CELL)).unwrap();
    store.sync().unwrap();
    drop(store);

    let db = database(dir.path());
    let flip = |tree: &str, prefix: &[u8]| {
        let tree = db.open_tree(tree).unwrap();
        let (key, sealed) = tree.scan_prefix(prefix).last().unwrap().unwrap();
        let mut sealed = sealed.to_vec();
        let middle = sealed.len() / 2;
        sealed[middle] ^= 4;
        tree.insert(key, sealed).unwrap();
    };
    flip("jobs", b"flipped");
    flip("chunks", &blob.0);
    db.flush().unwrap();
    drop(db);

    let store = open(dir.path());
    assert_eq!(store.get(Tree::Jobs, b"whole").unwrap(), Some(value(1, 100)));
    let error = store.get(Tree::Jobs, b"flipped").unwrap_err();
    assert!(error.to_string().contains("of jobs is damaged"), "{error}");
    assert!(error.to_string().contains("restore a backup"), "{error}");
    assert!(matches!(store.get_blob(blob, 3 * CELL as u64).unwrap_err(), Error::Corrupt { .. }));
    let scanned: Vec<_> = store.scan(Tree::Jobs, &[], None).collect();
    assert!(scanned[0].is_err() && scanned[1].is_ok(), "a scan names the damage and goes on");
}

#[test]
fn blobs_are_stored_once_and_swept_when_nothing_names_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = [value(1, 0), value(2, CELL), value(3, 5 * CELL + 1)];
    let ids: Vec<BlobId> = bytes.iter().map(|bytes| store.put_blob(bytes).unwrap()).collect();
    for (id, bytes) in ids.iter().zip(&bytes) {
        assert_eq!(store.put_blob(bytes).unwrap(), *id);
        assert_eq!(store.get_blob(*id, bytes.len() as u64).unwrap(), *bytes);
        assert!(store.get_blob(*id, bytes.len() as u64 + 1).is_err(), "another length than was named");
    }
    assert_eq!(store.scan(Tree::Chunks, &[], None).count(), 3);

    let live = HashSet::from([ids[1]]);
    assert_eq!(store.sweep_blobs(&live).unwrap(), 2);
    assert_eq!(store.sweep_blobs(&live).unwrap(), 0);
    assert_eq!(store.get_blob(ids[1], CELL as u64).unwrap(), bytes[1]);
    assert!(matches!(store.get_blob(ids[2], 5 * CELL as u64 + 1).unwrap_err(), Error::Corrupt { .. }));
}

#[test]
fn a_second_opening_is_refused_and_names_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = Store::open(dir.path(), StoreOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Precondition { reason: "DATA_DIR_IN_USE", .. }), "{error}");
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    let (share, closing) = (store.clone(), store.closing());
    drop(store);
    assert!(Store::open(dir.path(), StoreOptions::default()).is_err(), "a clone still has it open");
    assert!(!closing.wait(Duration::from_millis(1)));
    let slow = thread::spawn(move || drop(share));
    assert!(closing.wait(Duration::from_secs(60)));
    open(dir.path());
    slow.join().unwrap();
}
