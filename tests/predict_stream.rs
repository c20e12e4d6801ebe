//! PredictStream over a real socket: order, options, room in the queue, wrong messages, and the ends of a stream.

mod support;

use support::{BANK, Daemon, QUESTIONS};
use taxond::{
    config::Settings,
    proto::v1::{self, Learn},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

fn message(texts: &[&str]) -> v1::PredictStreamRequest {
    v1::PredictStreamRequest {
        texts: texts.iter().map(|text| (*text).into()).collect(),
        ..v1::PredictStreamRequest::default()
    }
}

fn opening(texts: &[&str]) -> v1::PredictStreamRequest {
    v1::PredictStreamRequest { model: BANK.into(), ..message(texts) }
}

/// The answers to messages, and what ended the stream.
async fn answers(
    daemon: &mut Daemon,
    messages: Vec<v1::PredictStreamRequest>,
) -> (Vec<v1::PredictStreamResponse>, Option<Status>) {
    let mut stream =
        daemon.predict.predict_stream(tokio_stream::iter(messages)).await.expect("a stream").into_inner();
    let mut answers = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(answer)) => answers.push(answer),
            Ok(None) => return (answers, None),
            Err(status) => return (answers, Some(status)),
        }
    }
}

/// A stream whose messages the test sends one by one.
async fn open(
    daemon: &mut Daemon,
) -> (mpsc::Sender<v1::PredictStreamRequest>, Streaming<v1::PredictStreamResponse>) {
    let (sender, receiver) = mpsc::channel(16);
    let stream =
        daemon.predict.predict_stream(ReceiverStream::new(receiver)).await.expect("a stream").into_inner();
    (sender, stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_is_answered_in_its_place_as_predict_answers_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let mut messages: Vec<_> = (0..40).map(|n| message(&vec![QUESTIONS[n % 4]; n % 7])).collect();
    messages[0].model = BANK.into();
    messages[0].top_k = Some(3);
    messages[0].min_confidence = Some(0.0);
    // To repeat what the first has set is no change of it.
    messages[9].model = BANK.into();
    messages[9].top_k = Some(3);
    let (found, status) = answers(&mut daemon, messages).await;
    assert!(status.is_none(), "{status:?}");
    assert_eq!(found.len(), 40);
    for (n, answer) in found.iter().enumerate() {
        let request = v1::PredictRequest {
            model: BANK.into(),
            texts: vec![QUESTIONS[n % 4].into()],
            top_k: Some(3),
            ..Default::default()
        };
        let alone = daemon.predict.predict(request).await.unwrap().into_inner();
        assert_eq!(answer.predictions, vec![alone.predictions[0].clone(); n % 7], "message {n}");
        assert_eq!((answer.version.as_str(), answer.manifest_revision), ("models/bank/versions/1", 1));
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_wait_for_room_in_a_queue_that_is_too_small_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let trained = Daemon::trained(dir.path()).await;
    trained.stop().await;
    let settings = Settings { predict_queue: Some(3), ..Settings::default() };
    let mut daemon = Daemon::start_with(dir.path(), settings).await;
    let streams = (0..4).map(|_| {
        let mut messages = vec![message(&QUESTIONS); 50];
        messages[0].model = BANK.into();
        let mut predict = daemon.predict.clone();
        tokio::spawn(async move {
            let mut stream = predict.predict_stream(tokio_stream::iter(messages)).await.unwrap().into_inner();
            let mut answered = 0;
            while let Some(answer) = stream.message().await.unwrap() {
                answered += answer.predictions.len();
            }
            answered
        })
    });
    for stream in streams.collect::<Vec<_>>() {
        assert_eq!(stream.await.unwrap(), 50 * QUESTIONS.len());
    }
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await.predictions.len(), QUESTIONS.len());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_message_is_named_after_the_answers_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let right = || vec![opening(&QUESTIONS), message(&QUESTIONS), message(&[])];
    let other_model = v1::PredictStreamRequest { model: "models/shop".into(), ..message(&["x"]) };
    for (wrong, field, part) in [
        (message(&["fine", " "]), "messages[3].texts[1]", "got ' '"),
        (message(&["x"; 257]), "messages[3].texts", "got 257"),
        (other_model, "messages[3].model", "got 'models/shop'"),
        (v1::PredictStreamRequest { top_k: Some(7), ..message(&["x"]) }, "messages[3].top_k", "got 7"),
        (v1::PredictStreamRequest { level: Some(1), ..message(&["x"]) }, "messages[3].level", "got 1"),
    ] {
        let mut messages = right();
        messages.extend([wrong, message(&QUESTIONS)]);
        let (found, status) = answers(&mut daemon, messages).await;
        let sizes: Vec<_> = found.iter().map(|answer| answer.predictions.len()).collect();
        assert_eq!(sizes, [4, 4, 0], "{field}");
        let status = status.unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let details = status.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, field);
        assert!(violation.description.contains(part), "{}", violation.description);
    }

    let (found, status) = answers(&mut daemon, vec![message(&QUESTIONS)]).await;
    assert!(found.is_empty());
    assert!(status.unwrap().message().starts_with("messages[0].model"));
    let nowhere = v1::PredictStreamRequest { model: "models/shop".into(), ..message(&["x"]) };
    let (_, status) = answers(&mut daemon, vec![nowhere]).await;
    assert_eq!(status.unwrap().code(), Code::NotFound);
    let (found, status) = answers(&mut daemon, Vec::new()).await;
    assert!(found.is_empty() && status.is_none());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_published_meanwhile_answers_the_next_message() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let (sender, mut stream) = open(&mut daemon).await;
    sender.send(opening(&QUESTIONS)).await.unwrap();
    let before = stream.message().await.unwrap().unwrap();
    let _merge = daemon.merge(Learn::None).await;
    sender.send(message(&QUESTIONS)).await.unwrap();
    let after = stream.message().await.unwrap().unwrap();
    assert_eq!((before.version.as_str(), before.manifest_revision), ("models/bank/versions/1", 1));
    assert_eq!((after.version.as_str(), after.manifest_revision), ("models/bank/versions/2", 2));
    assert_eq!(after.predictions[0].classes[0].name, "withdraw");
    drop(sender);
    assert!(stream.message().await.unwrap().is_none());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_given_up_leaves_the_queue_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let trained = Daemon::trained(dir.path()).await;
    trained.stop().await;
    let settings = Settings { predict_queue: Some(4), ..Settings::default() };
    let mut daemon = Daemon::start_with(dir.path(), settings).await;
    for _ in 0..8 {
        let (sender, stream) = open(&mut daemon).await;
        sender.send(opening(&QUESTIONS)).await.unwrap();
        for _ in 0..15 {
            sender.send(message(&QUESTIONS)).await.unwrap();
        }
        drop(stream);
    }
    let (found, status) = answers(&mut daemon, vec![opening(&QUESTIONS); 20]).await;
    assert_eq!((found.len(), status.is_none()), (20, true));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_messages_ends_after_the_answers_it_has() {
    let dir = tempfile::tempdir().unwrap();
    Daemon::trained(dir.path()).await.stop().await;
    let settings = Settings { idle_seconds: Some(0.2), ..Settings::default() };
    let mut daemon = Daemon::start_with(dir.path(), settings).await;
    let (silent, mut stream) = open(&mut daemon).await;
    assert_idle(&stream.message().await.unwrap_err());
    drop(silent);
    let (sender, mut stream) = open(&mut daemon).await;
    sender.send(opening(&QUESTIONS)).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().predictions.len(), QUESTIONS.len());
    assert_idle(&stream.message().await.unwrap_err());
    drop(sender);
    daemon.stop().await;
}

#[track_caller]
fn assert_idle(status: &Status) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(status.get_error_details().error_info().expect("error info").reason, "STREAM_IDLE");
    assert_eq!(status.message(), "the client sent nothing for 0.2 seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stops_ends_open_streams_after_the_answers_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let (sender, mut stream) = open(&mut daemon).await;
    sender.send(opening(&QUESTIONS)).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().predictions.len(), QUESTIONS.len());
    let stopping = tokio::spawn(daemon.stop());
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("message 1 of the stream"), "{status}");
    drop(stream);
    stopping.await.unwrap();
}
