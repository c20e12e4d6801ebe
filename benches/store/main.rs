//! How fast the store takes in and opens, and what memory it takes: `cargo bench --bench store`, or `-- PART` for one part of it.
//! Prints one line a figure, each beside what the disk itself does with an fsync, as disks differ by a factor of a hundred. Works
//! in the folder that `TAXOND_BENCH_DIR` names, else in the system's temporary one, which should be on the disk that is meant and
//! not in memory.
//!
//! Writes are measured on slower disks as well, which a library makes of the one that is there (`slow_disk.rs`), and memory with
//! several caches, each in a process of its own.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../../tests/store_fixtures/mod.rs"]
mod store_fixtures;

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use store_fixtures::{checkpoint, id, label, manifest, publication};
use taxond::{
    allocator,
    dataset::{Dataset, Filter, Meanings},
    model::Preset,
    registry::{AliasName, Registry, Tensors},
    store::{Store, StoreOptions},
    taxonomy::VersionNumber,
};

const WRITING: Duration = Duration::from_secs(3);
const CLIENTS: usize = 64;
const MODELS: usize = 1_000;
const VERSIONS: usize = 5_000;
const EXAMPLES: usize = 1_000_000;
/// Examples in a message, of a size that clients send.
const MESSAGE: usize = 1_000;

/// More of a sync than the disk takes, in microseconds, and the caches whose memory is measured, in MiB.
const SLOWER: [u32; 2] = [2_000, 10_000];
const CACHES: [u64; 3] = [8, 64, 256];
/// The cache of all that is not a measurement of it: the default of the daemon, in MiB.
const CACHE: u64 = 64;
const CACHE_VARIABLE: &str = "TAXOND_BENCH_CACHE_MIB";

/// Measures something in a folder.
type Measure = fn(&Path);

/// What is measured, by its name, and whether it is part of the whole.
const PARTS: [(&str, bool, Measure); 8] = [
    ("fsyncs", true, fsyncs),
    ("writes", true, writes),
    ("slower", true, slower),
    ("publications", true, publications),
    ("examples", true, examples),
    ("opening", true, opening),
    ("memory", true, memory),
    ("resident", false, resident),
];

fn main() {
    // As the daemon has it.
    allocator::keep_little();
    // Cargo adds --bench.
    let asked = env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let names = PARTS.map(|(name, ..)| name);
    assert!(asked.as_deref().is_none_or(|asked| names.contains(&asked)), "parts are {names:?}");
    let dir = tempfile::tempdir_in(root()).unwrap();
    for (name, of_the_whole, measure) in PARTS {
        if asked.as_deref().map_or(of_the_whole, |asked| asked == name) {
            let dir = dir.path().join(name);
            fs::create_dir(&dir).unwrap();
            measure(&dir);
            fs::remove_dir_all(dir).unwrap();
        }
    }
}

fn root() -> PathBuf {
    env::var_os("TAXOND_BENCH_DIR").map_or_else(env::temp_dir, Into::into)
}

/// A part of this in a process of its own.
fn again(part: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg(part);
    command
}

/// The writes of one client and of many on disks that take longer over a sync.
fn slower(dir: &Path) {
    let library = dir.join("libslow_disk.so");
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    let rustc = if rustc.exists() { rustc } else { "rustc".into() };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/store/slow_disk.rs");
    let mut compiler = Command::new(rustc);
    compiler.args(["-O", "--edition", "2024", "--crate-type", "cdylib", "-o"]).args([&library, &source]);
    assert!(compiler.status().unwrap().success());
    for micros in SLOWER {
        println!("a sync takes {:.0} ms more:", f64::from(micros) / 1e3);
        for part in ["fsyncs", "writes"] {
            let mut command = again(part);
            command.env("LD_PRELOAD", &library).env("SLOW_DISK_MICROS", micros.to_string());
            assert!(command.status().unwrap().success());
        }
    }
}

/// The memory of caches of several sizes.
fn memory(_dir: &Path) {
    for cache in CACHES {
        assert!(again("resident").env(CACHE_VARIABLE, cache.to_string()).status().unwrap().success());
    }
}

/// What the process takes while much more than its cache is written and read.
fn resident(dir: &Path) {
    let (registry, dataset) = open(dir);
    let bank = id("bank");
    let model = registry.create_model(&bank, Preset::Default, None).unwrap();
    let mut told = format!("memory with a cache of {:>3} MiB: {} MiB at first", cache_mib(), memory_mib());
    let mut tell = |what: &str| told += &format!(", {} {what}", memory_mib());
    add(&dataset, &model, EXAMPLES / 2);
    tell("after half a million examples");
    add(&dataset, &model, EXAMPLES);
    tell("after a million");
    for _ in 0..2 {
        read(&dataset, model.uid);
        tell("after they were read");
    }
    for round in 1..=80 {
        let tensors = Tensors::New(checkpoint(round, 1, 5_000_000));
        registry.publish(publication(&bank, tensors, Some(manifest(round.into(), "")))).unwrap();
        if round % 20 == 0 {
            tell(&format!("after {} MB of versions", 20 * round));
            for round in 1..=round {
                registry.checkpoint(&bank, VersionNumber(round.into())).unwrap();
            }
            tell("after they were read");
        }
    }
    println!("{told}");
}

/// Memory that the process has at this moment, in MiB, after what is free went back to the system, as it does in the daemon each
/// minute.
fn memory_mib() -> u64 {
    allocator::give_back();
    let pid = sysinfo::get_current_pid().unwrap();
    let mut system = sysinfo::System::new().unwrap();
    system.refresh_processes(sysinfo::ProcessesToUpdate::Some(&[pid]), true);
    system.process(pid).unwrap().memory() >> 20
}

