//! The Open Inference Protocol over a real socket: tensors typed and raw, metadata, the repository, and what is refused.

mod support;

use std::collections::HashMap;

use support::{BANK, Daemon, QUESTIONS, probability};
use taxond::proto::{
    inference::{
        self as proto, InferTensorContents, ModelInferRequest, ModelInferResponse,
        grpc_inference_service_client::GrpcInferenceServiceClient,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
        model_repository_parameter,
    },
    v1::{self, Learn},
};
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt as _;

type Client = GrpcInferenceServiceClient<Channel>;

async fn start(dir: &std::path::Path) -> (Daemon, Client) {
    let daemon = Daemon::trained(dir).await;
    let client = Client::new(daemon.channel.clone());
    (daemon, client)
}

/// A request for outputs, with typed texts.
fn request(shape: &[i64], texts: &[&str], outputs: &[&str]) -> ModelInferRequest {
    let bytes_contents = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    let output = |name: &&str| InferRequestedOutputTensor {
        name: (*name).into(),
        ..InferRequestedOutputTensor::default()
    };
    ModelInferRequest {
        model_name: "bank".into(),
        id: "7".into(),
        inputs: vec![InferInputTensor {
            name: "text".into(),
            datatype: "BYTES".into(),
            shape: shape.to_vec(),
            contents: Some(InferTensorContents { bytes_contents, ..Default::default() }),
            ..Default::default()
        }],
        outputs: outputs.iter().map(output).collect(),
        ..Default::default()
    }
}

/// The same with raw texts.
fn raw(mut request: ModelInferRequest) -> ModelInferRequest {
    let texts = request.inputs[0].contents.take().expect("typed texts").bytes_contents;
    let bytes =
        texts.iter().flat_map(|text| [&(text.len() as u32).to_le_bytes()[..], text].concat()).collect();
    request.raw_input_contents = vec![bytes];
    request
}

