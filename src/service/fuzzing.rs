//! What a fuzzer tries on calls: everything that is read of a request before the daemon is asked anything.

use std::{sync::Arc, time::SystemTime};

use prost::Message;
use tonic::{Request, metadata::MetadataValue};

use super::{
    Identity, PageTokens, author,
    caller::Caller,
    check::{self, MAX_TEXTS, Violations},
    dataset, edit, inference, name, predict, registry, status,
    tensor::{self, Elements, Output},
};
use crate::{
    error::{Error, Result},
    proto::{
        inference::{ModelInferRequest, model_infer_request::InferInputTensor},
        v1,
    },
    registry::AliasName,
    taxonomy::{ClassName, Edit, Manifest, Provenance, Revision, VersionNumber},
    text::MAX_TEXT_BYTES,
};

/// Bytes of headers that clients take at least (hyper, and so tonic; others take more).
const HEADERS: usize = 16 * 1024;

/// Reads a request of one kind and checks it; none where the bytes are no such message.
type Kind = fn(&[u8]) -> Option<Result<()>>;

const KINDS: [Kind; 16] = [
    |bytes| read(bytes).map(question),
    |bytes| read(bytes).map(infer),
    |bytes| {
        read::<v1::AddExamplesRequest>(bytes)
            .map(|of| named(&of.model, &of.request_id).and(examples(of.examples)))
    },
    |bytes| read::<v1::ApplyChangesRequest>(bytes).map(|of| apply(&edit::list(&of.changes)?)),
    |bytes| {
        read::<v1::MergeClassesRequest>(bytes)
            .map(|of| apply(&[Edit::Merge { classes: of.classes, into: of.into }]))
    },
    |bytes| read::<v1::SplitClassRequest>(bytes).map(|of| apply(&[edit::split(of.class_name, of.parts)])),
    |bytes| read::<v1::AddClassesRequest>(bytes).map(|of| apply(&[Edit::Add { names: of.names }])),
    |bytes| read::<v1::RemoveClassesRequest>(bytes).map(|of| apply(&[Edit::Remove { classes: of.classes }])),
    |bytes| {
        let rename =
            |of: v1::RenameClassRequest| Edit::Rename { class: of.class_name, new_name: of.new_name };
        read(bytes).map(|of| apply(&[rename(of)]))
    },
    |bytes| {
        read::<v1::MoveClassRequest>(bytes)
            .map(|of| apply(&[edit::place(of.class_name, of.parent, of.create_parent)]))
    },
    |bytes| read(bytes).map(|of: v1::TrainRequest| train(&of)),
    |bytes| {
        read::<v1::CreateModelRequest>(bytes).map(|of| {
            name::new_model(&anybody(), "model_id", &of.model_id)
                .and_then(|_| registry::design(&of))
                .map(drop)
        })
    },
    |bytes| read(bytes).map(|of: v1::SetAliasRequest| alias(&of)),
    |bytes| read(bytes).map(|of: v1::ListVersionsRequest| page(&of)),
    |bytes| read(bytes).map(|of: v1::GetVersionRequest| names(&of.name)),
    |bytes| {
        let mut request = Request::new(());
        request.metadata_mut().insert("taxond-user", MetadataValue::try_from(bytes).ok()?);
        Some(author::of(request).map(|(_, _, author)| assert!(!author.is_empty() && author.len() <= 128)))
    },
];

/// Any bytes as the request that the first byte says: what is taken is within the limits, and what is refused is refused in an
/// answer that clients can read.
pub fn requests(data: &[u8]) {
    let Some((&kind, bytes)) = data.split_first() else { return };
    if let Some(Err(error)) = KINDS[usize::from(kind) % KINDS.len()](bytes) {
        check_refusal(error);
    }
}

/// Any bytes as the raw texts of a ModelInfer, as many as the first byte says: what is taken is written again as it was.
pub fn tensors(data: &[u8]) {
    let Some((&count, raw)) = data.split_first() else { return };
    let shape = vec![i64::from(count)];
    let input = InferInputTensor {
        name: "text".into(),
        datatype: "BYTES".into(),
        shape: shape.clone(),
        ..Default::default()
    };
    let request = ModelInferRequest {
        inputs: vec![input],
        raw_input_contents: vec![raw.to_vec()],
        ..Default::default()
    };
    match tensor::texts(request) {
        Ok(texts) => {
            assert!((texts.raw, texts.texts.len(), &texts.shape) == (true, usize::from(count), &shape));
            let (_, written) = tensor::encode(Output::Label, shape, Elements::Bytes(texts.texts), true);
            assert_eq!(written.as_deref(), Some(raw));
        }
        Err(error) => check_refusal(error),
    }
}

