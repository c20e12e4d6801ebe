//! Spans of a daemon that is a process, as a collector gets them.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use support::{BANK, QUESTIONS, train_request};
use taxond::proto::v1::{
    self, predict_service_client::PredictServiceClient, training_service_client::TrainingServiceClient,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Server},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn traced<T>(message: T, sampled: bool) -> Request<T> {
    let mut request = Request::new(message);
    let flags = u8::from(sampled);
    let context = format!("00-{TRACE}-{PARENT}-{flags:02x}");
    request.metadata_mut().insert("traceparent", context.parse().unwrap());
    request
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn code(span: &Span) -> i64 {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let attribute = span.attributes.iter().find(|attribute| attribute.key == "rpc.grpc.status_code");
    match attribute.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::IntValue(code)) => code,
        other => panic!("{other:?} in {span:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_with_the_trace_of_its_client_and_a_job_is_linked_to_it() {
    let dir = tempfile::tempdir().unwrap();
    support::Daemon::with_examples(dir.path()).await.stop().await;
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let mut daemon = Command::new(env!("CARGO_BIN_EXE_taxond"))
        .args(["serve", "--listen", "127.0.0.1:0", "--device", "cpu", "--otlp-endpoint", &endpoint])
        .arg("--data-dir")
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(daemon.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let address = format!("http://{}", line.strip_prefix("listening on ").unwrap());
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    let mut training = TrainingServiceClient::new(channel.clone());
    let mut events = training.train(traced(train_request(), true)).await.unwrap().into_inner();
    while events.message().await.unwrap().is_some() {}
    let mut predict = PredictServiceClient::new(channel);
    let ask = |model: &str| v1::PredictRequest {
        model: model.into(),
        texts: QUESTIONS.map(String::from).to_vec(),
        ..Default::default()
    };
    predict.predict(traced(ask(BANK), true)).await.unwrap();
    predict.predict(traced(ask("models/nobody"), true)).await.unwrap_err();
    // The first belongs to a trace that its client does not want, the second begins one.
    predict.predict(traced(ask(BANK), false)).await.unwrap();
    predict.predict(ask(BANK)).await.unwrap();

    // What is left is sent as it stops.
    let pid = daemon.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    assert!(daemon.wait().unwrap().success());
    let spans = collector.0.lock().unwrap().clone();
    let mut by_name: HashMap<&str, Vec<&Span>> = HashMap::new();
    for span in &spans {
        by_name.entry(&span.name).or_default().push(span);
    }
    let calls = &by_name["taxond.v1.PredictService/Predict"];
    let (traced, own): (Vec<&Span>, Vec<&Span>) = calls.iter().partition(|span| hex(&span.trace_id) == TRACE);
    let mut codes: Vec<i64> = traced.iter().map(|span| code(span)).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 5], "{calls:#?}");
    assert_eq!(
        own.iter().map(|span| (code(span), span.parent_span_id.is_empty())).collect::<Vec<_>>(),
        [(0, true)]
    );
    let train = by_name["taxond.v1.TrainingService/Train"][0];
    for span in traced.into_iter().chain([train]) {
        assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), PARENT.into()));
        assert_eq!(span.kind(), SpanKind::Server);
        assert_ne!(span.status.clone().unwrap_or_default().code(), StatusCode::Error);
        assert!(span.end_time_unix_nano > span.start_time_unix_nano);
    }
    let job = by_name["job"][0];
    let links: Vec<&[u8]> = job.links.iter().map(|link| link.span_id.as_slice()).collect();
    assert_eq!(links, [train.span_id.as_slice()]);
}
