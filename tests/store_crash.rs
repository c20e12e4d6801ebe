//! A daemon that is killed, or whose disk is full, loses nothing that it acknowledged.
//!
//! Each test runs this test binary again as the process to be harmed: the ignored tests are those processes.

mod store_fixtures;

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use store_fixtures::{checkpoint, id, label, manifest, open, publication, reopen};
use taxond::{
    dataset::{Dataset, Filter, Meanings},
    error::Error,
    model::Preset,
    registry::{Registry, Selector, Tensors},
    store::{Batch, Tree},
    taxonomy::VersionNumber,
};

const FOLDER: &str = "TAXOND_TEST_FOLDER";

/// Where a process to be harmed works; none where somebody runs all ignored tests.
fn folder() -> Option<PathBuf> {
    env::var_os(FOLDER).map(Into::into)
}

fn this_test_binary(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(env::current_exe().expect("the path of this binary"));
    command.args(["--ignored", "--exact", test, "--nocapture"]).env(FOLDER, folder);
    command
}

#[test]
fn what_was_acknowledged_before_a_kill_is_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let bank = id("bank");
    let mut acknowledged = (0, 0);
    // Killed at another place each time: after a few acknowledgements, in the midst of the next writes.
    for round in 0..6 {
        let mut child = this_test_binary("process_that_writes_until_it_is_killed", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let seen = lines
            .map_while(Result::ok)
            .filter_map(|line| {
                let (versions, examples) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
                Some((versions.parse::<u64>().ok()?, examples.parse::<u64>().ok()?))
            })
            .take(round + 2)
            .last();
        child.kill().expect("it runs");
        child.wait().expect("it ran");
        acknowledged = seen.expect("it acknowledged something").max(acknowledged);

        let store = open(dir.path());
        let registry = Registry::open(store.clone()).expect("it opens");
        let dataset = Dataset::open(store, &registry.uids().expect("readable")).expect("it opens");
        let model = registry.model(&bank).expect("acknowledged first");
        assert!(model.latest_version >= acknowledged.0, "{model:?} after {acknowledged:?}");
        let serving = registry.resolve(&bank, &Selector::Serving).expect("promoted");
        assert_eq!(serving.0, model.latest_version);
        for number in 1..=model.latest_version {
            let whole = registry.checkpoint(&bank, VersionNumber(number)).expect("whole");
            assert_eq!(whole, checkpoint(number as u32, 1, 100_000), "version {number}");
        }
        let examples = dataset.all(model.uid).expect("readable");
        assert!(examples.len() as u64 >= acknowledged.1, "{} after {acknowledged:?}", examples.len());
        assert_eq!(examples.len() % 50, 0, "a session is whole or not there");
    }
}

#[test]
#[ignore = "run by the test above in a process of its own"]
fn process_that_writes_until_it_is_killed() {
    let Some(folder) = folder() else { return };
    let store = open(&folder);
    let registry = Registry::open(store.clone()).expect("it opens");
    let dataset = Dataset::open(store, &registry.uids().expect("readable")).expect("it opens");
    let bank = id("bank");
    let model = registry.model(&bank).or_else(|_| registry.create_model(&bank, Preset::Default, None));
    let model = model.expect("there or made");
    loop {
        let next = registry.next_revision(&bank).expect("there").0;
        let tensors = Tensors::New(checkpoint(next as u32, 1, 100_000));
        let version =
            registry.publish(publication(&bank, tensors, Some(manifest(next, "")))).expect("published");
        let mut session = dataset.add(&model).expect("begun");
        let texts = (0..50).map(|number| (format!("text {next} {number}"), label("card"))).collect();
        session.push(texts).expect("pushed");
        let added = session.commit(None).expect("committed");
        println!("acknowledged {} {}", version.number, added.total);
    }
}

