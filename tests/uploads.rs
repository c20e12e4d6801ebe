//! Client streams that are reset before their end: nothing of them is stored, no receipt is left, and the same call again stores
//! everything.

mod support;

use std::{thread::sleep, time::Duration};

use support::{
    BANK, Daemon,
    http2::{self, Call},
    texts,
};
use taxond::{
    proto::v1::{self, AddExamplesRequest, ImportVersionRequest, LabelledText},
    server::Address,
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::UnboundedReceiverStream};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// How long clients wait before they give up, in milliseconds.
const PAUSES: [u64; 6] = [0, 1, 5, 10, 50, 100];
const ADD: &str = "/taxond.v1.DatasetService/AddExamples";

fn address(daemon: &Daemon) -> std::net::SocketAddr {
    match &daemon.running.address {
        Address::Tcp(address) => *address,
        Address::Unix(path) => panic!("{}", path.display()),
    }
}

/// The messages of an upload, each with its share of the texts.
fn messages(request_id: &str) -> Vec<AddExamplesRequest> {
    let texts = texts();
    let mut messages: Vec<_> = texts
        .chunks(texts.len() / 3)
        .map(|examples| AddExamplesRequest { examples: examples.to_vec(), ..Default::default() })
        .collect();
    (messages[0].model, messages[0].request_id) = (BANK.into(), request_id.into());
    messages
}

async fn total(daemon: &mut Daemon) -> u64 {
    let request = v1::GetStatsRequest { model: BANK.into(), ..Default::default() };
    daemon.dataset.get_stats(request).await.expect("the model is there").into_inner().total
}

