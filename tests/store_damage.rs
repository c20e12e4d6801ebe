//! Whatever happens to the files of a closed store, it ends in right answers or in a refusal: never in lost or other values.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod store_fixtures;

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use store_fixtures::open;
use taxond::{
    error::Error,
    store::{Batch, Store, StoreOptions, Tree},
};

/// Values of every size, some of them written twice, by many commits.
fn written(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let store = open(path);
    let mut values = BTreeMap::new();
    for round in 0..40u32 {
        let mut batch = Batch::new();
        for number in 0..6 {
            let key = format!("key {:03}", (round * 5 + number * 31) % 97).into_bytes();
            let length = [0, 10, 300, 5_000, 40_000][((round + number) % 5) as usize];
            let value: Vec<u8> = (0..length).map(|at| (at * 7 + round * 13 + number) as u8).collect();
            batch.put(Tree::Examples, key.clone(), value.clone());
            values.insert(key, value);
        }
        store.commit(batch).unwrap();
    }
    let closing = store.closing();
    drop(store);
    assert!(closing.wait(std::time::Duration::from_secs(60)));
    values
}

/// All files of a folder, by their path below it.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

/// What the store says to all keys.
fn read(path: &Path, keys: impl Iterator<Item = Vec<u8>>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
    let store = Store::open(path, StoreOptions::default())?;
    let mut values = BTreeMap::new();
    for key in keys {
        if let Some(value) = store.get(Tree::Examples, &key)? {
            values.insert(key, value);
        }
    }
    let closing = store.closing();
    drop(store);
    closing.wait(std::time::Duration::from_secs(60));
    Ok(values)
}

/// Damages a copy of a folder, and looks at what becomes of it: right answers, a refusal, or the fault that this is about.
fn survives(
    whole: &Path,
    values: &BTreeMap<Vec<u8>, Vec<u8>>,
    what: &str,
    damage: impl Fn(&Path),
) -> Result<Option<Error>, String> {
    let dir = tempfile::tempdir().unwrap();
    copy(whole, dir.path());
    damage(dir.path());
    let outcome = catch_unwind(AssertUnwindSafe(|| read(dir.path(), values.keys().cloned())));
    match outcome {
        Ok(Ok(found)) if &found == values => Ok(None),
        Ok(Ok(found)) => {
            let lost = values.keys().filter(|key| !found.contains_key(*key)).count();
            Err(format!(
                "{what}: {lost} of {} values are gone without a word, or others came back",
                values.len()
            ))
        }
        Ok(Err(error)) => Ok(Some(error)),
        Err(_) => Err(format!("{what}: the store panicked")),
    }
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_database_that_lost_its_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let values = written(dir.path());
    let length = fs::metadata(dir.path().join("db/db")).unwrap().len();
    let (mut faults, mut unseen) = (Vec::new(), 0);
    for cut in 1..60 {
        let left = length * (60 - cut) / 60;
        let what = format!("{left} of {length} bytes");
        let shorten = |path: &Path| {
            fs::OpenOptions::new().write(true).open(path.join("db/db")).unwrap().set_len(left).unwrap();
        };
        faults.extend(survives(dir.path(), &values, &what, shorten).err());
        let without_mark = survives(dir.path(), &values, &what, |path| {
            shorten(path);
            fs::remove_file(path.join("high-water")).unwrap();
        });
        unseen += usize::from(without_mark.is_err());
    }
    assert_none(&faults);
    assert!(unseen > 0, "the high-water file is what tells");
}

#[test]
fn an_older_copy_of_the_database_is_refused_with_what_to_do() {
    let (dir, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    written(dir.path());
    copy(&dir.path().join("db"), old.path());
    let values = written(dir.path());
    let error = survives(dir.path(), &values, "an older copy", |path| {
        fs::remove_dir_all(path.join("db")).unwrap();
        copy(old.path(), &path.join("db"));
    });
    let error = error.unwrap().expect("it is refused").to_string();
    assert!(error.contains("was acknowledged") && error.contains("remove the high-water file"), "{error}");
}

#[test]
fn a_flipped_byte_in_any_file_changes_no_value() {
    let dir = tempfile::tempdir().unwrap();
    let (values, mut faults) = (written(dir.path()), Vec::new());
    for file in files(dir.path()) {
        let name = file.strip_prefix(dir.path()).unwrap().to_owned();
        let bytes = fs::read(&file).unwrap();
        let used: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
        for number in 0..used.len().min(120) {
            let at = used[number * used.len() / used.len().min(120)];
            let flipped = survives(dir.path(), &values, &format!("{} at {at}", name.display()), |path| {
                let mut bytes = bytes.clone();
                bytes[at] ^= 0x10;
                fs::write(path.join(&name), bytes).unwrap();
            });
            faults.extend(flipped.err());
        }
    }
    assert_none(&faults);
}

#[test]
fn a_file_that_is_gone_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let (values, mut faults) = (written(dir.path()), Vec::new());
    for file in files(dir.path()) {
        let name = file.strip_prefix(dir.path()).unwrap().to_owned();
        let gone = survives(dir.path(), &values, &format!("without {}", name.display()), |path| {
            fs::remove_file(path.join(&name)).unwrap();
        });
        faults.extend(gone.err());
    }
    assert_none(&faults);
}
