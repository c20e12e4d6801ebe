//! What was acknowledged is there after a power cut, whatever the disk made of that which was not synced.
//!
//! A process works on a data folder while a library that is loaded into it records every write and every sync
//! (`recorder.rs`). From the record follows what may be on the disk at each moment (`disk.rs`); such disks are opened.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod disk;
#[path = "../store_fixtures/mod.rs"]
mod store_fixtures;
mod worker;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use disk::{Disk, Reached, records};
use rand::{RngExt as _, SeedableRng as _};
use store_fixtures::{checkpoint, id};
use taxond::{
    dataset::Dataset,
    registry::{Registry, Selector},
};
use worker::{Acknowledged, EXAMPLES, Failing, record, recorder, run};

/// Moments at which the power is cut, how many rounds the process does its work, how often the disk fails, and what the chance comes
/// from; the long form sets more.
const CUTS: (&str, usize) = ("TAXOND_TEST_POWER_CUTS", 60);
const ROUNDS: (&str, usize) = ("TAXOND_TEST_ROUNDS", 24);
const FAILURES: (&str, usize) = ("TAXOND_TEST_FAILURES", 24);
const SEED: (&str, usize) = ("TAXOND_TEST_SEED", 1);

fn number((variable, default): (&str, usize)) -> usize {
    env::var(variable).map_or(default, |number| number.parse().expect("a number"))
}

#[test]
fn what_was_acknowledged_outlasts_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let log = record(dir.path());
    let bytes = fs::read(log).unwrap();
    let records = records(&bytes);
    let (cuts, seed) = (number(CUTS), number(SEED));
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed as u64);

    // Anywhere, and just behind the moments when something was acknowledged.
    let mut moments: Vec<usize> = (0..cuts).map(|_| rng.random_range(0..records.len())).collect();
    let mut disk = Disk::default();
    let mut told = Vec::new();
    for (at, record) in records.iter().enumerate() {
        disk.apply(record);
        told.extend(record.written_to(&disk, "acknowledged").map(|_| at));
    }
    assert_eq!(told.len(), 4 * number(ROUNDS), "it worked to its end");
    let near = moments.iter_mut().step_by(2);
    near.for_each(|moment| *moment = told[rng.random_range(0..told.len())] + rng.random_range(0..2));
    moments.sort_unstable();

    let mut disk = Disk::default();
    let mut acknowledged = Acknowledged::default();
    let mut moments = moments.into_iter().peekable();
    let (mut opened, mut without_loss_of_more) = (0, 0);
    for (at, record) in records.iter().enumerate() {
        disk.apply(record);
        if let Some(line) = record.written_to(&disk, "acknowledged") {
            acknowledged.read(line);
        }
        while moments.next_if_eq(&at).is_some() {
            for reached in [Reached::Nothing, Reached::Everything, Reached::AnyPart] {
                let to = dir.path().join("cut");
                fs::create_dir(&to).unwrap();
                disk.cut(&dir.path().join("work/data"), &to, reached, &mut rng);
                let found = check(&to, acknowledged, &format!("seed {seed}, record {at}, {reached:?}"));
                without_loss_of_more += usize::from(found > acknowledged.examples);
                fs::remove_dir_all(to).unwrap();
                opened += 1;
            }
        }
    }
    println!("{opened} disks opened, {} records, {} MiB", records.len(), bytes.len() >> 20);
    assert_eq!(opened, 3 * cuts);
    assert!(without_loss_of_more > 0, "what is not acknowledged may be there, or the cuts cut nothing");
}

/// A disk that loses what was not synced finds a process that syncs nothing out, or the test above could not fail.
#[test]
fn what_is_not_synced_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let log = record(dir.path());
    let bytes = fs::read(log).unwrap();
    let mut disk = Disk::default();
    let mut acknowledged = Acknowledged::default();
    for record in records(&bytes).iter().filter(|record| !record.is_sync_of_a_file()) {
        disk.apply(record);
        if let Some(line) = record.written_to(&disk, "acknowledged") {
            acknowledged.read(line);
        }
    }
    let to = dir.path().join("cut");
    fs::create_dir(&to).unwrap();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    disk.cut(&dir.path().join("work/data"), &to, Reached::Nothing, &mut rng);
    assert!(acknowledged.versions > 0);
    assert!(fs::read(to.join("db/db")).is_ok_and(|database| database.is_empty()));
}

