//! No answer is larger than a message: pages end by bytes, what has no pages says what was left out, and Predict and ModelInfer
//! refuse before they compute.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod store_fixtures;
mod support;

use std::{collections::BTreeSet, path::Path, time::SystemTime};

use prost::Message;
use store_fixtures::{id, label, publication};
use support::Daemon;
use taxond::{
    dataset::Dataset,
    model::{Architecture, Preset, surgery},
    proto::{
        inference::{
            InferTensorContents, ModelInferRequest, ModelMetadataRequest,
            grpc_inference_service_client::GrpcInferenceServiceClient,
            model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
        },
        v1::{self, merge_classes_response},
    },
    registry::{Registry, Tensors},
    service::MAX_MESSAGE_BYTES,
    taxonomy::{ClassName, LeafId, Manifest, Provenance, Revision, VersionNumber},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Classes whose names are so long that one manifest is larger than a message.
const WIDE: &str = "models/wide";
const WIDE_CLASSES: u32 = 34_000;
/// Classes of which a few manifests are.
const MANY: &str = "models/many";
const MANY_CLASSES: u32 = 10_000;
const REVISIONS: u64 = 15;
/// Examples, each under a label of its own.
const LABELLED: &str = "models/labelled";
const LABELS: usize = 34_000;

fn class(number: u32) -> ClassName {
    label(&format!("{number:0>120}"))
}

/// A model with so many classes, and a network that knows their leaves.
fn create(registry: &Registry, name: &str, classes: u32) -> Manifest {
    registry.create_model(&id(name), Preset::Default, None).unwrap();
    let names: Vec<ClassName> = (0..classes).map(class).collect();
    let manifest = Manifest::create(&names, SystemTime::now()).unwrap();
    let architecture = Architecture { embedding: 4, hidden: 2, ..Architecture::preset(Preset::Default) };
    let leaves: Vec<LeafId> = (1..=classes).map(LeafId).collect();
    let network = surgery::from_scratch(architecture, ["my card", "my cash"], &leaves, 1);
    registry.publish(publication(&id(name), Tensors::New(network), Some(manifest.clone()))).unwrap();
    manifest
}

/// Fills a data folder with what would take a client long.
fn fill(path: &Path) {
    let store = store_fixtures::open(path);
    let registry = Registry::open(store.clone()).unwrap();
    create(&registry, "wide", WIDE_CLASSES);
    let mut manifest = create(&registry, "many", MANY_CLASSES);
    for revision in 2..=REVISIONS {
        let provenance = Provenance {
            revision: Revision(revision),
            serving: VersionNumber(revision - 1),
            reason: "a longer name".to_owned(),
            author: "ada".to_owned(),
            created: SystemTime::now(),
        };
        manifest = manifest.rename("#1", &format!("name {revision}"), provenance).unwrap();
        let version = publication(&id("many"), Tensors::Same(VersionNumber(1)), Some(manifest.clone()));
        registry.publish(version).unwrap();
    }
    let dataset = Dataset::open(store, &registry.uids().unwrap()).unwrap();
    let labelled = registry.create_model(&id("labelled"), Preset::Default, None).unwrap();
    let mut session = dataset.add(&labelled).unwrap();
    for from in (0..LABELS).step_by(1000) {
        let texts = (from..(from + 1000).min(LABELS)).map(|at| (format!("text {at}"), class(at as u32)));
        session.push(texts.collect()).unwrap();
    }
    session.commit(None).unwrap();
}

async fn filled(path: &Path) -> Daemon {
    fill(path);
    Daemon::start(path).await
}

/// The fields that a refusal names, with what it says of them.
fn violations(status: &Status) -> Vec<(String, String)> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    violations.iter().map(|of| (of.field.clone(), of.description.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_end_their_pages_by_bytes_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = filled(folder.path()).await;

    let (mut revisions, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let request = v1::ListManifestsRequest { model: MANY.into(), page_token, ..Default::default() };
        let page = daemon.taxonomy.list_manifests(request).await.unwrap().into_inner();
        assert!(page.encoded_len() <= MAX_MESSAGE_BYTES);
        assert!(page.manifests.iter().all(|of| of.classes.len() == MANY_CLASSES as usize));
        revisions.extend(page.manifests.iter().map(|manifest| manifest.revision));
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(revisions, (1..=REVISIONS).rev().collect::<Vec<_>>());
    assert!(pages > 1, "one page held all");

    let request = v1::GetHistoryRequest { model: MANY.into(), page_size: 10, ..Default::default() };
    let history = daemon.taxonomy.get_history(request).await.unwrap().into_inner();
    assert!(history.entries.len() == 10 && !history.next_page_token.is_empty());
    assert!(history.entries.iter().all(|entry| entry.versions.len() == 1 && entry.omitted_versions == 0));

    let (mut labels, mut pages, mut page_token) = (BTreeSet::new(), 0, String::new());
    loop {
        let request = v1::GetStatsRequest { model: LABELLED.into(), page_token };
        let page = daemon.dataset.get_stats(request).await.unwrap().into_inner();
        assert_eq!(page.total, LABELS as u64);
        assert!(page.labels.iter().all(|label| label.train + label.validation == 1));
        let before = labels.len();
        labels.extend(page.labels.into_iter().map(|label| label.label));
        assert!(labels.len() > before);
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(labels.len(), LABELS);
    assert!(pages > 1, "one page held all");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_too_large_is_read_in_pages_and_cut_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = filled(folder.path()).await;
    let whole = async |daemon: &mut Daemon, name: &str| {
        let (mut ids, mut pages, mut page_token) = (Vec::new(), 0, String::new());
        loop {
            let request = v1::GetManifestRequest { name: name.into(), page_token };
            let page = daemon.taxonomy.get_manifest(request).await.unwrap().into_inner();
            let manifest = page.manifest.unwrap();
            assert_eq!(manifest.omitted_classes, 0);
            ids.extend(manifest.classes.iter().map(|class| class.id));
            pages += 1;
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return (ids, pages);
            }
        }
    };
    let (ids, pages) = whole(&mut daemon, WIDE).await;
    assert_eq!(ids, (1..=WIDE_CLASSES).collect::<Vec<_>>());
    assert!(pages > 1);

    // A change is answered with as much as fits, and says what does not.
    let request = v1::MergeClassesRequest {
        model: WIDE.into(),
        classes: vec!["#1".into(), "#2".into()],
        into: "one or two".into(),
        learn: v1::Learn::None.into(),
        ..Default::default()
    };
    let preview = v1::MergeClassesRequest { validate_only: true, ..request.clone() };
    let mut stream = daemon.taxonomy.merge_classes(preview).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().result.unwrap();
    let merge_classes_response::Result::Preview(preview) = first else { panic!("not previewed") };
    let mut stream = daemon.taxonomy.merge_classes(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().result.unwrap();
    let merge_classes_response::Result::Applied(applied) = first else { panic!("not applied") };
    for manifest in [preview.manifest.unwrap(), applied.manifest.unwrap()] {
        let shown = manifest.classes.len() as u32;
        assert_eq!(shown + manifest.omitted_classes, WIDE_CLASSES + 1);
        // Those that are gone are left out first.
        assert!(shown > 10_000 && manifest.classes.iter().all(|class| class.id > 2));
        assert!(manifest.classes.is_sorted_by_key(|class| class.id));
    }
    let request = v1::ListManifestsRequest { model: WIDE.into(), ..Default::default() };
    let page = daemon.taxonomy.list_manifests(request).await.unwrap().into_inner();
    assert!(page.manifests.iter().all(|manifest| manifest.omitted_classes > 0));
    assert_eq!(whole(&mut daemon, "models/wide/manifests/2").await.0.len() as u32, WIDE_CLASSES + 1);

    // A token leads on in the revision that it came from.
    let first = v1::GetManifestRequest { name: "models/wide/manifests/1".into(), ..Default::default() };
    let token = daemon.taxonomy.get_manifest(first).await.unwrap().into_inner().next_page_token;
    let other = v1::GetManifestRequest { name: "models/wide/manifests/2".into(), page_token: token.clone() };
    let refused = daemon.taxonomy.get_manifest(other).await.unwrap_err();
    assert_eq!(violations(&refused)[0].0, "page_token");
    let again = v1::GetManifestRequest { name: "models/wide/manifests/1".into(), page_token: token };
    let page = daemon.taxonomy.get_manifest(again).await.unwrap().into_inner().manifest.unwrap();
    assert_eq!(page.revision, 1);
    let strange = v1::GetManifestRequest { name: WIDE.into(), page_token: "7".into() };
    let refused = daemon.taxonomy.get_manifest(strange).await.unwrap_err();
    assert_eq!(violations(&refused)[0].0, "page_token");

    // What the description names is bounded too.
    let names: Vec<String> = (3..1000).map(|id| format!("#{id}")).collect();
    let request = v1::MergeClassesRequest {
        model: WIDE.into(),
        classes: names,
        into: "many".into(),
        learn: v1::Learn::None.into(),
        validate_only: true,
        ..Default::default()
    };
    let mut stream = daemon.taxonomy.merge_classes(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().result.unwrap();
    let merge_classes_response::Result::Preview(preview) = first else { panic!("not previewed") };
    let description = preview.manifest.unwrap().description;
    assert!(description.len() <= 16 << 10 && description.contains("and 897 more into many"), "{description}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_refuses_an_answer_that_would_not_fit_and_says_what_would() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = filled(folder.path()).await;
    let request = |texts: usize, top_k: u32| v1::PredictRequest {
        model: MANY.into(),
        texts: (0..texts).map(|at| format!("my card {at}")).collect(),
        top_k: Some(top_k),
        ..Default::default()
    };
    let refused = daemon.predict.predict(request(256, 1000)).await.unwrap_err();
    let told = violations(&refused);
    assert_eq!([told[0].0.as_str(), told[1].0.as_str()], ["top_k", "texts"]);
    let most = |(_, description): &(String, String), unit: &str| -> usize {
        let (_, rest) = description.split_once("at most ").unwrap().1.split_once("at most ").unwrap();
        rest.split_once(unit).unwrap().0.parse().unwrap()
    };
    let (classes, texts) = (most(&told[0], " for 256 texts"), most(&told[1], " texts with top_k 1000"));
    for (texts, top_k) in [(256, classes), (texts, 1000)] {
        let answer = daemon.predict.predict(request(texts, top_k as u32)).await.unwrap().into_inner();
        assert_eq!(answer.predictions.len(), texts);
        assert!(answer.predictions.iter().all(|prediction| prediction.classes.len() == top_k));
    }
    assert!(daemon.predict.predict(request(texts + 1, 1000)).await.is_err());
    // Of ten thousand classes that are about as likely none is that sure.
    let sure = v1::PredictRequest { min_confidence: Some(0.5), ..request(256, 1000) };
    assert!(daemon.predict.predict(sure).await.is_ok());

    let message = v1::PredictStreamRequest {
        model: MANY.into(),
        texts: request(256, 1).texts,
        top_k: Some(1000),
        ..Default::default()
    };
    let mut stream = daemon.predict.predict_stream(tokio_stream::once(message)).await.unwrap().into_inner();
    let refused = stream.message().await.unwrap_err();
    assert_eq!(violations(&refused)[0].0, "messages[0].top_k");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn model_infer_refuses_probabilities_that_would_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = filled(folder.path()).await;
    let mut inference = GrpcInferenceServiceClient::new(daemon.channel.clone());
    let request = |texts: usize, output: &str| ModelInferRequest {
        model_name: "many".into(),
        inputs: vec![InferInputTensor {
            name: "text".into(),
            datatype: "BYTES".into(),
            shape: vec![texts as i64],
            contents: Some(InferTensorContents {
                bytes_contents: (0..texts).map(|at| format!("my card {at}").into_bytes()).collect(),
                ..Default::default()
            }),
            ..Default::default()
        }],
        outputs: vec![InferRequestedOutputTensor { name: output.into(), ..Default::default() }],
        ..Default::default()
    };
    let refused = inference.model_infer(request(256, "probabilities")).await.unwrap_err();
    let fields: Vec<String> = violations(&refused).into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["inputs[0].shape", "outputs"]);
    assert!(inference.model_infer(request(20, "probabilities")).await.is_ok());
    assert!(inference.model_infer(request(256, "label")).await.is_ok());

    let metadata = |name: &str| ModelMetadataRequest { name: name.into(), ..Default::default() };
    let properties = inference.model_metadata(metadata("wide")).await.unwrap().into_inner().properties;
    assert_eq!(properties["class_names_omitted"], WIDE_CLASSES.to_string());
    let properties = inference.model_metadata(metadata("many")).await.unwrap().into_inner().properties;
    assert!(properties["class_names"].len() > 1_000_000 && !properties.contains_key("class_names_omitted"));
    daemon.stop().await;
}