/// Sends the upload once more, until the daemon has noticed that the client of the first one is gone.
async fn again(daemon: &mut Daemon, request_id: &str) -> v1::AddExamplesResponse {
    loop {
        match daemon.dataset.add_examples(tokio_stream::iter(messages(request_id))).await {
            Ok(added) => return added.into_inner(),
            Err(busy) if matches!(busy.code(), Code::Unavailable | Code::Aborted) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

async fn empty(daemon: &mut Daemon) {
    let filter = Some(v1::ExampleFilter { all: true, ..Default::default() });
    let request = v1::DeleteExamplesRequest { model: BANK.into(), filter, ..Default::default() };
    daemon.dataset.delete_examples(request).await.expect("nobody else writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_whatever_its_code_is_not_the_end_of_an_upload() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    daemon.create("bank").await;
    for code in [http2::CANCEL, http2::NO_ERROR, http2::INTERNAL_ERROR] {
        for pause in PAUSES {
            let request_id = format!("reset-{code}-after-{pause}");
            let mut call = Call::begin(address(&daemon), ADD, &[]);
            call.message(&messages(&request_id)[0]);
            sleep(Duration::from_millis(pause));
            call.reset(code);
            let added = again(&mut daemon, &request_id).await;
            assert_eq!(
                (added.added, added.duplicates),
                (texts().len() as u64, 0),
                "code {code} after {pause} ms"
            );
            assert_eq!(total(&mut daemon).await, added.total);
            empty(&mut daemon).await;
        }
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_with_a_reset_right_behind_it_is_a_cancel() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    daemon.create("bank").await;
    for pause in PAUSES {
        let request_id = format!("end-and-reset-after-{pause}");
        let mut call = Call::begin(address(&daemon), ADD, &[]);
        call.message(&messages(&request_id)[0]);
        sleep(Duration::from_millis(pause));
        call.end_and_reset(http2::CANCEL);
        let added = again(&mut daemon, &request_id).await;
        assert_eq!((added.added, added.duplicates), (texts().len() as u64, 0), "after {pause} ms");
        empty(&mut daemon).await;
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_is_not_the_end_of_an_upload_and_end_stream_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    daemon.create("bank").await;
    for pause in PAUSES {
        let request_id = format!("lost-after-{pause}");
        let mut call = Call::begin(address(&daemon), ADD, &[]);
        call.message(&messages(&request_id)[0]);
        sleep(Duration::from_millis(pause));
        drop(call);
        let added = again(&mut daemon, &request_id).await;
        assert_eq!((added.added, added.duplicates), (texts().len() as u64, 0), "after {pause} ms");
        empty(&mut daemon).await;
    }
    // A frame of data without data ends it, as does the last message.
    let mut call = Call::begin(address(&daemon), ADD, &[]);
    messages("").iter().for_each(|message| call.message(message));
    call.end();
    while let Some(frame) = call.receive() {
        if frame.stream == 1 && frame.flags & http2::END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(total(&mut daemon).await, texts().len() as u64);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_grpc_that_cancels_or_whose_time_is_over_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    daemon.create("bank").await;
    for pause in PAUSES {
        for by_deadline in [false, true] {
            let request_id = format!("{by_deadline}-after-{pause}");
            let (sender, receiver) = mpsc::unbounded_channel();
            sender.send(messages(&request_id).remove(0)).unwrap();
            let mut request = Request::new(UnboundedReceiverStream::new(receiver));
            let wait = Duration::from_millis(pause);
            if by_deadline {
                request.set_timeout(wait);
                // tonic's client calls what its own clock ends CANCELLED.
                let code = daemon.dataset.add_examples(request).await.unwrap_err().code();
                assert!(matches!(code, Code::Cancelled | Code::DeadlineExceeded), "{code}");
            } else {
                let call = tokio::time::timeout(wait, daemon.dataset.add_examples(request));
                assert!(call.await.is_err(), "the stream is open");
            }
            let added = again(&mut daemon, &request_id).await;
            assert_eq!((added.added, added.duplicates), (texts().len() as u64, 0), "{request_id}");
            // Before that it would end the stream, if the client still sent what it holds.
            drop(sender);
            empty(&mut daemon).await;
        }
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_without_its_end_stores_no_version() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::trained(dir.path()).await;
    let export = v1::ExportVersionRequest { name: format!("{BANK}@serving") };
    let pieces = daemon.registry.export_version(export).await.unwrap().into_inner();
    let file: Vec<Vec<u8>> = pieces.map(|piece| piece.unwrap().data).collect().await;
    for pause in PAUSES {
        daemon.create("copy").await;
        let request_id = format!("import-{pause}");
        let message = |data: Vec<u8>| ImportVersionRequest {
            model: "models/copy".into(),
            request_id: request_id.clone(),
            data,
        };
        // All bytes, and no end.
        let (sender, receiver) = mpsc::unbounded_channel();
        file.iter().for_each(|data| sender.send(message(data.clone())).unwrap());
        let call = daemon.registry.import_version(UnboundedReceiverStream::new(receiver));
        let wait = Duration::from_millis(pause);
        assert!(tokio::time::timeout(wait, call).await.is_err(), "the stream is open");
        // A file that is none is refused, once the first call has ended; where that has left a receipt, for its request id.
        let refused = loop {
            let other = tokio_stream::once(message(b"this is no archive at all".to_vec()));
            let refused = daemon.registry.import_version(other).await.unwrap_err();
            if refused.code() != Code::Unavailable {
                break refused;
            }
        };
        let details = refused.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "data", "{refused}");
        let list = v1::ListVersionsRequest { model: "models/copy".into(), ..Default::default() };
        let versions = daemon.registry.list_versions(list).await.unwrap().into_inner().versions;
        assert_eq!(versions, [], "after {pause} ms");
        // Before that it would end the stream, if the client still sent what it holds.
        drop(sender);
        let whole = tokio_stream::iter(file.iter().map(|data| message(data.clone())).collect::<Vec<_>>());
        let imported = daemon.registry.import_version(whole).await.unwrap().into_inner().version.unwrap();
        assert!(imported.name.ends_with("/versions/1"), "{}", imported.name);
        let delete = v1::DeleteModelRequest { name: "models/copy".into(), ..Default::default() };
        daemon.registry.delete_model(delete).await.unwrap();
    }
    daemon.stop().await;
}

/// What a status says of why, for programs.
fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_a_message_is_told_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    let none = tokio_stream::iter(Vec::<AddExamplesRequest>::new());
    let status = daemon.dataset.add_examples(none).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELDS"));
    let example = LabelledText { text: "one".into(), label: "a".into() };
    let request =
        AddExamplesRequest { model: "models/none".into(), examples: vec![example], ..Default::default() };
    let status = daemon.dataset.add_examples(tokio_stream::once(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "a whole stream gets as far as its model");
    daemon.stop().await;
}
