//! Versions that leave a model as files and come into another.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use support::{BANK, Daemon, QUESTIONS, assert_succeeded, long_train_request, train_request};
use taxond::proto::v1::{self, Learn, VersionOrigin};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const COPY: &str = "models/copy";

async fn export(daemon: &mut Daemon, name: &str) -> Vec<u8> {
    let request = v1::ExportVersionRequest { name: name.into() };
    let mut chunks = daemon.registry.export_version(request).await.unwrap().into_inner();
    let mut file = Vec::new();
    while let Some(chunk) = chunks.message().await.unwrap() {
        assert!((1..=256 << 10).contains(&chunk.data.len()));
        file.extend(chunk.data);
    }
    file
}

async fn import(
    daemon: &mut Daemon,
    model: &str,
    file: &[u8],
    request_id: &str,
) -> Result<v1::Version, Status> {
    let mut messages: Vec<_> = file
        .chunks(100_000)
        .map(|data| v1::ImportVersionRequest { data: data.to_vec(), ..Default::default() })
        .collect();
    messages.insert(
        0,
        v1::ImportVersionRequest { model: model.into(), request_id: request_id.into(), ..Default::default() },
    );
    let answer = daemon.registry.import_version(tokio_stream::iter(messages)).await?;
    Ok(answer.into_inner().version.unwrap())
}

async fn promote(daemon: &mut Daemon, model: &str, version: u64) {
    let request = v1::SetAliasRequest { model: model.into(), version, ..Default::default() };
    daemon.registry.set_alias(request).await.unwrap();
}

/// What a model says, also which answers it rejects, without whose version it is.
async fn answers(daemon: &mut Daemon, model: &str) -> v1::PredictResponse {
    let request = v1::PredictRequest {
        model: model.into(),
        texts: QUESTIONS.map(String::from).to_vec(),
        top_k: Some(100),
        min_precision: Some(0.5),
        ..Default::default()
    };
    let answer = daemon.predict.predict(request).await.unwrap().into_inner();
    v1::PredictResponse { version: String::new(), ..answer }
}

async fn manifest(daemon: &mut Daemon, model: &str) -> v1::Manifest {
    let request = v1::GetManifestRequest { name: model.into(), ..Default::default() };
    let manifest = daemon.taxonomy.get_manifest(request).await.unwrap().into_inner().manifest.unwrap();
    v1::Manifest { name: String::new(), parent_revision: 0, undoable: false, ..manifest }
}

