//! A request id makes a call safe to repeat: the repeat answers as the first call did and changes nothing.

mod support;

use support::{BANK, Daemon, finished, merge_request, texts, train_request};
use taxond::proto::v1::{self, Learn, merge_classes_response};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_answers_as_the_first_did() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;

    let create = v1::CreateModelRequest {
        model_id: "bank".into(),
        request_id: "create-1".into(),
        ..Default::default()
    };
    let first = daemon.registry.create_model(create.clone()).await.unwrap().into_inner();
    assert_eq!(daemon.registry.create_model(create).await.unwrap().into_inner(), first);

    let add = v1::AddExamplesRequest { model: BANK.into(), examples: texts(), request_id: "add-1".into() };
    let first = daemon.dataset.add_examples(tokio_stream::once(add.clone())).await.unwrap().into_inner();
    let again = daemon.dataset.add_examples(tokio_stream::once(add.clone())).await.unwrap().into_inner();
    assert_eq!((again, first.added), (first, texts().len() as u64));
    // Other examples under the same id are refused, not swallowed.
    let other = v1::AddExamplesRequest { examples: texts()[..1].to_vec(), ..add };
    let status = daemon.dataset.add_examples(tokio_stream::once(other)).await.unwrap_err();
    assert!(status.message().contains("was used for another request"), "{status}");

    let train = v1::TrainRequest { request_id: "train-1".into(), ..train_request() };
    let first = finished(&daemon.train(train.clone()).await);
    let again = finished(&daemon.train(train).await);
    assert_eq!((again.name, again.versions), (first.name, first.versions));

    let merge = v1::MergeClassesRequest { request_id: "merge-1".into(), ..merge_request(Learn::None) };
    let mut versions = Vec::new();
    for _ in 0..2 {
        let mut stream = daemon.taxonomy.merge_classes(merge.clone()).await.unwrap().into_inner();
        match stream.message().await.unwrap().unwrap().result.unwrap() {
            merge_classes_response::Result::Applied(applied) => versions.push(applied.version.unwrap()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(versions[0], versions[1]);

    let undo =
        v1::UndoChangeRequest { model: BANK.into(), request_id: "undo-1".into(), ..Default::default() };
    let first = daemon.taxonomy.undo_change(undo.clone()).await.unwrap().into_inner();
    assert_eq!(daemon.taxonomy.undo_change(undo).await.unwrap().into_inner(), first);

    // Receipts outlive the daemon.
    daemon.stop().await;
    let mut daemon = Daemon::start(dir.path()).await;
    let mut stream = daemon.taxonomy.merge_classes(merge).await.unwrap().into_inner();
    let Some(merge_classes_response::Result::Applied(applied)) =
        stream.message().await.unwrap().unwrap().result
    else {
        panic!("the repeated merge was not told as applied")
    };
    assert_eq!(applied.version.unwrap(), versions[0]);
    drop(stream);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_belongs_to_one_request() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path()).await;
    let create = |id: &str| v1::CreateModelRequest {
        model_id: id.into(),
        request_id: "same".into(),
        ..Default::default()
    };
    daemon.registry.create_model(create("bank")).await.unwrap();
    let status = daemon.registry.create_model(create("other")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("request_id: was used for another request"), "{status}");
    let long = v1::CreateModelRequest { request_id: "x".repeat(129), ..create("other") };
    assert!(daemon.registry.create_model(long).await.unwrap_err().message().contains("got 129"));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_with_one_request_id_are_done_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::with_examples(dir.path()).await;
    let first = v1::LabelledText { text: "where is my parcel".into(), label: "parcel".into() };
    let add =
        v1::AddExamplesRequest { model: BANK.into(), examples: vec![first], request_id: "add-2".into() };
    let known = v1::AddExamplesRequest { examples: texts(), request_id: String::new(), ..add.clone() };
    // The first call has begun and its stream has not ended.
    let (sender, call) = loop {
        let (sender, messages) = tokio::sync::mpsc::channel(1);
        let mut dataset = daemon.dataset.clone();
        let call = tokio::spawn(async move {
            dataset.add_examples(tokio_stream::wrappers::ReceiverStream::new(messages)).await
        });
        sender.send(add.clone()).await.unwrap();
        // Its session holds the examples from then on. It is itself refused where it comes while one of these holds them.
        while !call.is_finished()
            && daemon.dataset.add_examples(tokio_stream::once(known.clone())).await.is_ok()
        {}
        if !call.is_finished() {
            break (sender, call);
        }
    };
    let refused = daemon.dataset.add_examples(tokio_stream::once(add.clone())).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.message().contains("a call with this request_id is under way"), "{refused}");
    drop(sender);
    let done = call.await.unwrap().unwrap().into_inner();
    let again = daemon.dataset.add_examples(tokio_stream::once(add)).await.unwrap().into_inner();
    assert_eq!((again, done.added), (done, 1));
    daemon.stop().await;
}