fn anybody() -> Caller {
    Caller::new(Arc::new(Identity::anybody()))
}

/// The message, which is the same when it is written and read again.
fn read<M: Message + Default>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = M::decode(&*message.encode_to_vec()).expect("what was written is read");
    assert_eq!(again.encoded_len(), message.encoded_len());
    Some(message)
}

/// What the client gets is the fault of its request, and no longer than the headers that it takes.
fn check_refusal(error: Error) {
    assert!(matches!(error, Error::Invalid(_) | Error::NotFound { .. }), "{error:.500}");
    let status = status(error);
    let message: usize =
        status.message().bytes().map(|byte| if matches!(byte, b' '..=b'~') { 1 } else { 3 }).sum();
    let bytes = message + status.details().len().div_ceil(3) * 4;
    assert!(bytes <= HEADERS - 1024, "{bytes} bytes: {:.500}", status.message());
}

fn question(request: v1::PredictRequest) -> Result<()> {
    let question = predict::question(&anybody(), request, false)?;
    assert!((1..=MAX_TEXTS).contains(&question.texts.len()) && (1..=1000).contains(&question.top_k));
    assert!(question.texts.iter().all(|text| text.len() <= MAX_TEXT_BYTES && !text.trim().is_empty()));
    assert!((0.0..=1.0).contains(&question.min_confidence));
    Ok(())
}

fn infer(request: ModelInferRequest) -> Result<()> {
    inference::target(
        &anybody(),
        ["model_name", "model_version"],
        &request.model_name,
        &request.model_version,
    )?;
    assert!((1..=3).contains(&tensor::wanted(&request.outputs)?.len()));
    assert!(tensor::texts(request)?.texts.len() <= MAX_TEXTS);
    Ok(())
}

fn named(model: &str, request_id: &str) -> Result<()> {
    name::model(&anybody(), "model", model)?;
    check::request_id(request_id)
}

fn examples(examples: Vec<v1::LabelledText>) -> Result<()> {
    let count = examples.len();
    assert_eq!(dataset::checked(examples, 0)?.len(), count);
    Ok(())
}

/// Three classes, one of them in a group.
fn apply(edits: &[Edit]) -> Result<()> {
    let names: Vec<ClassName> = ["a", "b", "c"].iter().filter_map(|name| ClassName::new(name).ok()).collect();
    let provenance = |revision| Provenance {
        revision: Revision(revision),
        serving: VersionNumber(1),
        reason: String::new(),
        author: String::new(),
        created: SystemTime::UNIX_EPOCH,
    };
    let first = Manifest::create(&names, SystemTime::UNIX_EPOCH).expect("three names");
    let grouped = first.place("a", Some("group"), true, provenance(2)).expect("a place of its own");
    let changed = grouped.edit_all(edits, &provenance(3), &mut |_, _, _| Ok(()))?;
    assert_eq!(changed.check(), Ok(()));
    Ok(())
}

fn train(request: &v1::TrainRequest) -> Result<()> {
    let mut violations = Violations::default();
    check::epochs(&mut violations, request.epochs);
    check::learning_rate(&mut violations, request.learning_rate);
    check::word_shuffle(&mut violations, request.word_shuffle);
    check::optimiser(&mut violations, request.optimiser);
    check::training(&mut violations, request.learn);
    violations.finish()?;
    assert!(
        request.learning_rate.is_none_or(f64::is_finite) && request.word_shuffle.is_none_or(f64::is_finite)
    );
    Ok(())
}

fn alias(request: &v1::SetAliasRequest) -> Result<()> {
    named(&request.model, &request.request_id)?;
    check::etag(&request.etag)?;
    AliasName::new(&request.alias).map(drop).map_err(|fault| Error::invalid("alias", fault))
}

fn page(request: &v1::ListVersionsRequest) -> Result<()> {
    assert!((1..=1000).contains(&check::page_size(request.page_size)?));
    // A key that no daemon has: tokens are refused, whatever they are.
    let listing = PageTokens::new(&[0; 32])?.listing(&anybody(), "ListVersions", request);
    listing.position::<u64>(request).map(drop)
}

fn names(raw: &str) -> Result<()> {
    let _job = name::job("name", raw).map_err(check_refusal);
    let _manifest = name::manifest(&anybody(), "name", raw).map_err(check_refusal);
    name::version_or_alias(&anybody(), "name", raw).map(drop)
}