fn assert_refused(status: &Status, code: Code, reason: &str, part: &str) {
    assert_eq!(status.code(), code, "{status}");
    assert_eq!(status.get_error_details().error_info().unwrap().reason, reason, "{status}");
    assert!(status.message().contains(part), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_version_answers_as_the_exported_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    // A version without a report of its own, in a manifest with a parent and an undo.
    daemon.merge(Learn::None).await;
    let file = export(&mut daemon, BANK).await;
    assert!(export(&mut daemon, &format!("{BANK}/versions/2")).await == file, "the same bytes");

    daemon.create("copy").await;
    let version = import(&mut daemon, COPY, &file, "import-1").await.unwrap();
    assert_eq!((version.number, version.parent, version.manifest_revision), (1, 0, 2));
    assert_eq!(
        (version.origin(), version.reason.as_str()),
        (VersionOrigin::Import, "imported from models/bank/versions/2")
    );
    // A repeat stores nothing, and nothing serves.
    assert_eq!(import(&mut daemon, COPY, &file, "import-1").await.unwrap(), version);
    let question = v1::PredictRequest { model: COPY.into(), texts: vec!["hi".into()], ..Default::default() };
    let status = daemon.predict.predict(question).await.unwrap_err();
    assert_refused(
        &status,
        Code::FailedPrecondition,
        "NO_SERVING_VERSION",
        "no version of models/copy was promoted",
    );

    promote(&mut daemon, COPY, 1).await;
    let expected = answers(&mut daemon, BANK).await;
    assert_eq!(answers(&mut daemon, COPY).await, expected);
    let own = manifest(&mut daemon, COPY).await;
    assert_eq!(own, manifest(&mut daemon, BANK).await);
    let status = daemon
        .taxonomy
        .undo_change(v1::UndoChangeRequest { model: COPY.into(), ..Default::default() })
        .await
        .unwrap_err();
    assert_refused(&status, Code::FailedPrecondition, "NOTHING_TO_UNDO", "revision 2");

    // It is a version like any other: what is made of it keeps what it brought, and new ids come after the old ones.
    daemon.stop().await;
    let mut daemon = Daemon::start(dir.path()).await;
    assert_eq!(answers(&mut daemon, COPY).await, expected);
    let highest = own.classes.iter().map(|class| class.id).max().unwrap();
    let add = v1::AddClassesRequest { model: COPY.into(), names: vec!["loan".into()], ..Default::default() };
    let mut told = daemon.taxonomy.add_classes(add).await.unwrap().into_inner();
    while told.message().await.unwrap().is_some() {}
    let grown = manifest(&mut daemon, COPY).await;
    assert_eq!(grown.revision, 3);
    assert_eq!(grown.classes.iter().find(|class| class.name == "loan").unwrap().id, highest + 1);
    assert_eq!(answers(&mut daemon, COPY).await.rejection_threshold, expected.rejection_threshold);
    daemon.add(COPY, support::texts()).await;
    let events = daemon.train(v1::TrainRequest { model: COPY.into(), ..train_request() }).await;
    assert_succeeded(&events);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_comes_back_after_it_was_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    daemon.merge(Learn::None).await;
    let before = answers(&mut daemon, &format!("{BANK}/versions/1")).await;
    let file = export(&mut daemon, &format!("{BANK}/versions/1")).await;
    let delete = v1::DeleteVersionRequest {
        name: format!("{BANK}/versions/1"),
        forget_undo: true,
        ..Default::default()
    };
    daemon.registry.delete_version(delete).await.unwrap();
    let version = import(&mut daemon, BANK, &file, "").await.unwrap();
    assert_eq!((version.number, version.manifest_revision), (3, 1));
    assert_eq!(answers(&mut daemon, &version.name).await, before);
    // An imported version can be exported: its network and classes are the same.
    daemon.create("copy").await;
    let again = export(&mut daemon, &version.name).await;
    let version = import(&mut daemon, COPY, &again, "").await.unwrap();
    assert_eq!(answers(&mut daemon, &version.name).await, before);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let file = export(&mut daemon, BANK).await;
    daemon.merge(Learn::None).await;
    let merged = export(&mut daemon, BANK).await;

    daemon.create("copy").await;
    let mut damaged = file.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    for (wrong, part) in [
        (&damaged[..], "data: has the checksum"),
        (&file[..middle], "data: is no whole safetensors file"),
        (&b""[..], "data: is no whole safetensors file"),
        (&u64::MAX.to_le_bytes(), "at most 67108864 are taken"),
    ] {
        let status = import(&mut daemon, COPY, wrong, "").await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_FIELDS", part);
    }
    let status = import(&mut daemon, "models/none", &file, "").await.unwrap_err();
    assert_refused(&status, Code::NotFound, "NOT_FOUND", "model 'models/none' not found");
    let seed = v1::CreateModelRequest {
        model_id: "seed".into(),
        preset: v1::Preset::Seed.into(),
        ..Default::default()
    };
    daemon.registry.create_model(seed).await.unwrap();
    let status = import(&mut daemon, "models/seed", &file, "").await.unwrap_err();
    assert_refused(
        &status,
        Code::FailedPrecondition,
        "PRESET_MISMATCH",
        "models/seed trains the preset Seed",
    );
    let request = v1::GetModelRequest { name: COPY.into() };
    let copy = daemon.registry.get_model(request).await.unwrap().into_inner().model.unwrap();
    assert_eq!(copy.latest_version, 0);

    // A model with other classes, or without the revision, has no use for the version.
    daemon.add(COPY, support::texts()).await;
    let train = v1::TrainRequest { model: COPY.into(), ..train_request() };
    assert_succeeded(&daemon.train(train).await);
    for (file, part) in
        [(&file, "copy/manifests/1 is another one"), (&merged, "copy does not have revision 2")]
    {
        let status = import(&mut daemon, COPY, file, "").await.unwrap_err();
        assert_refused(&status, Code::FailedPrecondition, "MANIFEST_MISMATCH", part);
    }

    let mut job = daemon.training.train(long_train_request()).await.unwrap().into_inner();
    let name = job.message().await.unwrap().unwrap().event.unwrap().job;
    let status = import(&mut daemon, BANK, &file, "").await.unwrap_err();
    assert_refused(&status, Code::Aborted, "MODEL_TRAINING", &name);
    daemon.training.cancel_job(v1::CancelJobRequest { name }).await.unwrap();
    drop(job);
    let status = daemon
        .registry
        .export_version(v1::ExportVersionRequest { name: format!("{BANK}/versions/77") })
        .await
        .unwrap_err();
    assert_refused(&status, Code::NotFound, "NOT_FOUND", "models/bank/versions/77");
    daemon.stop().await;
}
