//! Nothing that the daemon acknowledged is lost, whatever happens to it: clients change models over the wire, some of their streams
//! are reset, the process is killed, its folder is moved away, its clock is wrong or its disk full. After a restart each model is
//! as the last acknowledged call left it, or as the call left it that was not answered any more. That call is then repeated
//! with its request id, and must have been done once.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod client;
mod clients;
#[cfg(target_os = "linux")]
mod disk;
mod oracle;
#[path = "../support/mod.rs"]
mod support;

use std::{env, fs, path::Path, time::Duration};

use client::Client;
use clients::{Clients, start_at};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use support::{clock, process::Process};
use taxond::proto::v1;

/// How often the daemon is killed, and what the chance comes from; the long form sets more.
const KILLS: (&str, u64) = ("TAXOND_TEST_KILLS", 100);
const SEED: (&str, u64) = ("TAXOND_TEST_SEED", 1);
/// How often the disk is filled.
const FULL_DISKS: (&str, u64) = ("TAXOND_TEST_FULL_DISKS", 10);
/// Models that are changed side by side, each by a client of its own.
const MODELS: usize = 4;
/// A call that does not end by then, hangs.
const HANGS: Duration = Duration::from_secs(120);

/// What ends a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The process is killed.
    Kill,
    /// The data folder is moved away, which the daemon must notice; then the process is killed and the folder put back.
    FolderGone,
}

fn number((variable, default): (&str, u64)) -> u64 {
    env::var(variable).map_or(default, |number| number.parse().expect("a number"))
}

/// A trained version as a file, and in the folder a model that is trained over and over.
async fn prepared(folder: &Path) -> Vec<u8> {
    let mut daemon = support::Daemon::trained(folder).await;
    let request = v1::ExportVersionRequest { name: "models/bank/versions/1".into() };
    let mut stream = daemon.registry.export_version(request).await.unwrap().into_inner();
    let mut file = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        file.extend(message.data);
    }
    daemon.stop().await;
    file
}

/// All versions of the model that is trained answer.
async fn check_trained(clients: &mut Clients) {
    let request = v1::ListVersionsRequest { model: support::BANK.into(), ..Default::default() };
    let versions = clients.registry.list_versions(request).await.unwrap().into_inner().versions;
    assert!(!versions.is_empty());
    let newest = versions.into_iter().map(|version| version.name).take(3);
    for model in newest.chain([support::BANK.into()]) {
        let texts = support::QUESTIONS.map(String::from).to_vec();
        let request = v1::PredictRequest { model, texts, ..Default::default() };
        assert_eq!(clients.predict.predict(request).await.unwrap().into_inner().predictions.len(), 4);
    }
}

