//! The audit log: a line for every call that changes something, whatever became of it.

mod support;

use std::{
    fs, io,
    sync::{Arc, Mutex},
};

use support::Daemon;
use taxond::{config::Settings, proto::v1};
use tonic::Request;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics with it").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_written_down_with_who_and_what_and_no_texts() {
    let lines = Lines::default();
    tracing_subscriber::fmt()
        .json()
        .with_env_filter("off,taxond::audit=info")
        .with_writer(lines.clone())
        .init();
    let dir = tempfile::tempdir().unwrap();
    let auth_file = dir.path().join("auth.toml");
    let hash = blake3::hash(b"secret");
    fs::write(&auth_file, format!("[[token]]\nname = 'ci'\nhash = '{hash}'\nrole = 'admin'")).unwrap();
    let settings = Settings { auth_file: Some(auth_file), ..Settings::default() };
    let mut daemon = Daemon::start_with(dir.path(), settings).await;
    let bearer = |request: &mut Request<v1::CreateModelRequest>| {
        request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
    };
    let create = || {
        let (model_id, request_id) = ("bank".to_owned(), "first".to_owned());
        Request::new(v1::CreateModelRequest { model_id, request_id, ..Default::default() })
    };
    daemon.registry.create_model(create()).await.unwrap_err();
    let mut request = create();
    bearer(&mut request);
    daemon.registry.create_model(request).await.unwrap();
    let mut request = Request::new(v1::CreateModelRequest { model_id: "bank".into(), ..Default::default() });
    bearer(&mut request);
    daemon.registry.create_model(request).await.unwrap_err();
    let examples = vec![v1::LabelledText { text: "words of a customer".into(), label: "mail".into() }];
    let message = v1::AddExamplesRequest { model: "models/bank".into(), examples, ..Default::default() };
    let mut request = Request::new(tokio_stream::once(message));
    request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
    daemon.dataset.add_examples(request).await.unwrap();
    let mut request = Request::new(v1::ListModelsRequest::default());
    request.metadata_mut().insert("authorization", "Bearer secret".parse().unwrap());
    daemon.registry.list_models(request).await.unwrap();
    daemon.stop().await;

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("customer") && !text.contains("secret"), "{text}");
    let field = |line: &serde_json::Value, name: &str| {
        line["fields"][name].as_str().map(str::to_owned).unwrap_or_default()
    };
    let found: Vec<[String; 5]> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(line["fields"]["millis"].is_number() && !field(&line, "from").is_empty(), "{line}");
            ["who", "rpc", "model", "request_id", "outcome"].map(|name| field(&line, name))
        })
        .collect();
    let expected = [
        ["", "CreateModel", "", "", "Unauthenticated"],
        ["ci", "CreateModel", "bank", "first", "Ok"],
        ["ci", "CreateModel", "bank", "", "AlreadyExists"],
        ["ci", "AddExamples", "bank", "", "Ok"],
    ];
    assert_eq!(found, expected.map(|line| line.map(String::from)));
}