#[test]
fn a_correction_that_a_kill_interrupts_is_whole_or_not_there() {
    let dir = tempfile::tempdir().expect("a folder");
    for round in 0..6 {
        let mut child = this_test_binary("process_that_relabels_until_it_is_killed", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let begun = lines.map_while(Result::ok).filter(|line| line.starts_with("relabelling"));
        assert_eq!(begun.take(round + 1).count(), round + 1);
        child.kill().expect("it runs");
        child.wait().expect("it ran");

        let store = open(dir.path());
        let registry = Registry::open(store.clone()).expect("it opens");
        let dataset = Dataset::open(store, &registry.uids().expect("readable")).expect("it opens");
        let model = registry.model(&id("bank")).expect("acknowledged first");
        let stats = dataset.stats(model.uid, &Meanings::new(None)).expect("readable");
        assert_eq!((stats.train + stats.validation, stats.labels.len()), (20_000, 1), "{stats:?}");
        assert_eq!(dataset.count(model.uid).expect("readable"), 20_000);
    }
}

#[test]
#[ignore = "run by the test above in a process of its own"]
fn process_that_relabels_until_it_is_killed() {
    let Some(folder) = folder() else { return };
    let store = open(&folder);
    let registry = Registry::open(store.clone()).expect("it opens");
    let dataset = Dataset::open(store, &registry.uids().expect("readable")).expect("it opens");
    let bank = id("bank");
    let model = registry.model(&bank).or_else(|_| registry.create_model(&bank, Preset::Default, None));
    let model = model.expect("there or made");
    if dataset.count(model.uid).expect("readable") == 0 {
        let mut session = dataset.add(&model).expect("begun");
        let texts = (0..20_000).map(|number| (format!("text number {number}"), label("cash"))).collect();
        session.push(texts).expect("pushed");
        session.commit(None).expect("committed");
    }
    for to in ["card", "cash"].into_iter().cycle() {
        let all = Filter::default();
        let correction = dataset.relabel(&model, &all, &Meanings::new(None), &label(to)).expect("found");
        println!("relabelling to {to}");
        correction.commit(None).expect("committed");
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_ends_writing_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a folder");
    let registry = reopen(dir.path());
    registry.create_model(&id("bank"), Preset::Default, None).expect("created");
    drop(registry);
    // A file that reaches the limit behaves as on a full disk, once the signal that goes with it is ignored.
    let inner = this_test_binary("process_that_writes_until_the_disk_is_full", dir.path());
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16384; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args())
        .env(FOLDER, dir.path())
        .stdout(Stdio::null())
        .status()
        .expect("there is a shell");
    assert!(status.success(), "{status}");

    let registry = reopen(dir.path());
    let model = registry.model(&id("bank")).expect("there");
    assert!(model.latest_version > 0);
    for number in 1..=model.latest_version {
        let whole = registry.checkpoint(&model.id, VersionNumber(number)).expect("whole");
        assert_eq!(whole, checkpoint(number as u32, 1, 250_000));
    }
}

#[test]
#[ignore = "run by the test above in a process of its own"]
fn process_that_writes_until_the_disk_is_full() {
    let Some(folder) = folder() else { return };
    let store = open(&folder);
    let registry = Registry::open(store.clone()).expect("it opens");
    let bank = id("bank");
    let error = (1..1000)
        .find_map(|next: u32| {
            assert!(store.is_writable());
            let tensors = Tensors::New(checkpoint(next, 1, 250_000));
            registry.publish(publication(&bank, tensors, Some(manifest(next.into(), "")))).err()
        })
        .expect("the disk is smaller than a thousand versions");
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(!store.is_writable());

    let mut batch = Batch::new();
    batch.put(Tree::Jobs, *b"k", vec![1]);
    for error in [store.commit(batch.clone()), store.append(batch), store.sync()].map(Result::unwrap_err) {
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("free space"), "{error}");
    }
    // A read gives what was acknowledged or, where the failed write touched its pages, says that it cannot.
    let numbers: Vec<u32> = match registry.versions(&bank, None, 1000) {
        Ok(versions) => versions.iter().map(|version| version.number.0 as u32).collect(),
        Err(error) => return assert!(matches!(error, Error::Unavailable(_)), "{error}"),
    };
    for number in numbers {
        match registry.checkpoint(&bank, VersionNumber(number.into())) {
            Ok(whole) => assert_eq!(whole, checkpoint(number, 1, 250_000)),
            Err(error) => assert!(matches!(error, Error::Unavailable(_)), "{error}"),
        }
    }
}
