//! Models that start with word vectors from the daemon's folder.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{fs, path::Path};

use support::{BANK, Daemon, QUESTIONS, assert_succeeded, finished, texts, train_request};
use taxond::{
    config::Settings,
    proto::v1::{CreateModelRequest, JobState, WordVectors},
};
use tonic::Code;
use tonic_types::StatusExt as _;

async fn daemon(data: &Path, vectors: &Path) -> Daemon {
    Daemon::start_with(data, Settings { vectors_dir: Some(vectors.to_owned()), ..Settings::default() }).await
}

fn request(file: &str) -> CreateModelRequest {
    CreateModelRequest {
        model_id: "bank".into(),
        word_vectors: Some(WordVectors { file: file.into(), frozen: true }),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_trains_from_vectors_and_keeps_what_it_starts_from() {
    let (dir, vectors) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let numbers = |at: u32| (0..16).map(|i| format!(" {}", (at * 7 + i) % 5)).collect::<String>();
    let words = ["card", "balance", "withdraw", "cash", "lost", "account", "unheard"];
    let lines: String = words.iter().zip(0..).map(|(word, at)| format!("{word}{}\n", numbers(at))).collect();
    fs::write(vectors.path().join("small.txt"), lines).unwrap();

    let mut daemon = daemon(dir.path(), vectors.path()).await;
    let model = daemon.registry.create_model(request("small.txt")).await.unwrap().into_inner().model.unwrap();
    assert_eq!(model.word_vectors, request("small.txt").word_vectors);
    daemon.add(BANK, texts()).await;
    assert_succeeded(&daemon.train(train_request()).await);
    // The file is needed once only.
    fs::remove_file(vectors.path().join("small.txt")).unwrap();
    assert_succeeded(&daemon.train(train_request()).await);
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions[3].classes[0].name, "card lost");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_files_of_the_folder_can_be_named() {
    let (dir, vectors) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(vectors.path().join("glove.100d.txt"), "card 1 2\n").unwrap();
    let mut daemon = daemon(dir.path(), vectors.path()).await;
    for name in ["", "..", "../secret", "/etc/passwd", "a\\b", ".hidden"] {
        let status = daemon.registry.create_model(request(name)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{name}");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "word_vectors.file");
    }
    let status = daemon.registry.create_model(request("glove.10d.txt")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("did you mean 'glove.100d.txt'?"), "{}", status.message());
    daemon.stop().await;

    let mut daemon = Daemon::start(dir.path()).await;
    let status = daemon.registry.create_model(request("glove.100d.txt")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("--vectors-dir"), "{}", status.message());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_fails_the_first_training_by_line() {
    let (dir, vectors) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(vectors.path().join("bad.txt"), "card 1 2\nlost 1\n").unwrap();
    let mut daemon = daemon(dir.path(), vectors.path()).await;
    daemon.registry.create_model(request("bad.txt")).await.unwrap();
    daemon.add(BANK, texts()).await;
    let job = finished(&daemon.train(train_request()).await);
    assert_eq!(job.state(), JobState::Failed);
    assert!(job.message.contains("bad.txt: line 2: expected a word and 2 numbers"), "{}", job.message);
    daemon.stop().await;
}
