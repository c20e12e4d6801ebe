//! How fast the store takes in and opens: `cargo bench --bench store`. Prints one line a figure, each beside what the disk itself
//! does with an fsync, as disks differ by a factor of a hundred. Works in the folder that `TAXOND_BENCH_DIR` names, else in the
//! system's temporary one, which should be on the disk that is meant and not in memory.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/store_fixtures/mod.rs"]
mod store_fixtures;

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    path::Path,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use store_fixtures::{checkpoint, id, label, manifest, publication};
use taxond::{
    dataset::Dataset,
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

fn main() {
    let root = env::var_os("TAXOND_BENCH_DIR").map_or_else(env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(root).unwrap();
    fsyncs(dir.path());
    writes(&dir.path().join("writes"));
    publications(&dir.path().join("publications"));
    examples(&dir.path().join("examples"));
    opening(&dir.path().join("opening"));
    memory(&dir.path().join("memory"));
}

/// Memory that the process has at this moment, in MiB.
fn resident() -> u64 {
    let pid = sysinfo::get_current_pid().unwrap();
    let mut system = sysinfo::System::new().unwrap();
    system.refresh_processes(sysinfo::ProcessesToUpdate::Some(&[pid]), true);
    system.process(pid).unwrap().memory() >> 20
}

/// What the store takes while much more than its cache is written and read.
fn memory(dir: &Path) {
    let before = resident();
    let (registry, dataset) = open(dir);
    let bank = id("bank");
    let model = registry.create_model(&bank, Preset::Default, None).unwrap();
    for round in 1..=40 {
        let tensors = Tensors::New(checkpoint(round, 1, 5_000_000));
        registry.publish(publication(&bank, tensors, Some(manifest(round.into(), "")))).unwrap();
    }
    let written = resident();
    for round in 1..=40 {
        registry.checkpoint(&bank, VersionNumber(round)).unwrap();
    }
    let read = resident();
    add(&dataset, &model, EXAMPLES / 2);
    println!(
        "memory, cache of 64 MiB     {:>10} MiB after 800 MB were written, {} after they were read, {} after {} examples more",
        written.saturating_sub(before),
        read.saturating_sub(before),
        resident().saturating_sub(before),
        EXAMPLES / 2
    );
}

fn open(path: &Path) -> (Arc<Registry>, Dataset) {
    let options = StoreOptions { cache_bytes: 64 << 20, ..StoreOptions::default() };
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
