//! The process that works on a folder under the library that is loaded into it, and what it was told.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use taxond::{
    dataset::{Dataset, Filter, Meanings},
    error::{Error, Result},
    model::Preset,
    registry::{Batch, Registry, Tensors},
    store::{Store, StoreOptions},
    taxonomy::VersionNumber,
};

use crate::{
    ROUNDS, number,
    store_fixtures::{checkpoint, id, label, manifest, publication},
};

/// Examples that come with each round.
pub(crate) const EXAMPLES: u64 = 50;

const FOLDER: &str = "POWER_CUT_FOLDER";
const FAILS_BELOW: &str = "POWER_CUT_FAIL_BELOW";
const DATA: &str = "data";
const TOLD: &str = "acknowledged";

/// What the process was told is durable.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Acknowledged {
    pub(crate) versions: u64,
    pub(crate) deleted: u64,
    pub(crate) examples: u64,
    pub(crate) relabelled: u64,
}

impl Acknowledged {
    /// What the process wrote down.
    pub(crate) fn of(work: &Path) -> Self {
        let mut acknowledged = Self::default();
        let told = fs::read_to_string(work.join(TOLD)).unwrap_or_default();
        told.lines().for_each(|line| acknowledged.read(line));
        acknowledged
    }

    /// Takes in a line of what the process wrote down.
    pub(crate) fn read(&mut self, line: &str) {
        let (what, number) = line.trim().split_once(' ').expect("two words");
        let number = number.parse().expect("a number");
        match what {
            "versions" => self.versions = number,
            "examples" => self.examples = number,
            "relabelled" => self.relabelled = number,
            "deleted" => self.deleted = number,
            other => panic!("{other} is not known"),
        }
    }
}

/// The library, compiled into a folder.
pub(crate) fn recorder(dir: &Path) -> PathBuf {
    let recorder = dir.join("librecorder.so");
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    let rustc = if rustc.exists() { rustc } else { "rustc".into() };
    let compiled = Command::new(rustc)
        .args(["-O", "--edition", "2024", "--crate-type", "cdylib"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power_cut/recorder.rs"))
        .arg("-o")
        .arg(&recorder)
        .status()
        .unwrap();
    assert!(compiled.success());
    recorder
}

/// Runs the process that is recorded over `work` in a folder and returns the log.
pub(crate) fn record(dir: &Path) -> PathBuf {
    let (work, log) = (dir.join("work"), dir.join("log"));
    fs::create_dir(&work).unwrap();
    run(&recorder(dir), &work, &log, None);
    log
}

/// A disk that fails: the number of the first write or sync that fails, counted from 0, and how many do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failing {
    pub(crate) at: u64,
    pub(crate) failures: u64,
}

/// Runs the process over a folder.
pub(crate) fn run(recorder: &Path, work: &Path, log: &Path, failing: Option<Failing>) {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "worker::process_that_works_on_a_folder"])
        .env("LD_PRELOAD", recorder)
        .env(FOLDER, work)
        .env("POWER_CUT_LOG", log);
    if let Some(Failing { at, failures }) = failing {
        command
            .env(FAILS_BELOW, work.join(DATA))
            .env("POWER_CUT_FAIL_AT", at.to_string())
            .env("POWER_CUT_FAILURES", failures.to_string());
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{failing:?}: {output:?}");
}

#[test]
#[ignore = "run by the tests in a process of its own"]
fn process_that_works_on_a_folder() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let mut told = File::create(folder.join(TOLD)).unwrap();
    let tell = |what: &str, number: u64| told.write_all(format!("{what} {number}\n").as_bytes()).unwrap();
    let store = match Store::open(&folder.join(DATA), StoreOptions::default()) {
        Err(_) if env::var_os(FAILS_BELOW).is_some() => return,
        store => store.unwrap(),
    };
    match work(&store, tell) {
        Err(error) if env::var_os(FAILS_BELOW).is_some() => {
            assert!(matches!(error, Error::Io { .. } | Error::Unavailable(_)), "{error}");
            assert!(!store.is_writable(), "a failed write ends writing: {error}");
            assert!(store.commit(Batch::new()).is_err(), "nothing is acknowledged after {error}");
        }
        outcome => outcome.unwrap(),
    }
}

/// Publishes, adds, relabels and deletes, and tells what it was told is durable.
fn work(store: &Store, mut tell: impl FnMut(&str, u64)) -> Result<()> {
    let registry = Registry::open(store.clone())?;
    let dataset = Dataset::open(store.clone(), &registry.uids()?)?;
    let bank = id("bank");
    let model = registry.create_model(&bank, Preset::Default, None)?;
    for round in 1..=number(ROUNDS) as u64 {
        let tensors = Tensors::New(checkpoint(round as u32, 1, 40_000));
        registry.publish(publication(&bank, tensors, Some(manifest(round, ""))))?;
        tell("versions", round);
        let mut session = dataset.add(&model)?;
        let texts = (0..EXAMPLES).map(|number| (format!("text {round} {number}"), label("card"))).collect();
        session.push(texts)?;
        tell("examples", session.commit(None)?.total);
        let to = if round % 2 == 0 { "card" } else { "cash" };
        let correction = dataset.relabel(&model, &Filter::default(), &Meanings::new(None), &label(to))?;
        correction.commit(None)?;
        tell("relabelled", round);
        if round > 2 {
            registry.delete_version(&bank, VersionNumber(round - 2), true, None)?;
        }
        tell("deleted", round.saturating_sub(2));
    }
    Ok(())
}
