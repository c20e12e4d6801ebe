//! Open streams of an identity that is gone, or may less than before, end; those of others go on.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;

use support::{
    BANK, Daemon,
    identities::{Entry, file, settings, signed},
    long_train_request, texts,
};
use taxond::proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

const ALL: [Entry<'static>; 3] =
    [("ada", "train", &[]), ("bob", "train", &["bank"]), ("cleo", "train", &["*"])];

type Questions = mpsc::Sender<v1::PredictStreamRequest>;

fn question(text: &str) -> v1::PredictStreamRequest {
    v1::PredictStreamRequest { model: BANK.into(), texts: vec![text.into()], ..Default::default() }
}

/// A PredictStream of an identity, after its first answer.
async fn predictions(daemon: &Daemon, who: &str) -> (Questions, Streaming<v1::PredictStreamResponse>) {
    let (sender, questions) = mpsc::channel(1);
    sender.send(question("what is my balance")).await.unwrap();
    let request = signed(who, ReceiverStream::new(questions));
    let mut answers = daemon.predict.clone().predict_stream(request).await.unwrap().into_inner();
    answers.message().await.unwrap().expect("an answer");
    (sender, answers)
}

/// The events of a job as an identity follows it, after the first.
async fn events(daemon: &Daemon, who: &str, job: &str) -> Streaming<v1::WatchJobResponse> {
    let request = signed(who, v1::WatchJobRequest { name: job.into() });
    let mut events = daemon.training.clone().watch_job(request).await.unwrap().into_inner();
    events.message().await.unwrap().expect("an event");
    events
}

/// The end of a stream that goes on until then.
async fn end<T>(mut stream: Streaming<T>) -> Option<(Code, String)> {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(status) => return Some((status.code(), reason(&status))),
        }
    }
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

async fn reload(daemon: &Daemon, folder: &std::path::Path, entries: &[Entry<'_>]) {
    fs::write(folder.join("auth.toml"), file(entries)).unwrap();
    daemon.running.reload().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_permission_to_have_them() {
    let dir = tempfile::tempdir().unwrap();
    Daemon::trained(dir.path()).await.stop().await;
    let mut daemon = Daemon::start_with(dir.path(), settings(dir.path(), &ALL)).await;
    let request = signed("cleo", v1::TrainRequest { detach: true, ..long_train_request() });
    let mut training = daemon.training.train(request).await.unwrap().into_inner();
    let job = training.message().await.unwrap().unwrap().event.unwrap().job;

    let (ada, bob, cleo) = (
        predictions(&daemon, "ada").await,
        predictions(&daemon, "bob").await,
        predictions(&daemon, "cleo").await,
    );
    let (of_ada, of_bob, of_cleo) = (
        events(&daemon, "ada", &job).await,
        events(&daemon, "bob", &job).await,
        events(&daemon, "cleo", &job).await,
    );
    let example = |text: &str| v1::AddExamplesRequest {
        model: BANK.into(),
        examples: vec![v1::LabelledText { text: text.into(), label: "balance".into() }],
        ..Default::default()
    };
    // The upload is under way once nobody else may write the examples. Where cleo may, as it came too late, it is begun again.
    let (upload, uploading) = loop {
        let (upload, messages) = mpsc::channel(1);
        upload.send(example("never stored")).await.unwrap();
        let mut dataset = daemon.dataset.clone();
        let messages = signed("ada", ReceiverStream::new(messages));
        let uploading = tokio::spawn(async move { dataset.add_examples(messages).await });
        let one = v1::AddExamplesRequest { examples: texts()[..1].to_vec(), ..example("") };
        while !uploading.is_finished() {
            let added = daemon.dataset.add_examples(signed("cleo", tokio_stream::once(one.clone()))).await;
            if added.is_err() {
                break;
            }
        }
        if !uploading.is_finished() {
            break (upload, uploading);
        }
    };

    // The token of ada is revoked, bob may ask alone.
    reload(&daemon, dir.path(), &[("bob", "predict", &["bank"]), ("cleo", "train", &["*"])]).await;
    let gone = Some((Code::Unauthenticated, "UNKNOWN_TOKEN".to_owned()));
    assert_eq!(end(ada.1).await, gone);
    assert_eq!(end(of_ada).await, gone);
    let refused = uploading.await.unwrap().unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::Unauthenticated, "UNKNOWN_TOKEN".into()));
    assert_eq!(end(of_bob).await, Some((Code::PermissionDenied, "ROLE_TOO_LOW".to_owned())));
    let (questions, mut answers) = bob;
    questions.send(question("still there")).await.unwrap();
    answers.message().await.unwrap().expect("bob may ask still");

    // The model is out of bob's reach, and cleo has another name.
    reload(&daemon, dir.path(), &[("bob", "predict", &["shop"]), ("cleo", "train", &["*"])]).await;
    assert_eq!(end(answers).await, Some((Code::PermissionDenied, "MODEL_NOT_ALLOWED".to_owned())));
    let (questions, mut answers) = cleo;
    questions.send(question("nothing changed")).await.unwrap();
    answers.message().await.unwrap().expect("cleo goes on");
    let renamed = file(&[("cleo", "train", &["*"])]).replace("name = 'cleo'", "name = 'cleopatra'");
    fs::write(dir.path().join("auth.toml"), renamed).unwrap();
    daemon.running.reload().await;
    let changed = Some((Code::Unauthenticated, "IDENTITY_CHANGED".to_owned()));
    assert_eq!(end(answers).await, changed);
    assert_eq!(end(of_cleo).await, changed);

    // Nothing of the upload was stored.
    let filter = v1::ExampleFilter { text_contains: "never stored".into(), ..Default::default() };
    let request = v1::ListExamplesRequest { model: BANK.into(), filter: Some(filter), ..Default::default() };
    let listed = daemon.dataset.list_examples(signed("cleo", request)).await.unwrap().into_inner();
    assert_eq!(listed.examples, []);
    let cancel: Request<_> = signed("cleo", v1::CancelJobRequest { name: job });
    daemon.training.cancel_job(cancel).await.unwrap();
    drop((ada.0, questions, upload));
    daemon.stop().await;
}