/// Lets the clients call, each for its own model, until the daemon answers none of them; `end` sees to that. How many calls
/// were acknowledged.
async fn call_until(
    models: &mut Vec<Client>,
    clients: &Clients,
    file: &[u8],
    end: impl Future<Output = ()>,
) -> u64 {
    let calling: Vec<_> = models
        .drain(..)
        .map(|mut model| {
            let (clients, file) = (clients.clone(), file.to_vec());
            tokio::spawn(async move {
                let acknowledged = model.call(clients, &file).await;
                (model, acknowledged)
            })
        })
        .collect();
    end.await;
    let mut acknowledged = 0;
    for caller in calling {
        let (model, count) = tokio::time::timeout(HANGS, caller).await.expect("it refuses or ends").unwrap();
        acknowledged += count;
        models.push(model);
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_however_often_the_daemon_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (data, away) = (dir.path().join("data"), dir.path().join("away"));
    let file = prepared(&data).await;
    let clock = clock::library(dir.path());
    let (kills, seed) = (number(KILLS), number(SEED));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut models: Vec<Client> = (0..MODELS).map(|number| Client::new(number, seed)).collect();
    let (mut acknowledged, mut unanswered, mut gone, mut jumps) = (0, 0, 0, 0);
    for round in 0..=kills {
        let days = match rng.random_range(0..10) {
            0 => 400,
            1 => -400,
            _ => 0,
        };
        jumps += u64::from(days != 0);
        let process = start_at(&data, &clock, days);
        let mut clients = Clients::of(&process).await;
        let moment = format!("seed {seed}, round {round}, clock {days} days");
        for model in &mut models {
            unanswered += u64::from(model.has_unanswered());
            model.compare(&mut clients, &file, &moment).await;
        }
        check_trained(&mut clients).await;
        if round == kills {
            process.kill();
            break;
        }
        let train = v1::TrainRequest {
            model: support::BANK.into(),
            epochs: Some(1),
            detach: true,
            ..Default::default()
        };
        // The job of the last round may still be gone on with.
        let _trains_already = clients.training.train(train).await;
        let end = if rng.random_range(0..10) == 0 { End::FolderGone } else { End::Kill };
        let after = Duration::from_micros(rng.random_range(2_000..150_000));
        match end {
            End::Kill => {
                let killed = async {
                    tokio::time::sleep(after).await;
                    process.kill();
                };
                acknowledged += call_until(&mut models, &clients, &file, killed).await;
            }
            End::FolderGone => {
                let moved = async {
                    tokio::time::sleep(after).await;
                    fs::rename(&data, &away).unwrap();
                };
                acknowledged += call_until(&mut models, &clients, &file, moved).await;
                process.kill();
                fs::rename(&away, &data).unwrap();
                gone += 1;
            }
        }
    }
    println!(
        "{kills} kills, {gone} of them after the folder was gone, {jumps} with a wrong clock, {acknowledged} calls acknowledged, \
         {unanswered} unanswered and repeated, none lost"
    );
    assert!(
        acknowledged > kills && unanswered >= kills,
        "{acknowledged} acknowledged, {unanswered} unanswered"
    );
    assert_whole(&data);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_however_often_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = disk::Disk::mount(dir.path().join("disk"), 160) else {
        println!("skipped: only root may mount a small disk");
        return;
    };
    let data = disk.path().join("data");
    let file = prepared(&data).await;
    let (rounds, seed) = (number(FULL_DISKS), number(SEED));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut models: Vec<Client> = (0..MODELS).map(|number| Client::new(number, seed)).collect();
    let mut acknowledged = 0;
    for round in 0..rounds {
        let moment = format!("seed {seed}, round {round}");
        let process = Process::spawn(&mut Process::command(&data));
        let mut clients = Clients::of(&process).await;
        for model in &mut models {
            model.compare(&mut clients, &file, &moment).await;
        }
        let after = Duration::from_micros(rng.random_range(2_000..150_000));
        let leave = [0, 1 << 20, 4 << 20, 12 << 20][rng.random_range(0..4)];
        let full = async {
            tokio::time::sleep(after).await;
            disk.fill(leave);
            tokio::time::sleep(after).await;
            process.kill();
        };
        acknowledged += call_until(&mut models, &clients, &file, full).await;

        // On the full disk it starts, holds what was acknowledged, and answers.
        disk.fill(0);
        let process = Process::spawn(&mut Process::command(&data));
        let mut clients = Clients::of(&process).await;
        for model in &models {
            model.compare_read(&mut clients, &format!("{moment}, full disk")).await;
        }
        check_trained(&mut clients).await;
        process.kill();
        disk.clear();
    }
    println!("{rounds} full disks, {acknowledged} calls acknowledged, none lost");
    assert!(acknowledged > rounds, "{acknowledged} acknowledged");
    assert_whole(&data);
}

/// Everything that is stored can be read.
fn assert_whole(data: &Path) {
    let settings = taxond::config::Settings { data_dir: Some(data.to_owned()), ..Default::default() };
    let report = taxond::server::fsck(&taxond::config::Config::new(settings).unwrap());
    assert_eq!(report.unwrap().damage, [""; 0]);
}