fn floats(raw: &[u8]) -> Vec<f32> {
    raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn names(response: &ModelInferResponse) -> Vec<(&str, &str, &[i64])> {
    response.outputs.iter().map(|o| (o.name.as_str(), o.datatype.as_str(), o.shape.as_slice())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_tensors_hold_what_predict_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (mut daemon, mut client) = start(dir.path()).await;
    let expected = daemon.ask(BANK, &QUESTIONS).await;
    let response = client.model_infer(request(&[4], &QUESTIONS, &[])).await.unwrap().into_inner();
    assert_eq!((response.model_name.as_str(), response.model_version.as_str()), ("bank", "1"));
    assert_eq!(response.id, "7");
    let revision = response.parameters["manifest_revision"].parameter_choice.clone();
    assert_eq!(revision, Some(ParameterChoice::Int64Param(1)));
    assert_eq!(names(&response), [("label", "BYTES", &[4][..]), ("score", "FP32", &[4])]);
    assert!(response.raw_output_contents.is_empty());
    let contents = |index: usize| response.outputs[index].contents.clone().unwrap();
    let best: Vec<_> = expected.predictions.iter().map(|prediction| &prediction.classes[0]).collect();
    let labels: Vec<_> = best.iter().map(|class| class.name.as_bytes().to_vec()).collect();
    assert_eq!(contents(0).bytes_contents, labels);
    let scores: Vec<_> = best.iter().map(|class| class.probability as f32).collect();
    assert_eq!(contents(1).fp32_contents, scores);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_texts_get_raw_answers_in_the_order_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (mut daemon, mut client) = start(dir.path()).await;
    let expected = daemon.ask(BANK, &QUESTIONS).await;
    let asked = raw(request(&[4, 1], &QUESTIONS, &["probabilities", "label"]));
    let response = client.model_infer(asked).await.unwrap().into_inner();
    assert_eq!(names(&response), [("probabilities", "FP32", &[4, 4][..]), ("label", "BYTES", &[4, 1])]);
    assert!(response.outputs.iter().all(|output| output.contents.is_none()));

    let Some(ParameterChoice::StringParam(classes)) =
        &response.outputs[0].parameters["class_names"].parameter_choice
    else {
        panic!("{:?}", response.outputs[0].parameters)
    };
    let classes: Vec<String> = serde_json::from_str(classes).unwrap();
    assert_eq!(classes, ["balance", "card lost", "withdraw over 20k", "withdraw under 20k"]);
    let probabilities = floats(&response.raw_output_contents[0]);
    for (row, prediction) in probabilities.chunks(4).zip(&expected.predictions) {
        let known: Vec<_> = classes.iter().map(|class| probability(prediction, class) as f32).collect();
        assert_eq!(row, known);
    }
    let labels: Vec<u8> = expected
        .predictions
        .iter()
        .map(|prediction| prediction.classes[0].name.as_bytes())
        .flat_map(|name| [&(name.len() as u32).to_le_bytes()[..], name].concat())
        .collect();
    assert_eq!(response.raw_output_contents[1], labels);

    let nothing = client.model_infer(raw(request(&[0], &[], &[]))).await.unwrap().into_inner();
    assert_eq!(nothing.raw_output_contents, [b"", b""]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_asked_by_number_or_alias() {
    let dir = tempfile::tempdir().unwrap();
    let (mut daemon, mut client) = start(dir.path()).await;
    let _merge = daemon.merge(Learn::None).await;
    let alias =
        v1::SetAliasRequest { model: BANK.into(), alias: "canary".into(), version: 1, ..Default::default() };
    daemon.registry.set_alias(alias).await.unwrap();
    for (version, number, label) in
        [("", "2", "withdraw"), ("1", "1", "withdraw under 20k"), ("canary", "1", "withdraw under 20k")]
    {
        let asked =
            ModelInferRequest { model_version: version.into(), ..request(&[1], &QUESTIONS[..1], &["label"]) };
        let response = client.model_infer(asked).await.unwrap().into_inner();
        assert_eq!(response.model_version, number);
        let labels = &response.outputs[0].contents.as_ref().unwrap().bytes_contents;
        assert_eq!(labels, &[label.as_bytes()]);

        let asked = proto::ModelMetadataRequest { name: "bank".into(), version: version.into() };
        let metadata = client.model_metadata(asked).await.unwrap().into_inner();
        assert_eq!(metadata.versions, ["1", "2"]);
        assert_eq!(metadata.properties["version"], number);
        let classes: Vec<String> = serde_json::from_str(&metadata.properties["class_names"]).unwrap();
        assert!(classes.contains(&label.to_owned()), "{classes:?}");
        let shapes: HashMap<_, _> =
            metadata.outputs.iter().map(|output| (output.name.as_str(), output.shape.as_slice())).collect();
        assert_eq!(shapes["probabilities"], [-1, classes.len() as i64]);
        assert_eq!((shapes["label"], shapes["score"]), (&[-1][..], &[-1][..]));
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_told_apart_from_absence() {
    let dir = tempfile::tempdir().unwrap();
    let (mut daemon, mut client) = start(dir.path()).await;
    daemon.create("fresh").await;
    assert!(client.server_live(proto::ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(proto::ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let metadata = client.server_metadata(proto::ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (metadata.name.as_str(), metadata.extensions),
        ("taxond", vec!["model_repository".to_owned()])
    );
    let ready =
        |name: &str, version: &str| proto::ModelReadyRequest { name: name.into(), version: version.into() };
    for (name, version, is_ready) in
        [("bank", "", true), ("bank", "1", true), ("bank", "serving", true), ("fresh", "", false)]
    {
        let answer = client.model_ready(ready(name, version)).await.unwrap().into_inner();
        assert_eq!(answer.ready, is_ready, "{name} {version}");
    }
    for (name, version) in [("bonk", ""), ("bank", "9"), ("bank", "canary")] {
        assert_eq!(client.model_ready(ready(name, version)).await.unwrap_err().code(), Code::NotFound);
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repository_loads_and_unloads_without_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (mut daemon, mut client) = start(dir.path()).await;
    daemon.create("fresh").await;
    let unload = |name: &str| proto::RepositoryModelUnloadRequest {
        model_name: name.into(),
        parameters: HashMap::from([(
            "unload_dependents".into(),
            proto::ModelRepositoryParameter {
                parameter_choice: Some(model_repository_parameter::ParameterChoice::BoolParam(false)),
            },
        )]),
        ..Default::default()
    };
    let load =
        |name: &str| proto::RepositoryModelLoadRequest { model_name: name.into(), ..Default::default() };
    async fn states(client: &mut Client, ready: bool) -> Vec<String> {
        let request = proto::RepositoryIndexRequest { ready, ..Default::default() };
        let models = client.repository_index(request).await.unwrap().into_inner().models;
        models.iter().map(|of| format!("{} {} {}", of.name, of.version, of.state)).collect()
    }

    assert_eq!(states(&mut client, false).await, ["bank 1 READY", "fresh  UNAVAILABLE"]);
    let before = daemon.ask(BANK, &QUESTIONS).await;
    client.repository_model_unload(unload("bank")).await.unwrap();
    assert_eq!(states(&mut client, false).await, ["bank 1 UNAVAILABLE", "fresh  UNAVAILABLE"]);
    assert!(states(&mut client, true).await.is_empty());
    client.repository_model_load(load("bank")).await.unwrap();
    assert_eq!(states(&mut client, true).await, ["bank 1 READY"]);
    client.repository_model_unload(unload("bank")).await.unwrap();
    assert_eq!(daemon.ask(BANK, &QUESTIONS).await, before);
    assert_eq!(states(&mut client, true).await, ["bank 1 READY"]);

    assert_eq!(client.repository_model_load(load("bonk")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.repository_model_unload(unload("bonk")).await.unwrap_err().code(), Code::NotFound);
    let status = client.repository_model_load(load("fresh")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let config = proto::RepositoryModelLoadRequest {
        parameters: HashMap::from([("config".into(), proto::ModelRepositoryParameter::default())]),
        ..load("bank")
    };
    let status = client.repository_model_load(config).await.unwrap_err();
    assert!(status.message().contains("parameters: ") && status.message().contains("'config'"), "{status}");
    let elsewhere = proto::RepositoryIndexRequest { repository_name: "other".into(), ..Default::default() };
    let status = client.repository_index(elsewhere).await.unwrap_err();
    assert!(status.message().contains("repository_name: "), "{status}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_name_the_tensor_and_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (daemon, mut client) = start(dir.path()).await;
    let right = || request(&[1], &["hi"], &[]);
    let mut typeless = right();
    typeless.inputs[0].datatype = "INT32".into();
    let mut short = raw(right());
    short.raw_input_contents[0].truncate(5);
    for (asked, field, part) in [
        (
            request(&[2, 3], &["hi"], &[]),
            "inputs[0].shape",
            "tensor 'text' must have the shape [n] or [n, 1]",
        ),
        (request(&[1], &[" "], &[]), "inputs[0].contents[0]", "blank"),
        (request(&[1], &["hi"], &["logits"]), "outputs[0].name", "got 'logits'"),
        (typeless, "inputs[0].datatype", "tensor 'text' must be BYTES, got 'INT32'"),
        (short, "raw_input_contents[0]", "a length of 2 bytes at byte 0, where 1 are left"),
        (ModelInferRequest { model_name: "Bank".into(), ..right() }, "model_name", "'B'"),
        (ModelInferRequest { model_version: "@1".into(), ..right() }, "model_version", "'@'"),
    ] {
        let status = client.model_infer(asked).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let details = status.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, field);
        assert!(violation.description.contains(part), "{}", violation.description);
    }
    for asked in [
        ModelInferRequest { model_name: "bonk".into(), ..right() },
        ModelInferRequest { model_version: "9".into(), ..right() },
        ModelInferRequest { model_version: "canary".into(), ..right() },
    ] {
        assert_eq!(client.model_infer(asked).await.unwrap_err().code(), Code::NotFound);
    }
    daemon.stop().await;
}