/// A disk that fails, at any write or sync, once or from there on: nothing that was acknowledged before is lost, and nothing is
/// acknowledged after.
#[test]
fn what_was_acknowledged_outlasts_a_disk_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = recorder(dir.path());
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(number(SEED) as u64);
    let (mut stopped, mut opened) = (0, 0);
    for failure in 0..number(FAILURES) {
        let work = dir.path().join("work");
        fs::create_dir(&work).unwrap();
        // Early ones strike while the folder is made.
        let most = if failure % 4 == 0 { 40 } else { 1000 };
        let failing =
            Failing { at: rng.random_range(0..most), failures: if failure % 2 == 0 { 1 } else { u64::MAX } };
        run(&recorder, &work, &dir.path().join("log"), Some(failing));
        let acknowledged = Acknowledged::of(&work);
        stopped += usize::from(acknowledged.versions < number(ROUNDS) as u64);
        opened += usize::from(acknowledged.versions > 0);
        check(&work.join("data"), acknowledged, &format!("{failing:?}"));
        fs::remove_dir_all(work).unwrap();
        fs::remove_file(dir.path().join("log")).unwrap();
    }
    println!(
        "{} failures, of which {stopped} stopped the work, {opened} after something was acknowledged",
        number(FAILURES)
    );
    assert!(stopped > 0 && opened > 0, "the disk never failed where it matters");
}

/// Opens what a power cut left, and returns how many examples there are.
fn check(path: &Path, acknowledged: Acknowledged, moment: &str) -> u64 {
    let store = open_or_explain(path, moment);
    assert!(store.check().damage.is_empty(), "{moment}");
    let registry = Registry::open(store.clone()).unwrap_or_else(|error| panic!("{moment}: {error}"));
    let dataset = Dataset::open(store, &registry.uids().unwrap()).unwrap();
    let bank = id("bank");
    let Ok(model) = registry.model(&bank) else {
        assert_eq!(acknowledged.versions, 0, "{moment}: the model is gone");
        return 0;
    };
    let latest = model.latest_version;
    assert!(latest >= acknowledged.versions, "{moment}: {latest} versions, {acknowledged:?}");
    let kept = registry.versions(&bank, None, usize::MAX).unwrap();
    for version in &kept {
        let whole =
            registry.checkpoint(&bank, version.number).unwrap_or_else(|error| panic!("{moment}: {error}"));
        assert_eq!(whole, checkpoint(version.number.0 as u32, 1, 40_000), "{moment}: {}", version.number);
        assert!(version.number.0 > acknowledged.deleted, "{moment}: {} was deleted", version.number);
    }
    if latest > 0 {
        assert_eq!(registry.resolve(&bank, &Selector::Serving).unwrap().0, latest, "{moment}");
    }
    let examples = dataset.all(model.uid).unwrap();
    let count = examples.len() as u64;
    assert!(
        count >= acknowledged.examples && count.is_multiple_of(EXAMPLES),
        "{moment}: {count}, {acknowledged:?}"
    );
    // What the last acknowledged correction covered has one label, that of the correction or of the next, which may have been made
    // and not acknowledged.
    let covered = examples.iter().filter(|example| example.id <= EXAMPLES * acknowledged.relabelled);
    let labels: BTreeSet<&str> = covered.map(|example| example.label.as_str()).collect();
    assert!(labels.len() <= 1, "{moment}: a correction is whole or not there: {labels:?}");
    let expected = if acknowledged.relabelled.is_multiple_of(2) { "card" } else { "cash" };
    if latest == acknowledged.relabelled {
        assert!(labels.iter().all(|label| *label == expected), "{moment}: {labels:?}, {acknowledged:?}");
    }
    count
}

fn open_or_explain(path: &Path, moment: &str) -> taxond::store::Store {
    taxond::store::Store::open(path, taxond::store::StoreOptions::default()).unwrap_or_else(|error| {
        let files: Vec<_> =
            walk(path).into_iter().map(|file| (file.clone(), fs::metadata(file).unwrap().len())).collect();
        panic!("{moment}: {error}; {files:?}")
    })
}

fn walk(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