/// Reads all examples of a model page by page, as a client does.
fn read(dataset: &Dataset, uid: u64) {
    let (meanings, mut after) = (Meanings::new(None), 0);
    loop {
        let page = dataset.list(uid, &Filter::default(), &meanings, after, MESSAGE).unwrap();
        let Some(last) = page.last() else { return };
        after = last.id;
    }
}

fn cache_mib() -> u64 {
    env::var(CACHE_VARIABLE).map_or(CACHE, |cache| cache.parse().expect("a number"))
}

fn open(path: &Path) -> (Arc<Registry>, Dataset) {
    let options = StoreOptions { cache_bytes: cache_mib() << 20, ..StoreOptions::default() };
    let store = Store::open(path, options).unwrap();
    let registry = Arc::new(Registry::open(store.clone()).unwrap());
    let dataset = Dataset::open(store, &registry.uids().unwrap()).unwrap();
    (registry, dataset)
}

/// What the disk does alone: 4 KiB more in a file, and an fdatasync, again and again.
fn fsyncs(dir: &Path) {
    let mut file = File::create(dir.join("fsync")).unwrap();
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < WRITING {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    println!("fsync of the disk           {:>10.0} /s", f64::from(count) / start.elapsed().as_secs_f64());
}

/// The number of the last sync, as the file beside the database tells it.
fn syncs(dir: &Path) -> u64 {
    let text = fs::read_to_string(dir.join("high-water")).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()?.parse::<u64>().ok()).max().unwrap()
}

/// Aliases that are set by one thread, and by many at once, each of its own model.
fn writes(dir: &Path) {
    let (registry, _) = open(dir);
    for client in 0..CLIENTS {
        let bank = id(&format!("bank-{client}"));
        registry.create_model(&bank, Preset::Default, None).unwrap();
        registry
            .publish(publication(&bank, Tensors::New(checkpoint(1, 1, 10)), Some(manifest(1, ""))))
            .unwrap();
    }
    for clients in [1, CLIENTS] {
        let (before, start) = (syncs(dir), Arc::new(Barrier::new(clients)));
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let (registry, start) = (Arc::clone(&registry), Arc::clone(&start));
                thread::spawn(move || {
                    let bank = id(&format!("bank-{client}"));
                    start.wait();
                    let (start, mut count) = (Instant::now(), 0_u64);
                    while start.elapsed() < WRITING {
                        let alias = AliasName::new("canary").unwrap();
                        registry.set_alias(&bank, alias, VersionNumber(1), None, None).unwrap();
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let count: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        let seconds = WRITING.as_secs_f64();
        println!(
            "writes of {clients:>2} clients        {:>10.0} /s  {:>8.0} syncs/s",
            count as f64 / seconds,
            (syncs(dir) - before) as f64 / seconds
        );
    }
}

/// Versions of 20 MB, of which all is new.
fn publications(dir: &Path) {
    let (registry, _) = open(dir);
    let bank = id("bank");
    registry.create_model(&bank, Preset::Default, None).unwrap();
    let mut millis: Vec<f64> = (1..=9)
        .map(|round| {
            let tensors = Tensors::New(checkpoint(round, 1, 5_000_000));
            let start = Instant::now();
            registry.publish(publication(&bank, tensors, Some(manifest(round.into(), "")))).unwrap();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    millis.sort_by(f64::total_cmp);
    println!("publish 20 MB               {:>10.0} ms median, {:.0} most", millis[4], millis[8]);
    let start = Instant::now();
    registry.checkpoint(&bank, VersionNumber(9)).unwrap();
    println!("read 20 MB                  {:>10.0} ms", start.elapsed().as_secs_f64() * 1e3);
}

/// Short examples, durable at the end of the call.
fn examples(dir: &Path) {
    let (registry, dataset) = open(dir);
    let model = registry.create_model(&id("bank"), Preset::Default, None).unwrap();
    let start = Instant::now();
    add(&dataset, &model, 200_000);
    println!("examples                    {:>10.0} /s", 200_000.0 / start.elapsed().as_secs_f64());
}

/// Adds examples up to a count; those that are there already are told by their text.
fn add(dataset: &Dataset, model: &taxond::registry::Model, count: usize) {
    let labels: Vec<_> = (0..77).map(|number| label(&format!("class number {number}"))).collect();
    let mut session = dataset.add(model).unwrap();
    for message in 0..count / MESSAGE {
        let texts = (0..MESSAGE).map(|at| {
            let number = message * MESSAGE + at;
            (format!("what happened to the {number} i sent on monday"), labels[number % 77].clone())
        });
        session.push(texts.collect()).unwrap();
    }
    session.commit(None).unwrap();
}

/// A full store, opened again.
fn opening(dir: &Path) {
    let (registry, dataset) = open(dir);
    for number in 0..MODELS {
        let bank = id(&format!("bank-{number}"));
        let model = registry.create_model(&bank, Preset::Default, None).unwrap();
        for version in 0..VERSIONS / MODELS {
            let tensors = Tensors::New(checkpoint((number * 10 + version) as u32, 1, 1_000));
            let manifest = (version == 0).then(|| manifest(1, ""));
            registry.publish(publication(&bank, tensors, manifest)).unwrap();
        }
        add(&dataset, &model, EXAMPLES / MODELS);
    }
    drop((registry, dataset));
    let mut seconds: Vec<f64> = (0..3)
        .map(|_| {
            let start = Instant::now();
            let opened = open(dir);
            let seconds = start.elapsed().as_secs_f64();
            drop(opened);
            seconds
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let bytes = fs::metadata(dir.join("db/db")).unwrap().len();
    println!(
        "open {MODELS} models, {VERSIONS} versions, {EXAMPLES} examples, {} MB: {:.2} s",
        bytes / 1_000_000,
        seconds[1]
    );
}
