//! GRPCInferenceService: the Open Inference Protocol, for clients that know nothing of taxond.

use std::collections::{BTreeSet, HashMap};

use tonic::{Request, Response, Status, async_trait};

use super::{
    Services,
    caller::{self, Caller},
    name,
    page::{self, PAGE_BYTES},
    size,
    status::status,
    tensor::{self, Elements, Output, Texts},
};
use crate::{
    error::{Error, Result},
    predict::{Answers, Live, Outline, Question},
    proto::inference::{
        self as proto, grpc_inference_service_server::GrpcInferenceService,
        model_infer_response::InferOutputTensor, repository_index_response::ModelIndex,
    },
    registry::{AliasName, Model, ModelId, Selector},
    taxonomy::VersionNumber,
};

/// Name of the server.
const NAME: &str = "taxond";
/// What the versions of a model are made of.
const PLATFORM: &str = "taxond_checkpoint";
/// Extensions of the protocol.
const EXTENSIONS: [&str; 1] = ["model_repository"];
/// Versions that the metadata of a model name, the newest.
const LISTED_VERSIONS: usize = 1000;

#[async_trait]
impl GrpcInferenceService for Services {
    async fn server_live(
        &self,
        _request: Request<proto::ServerLiveRequest>,
    ) -> Result<Response<proto::ServerLiveResponse>, Status> {
        Ok(Response::new(proto::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _request: Request<proto::ServerReadyRequest>,
    ) -> Result<Response<proto::ServerReadyResponse>, Status> {
        Ok(Response::new(proto::ServerReadyResponse { ready: !*self.stopping.borrow() }))
    }

    async fn model_ready(
        &self,
        request: Request<proto::ModelReadyRequest>,
    ) -> Result<Response<proto::ModelReadyResponse>, Status> {
        let (request, caller) = caller::of(request);
        let (model, selector) =
            target(&caller, ["name", "version"], &request.name, &request.version).map_err(status)?;
        let ready = match self.registry.resolve(&model, &selector) {
            Ok(_) => true,
            Err(Error::Precondition { .. }) => false,
            Err(cause) => return Err(status(cause)),
        };
        Ok(Response::new(proto::ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _request: Request<proto::ServerMetadataRequest>,
    ) -> Result<Response<proto::ServerMetadataResponse>, Status> {
        Ok(Response::new(proto::ServerMetadataResponse {
            name: NAME.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            extensions: EXTENSIONS.map(String::from).into(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<proto::ModelMetadataRequest>,
    ) -> Result<Response<proto::ModelMetadataResponse>, Status> {
        let (request, caller) = caller::of(request);
        let metadata = self
            .blocking(move |services| {
                let (model, selector) =
                    target(&caller, ["name", "version"], &request.name, &request.version)?;
                services.metadata(&model, &selector)
            })
            .await?;
        Ok(Response::new(metadata))
    }

    async fn model_infer(
        &self,
        request: Request<proto::ModelInferRequest>,
    ) -> Result<Response<proto::ModelInferResponse>, Status> {
        let (request, caller) = caller::of(request);
        let id = request.id.clone();
        let fields = ["model_name", "model_version"];
        let (model, selector) =
            target(&caller, fields, &request.model_name, &request.model_version).map_err(status)?;
        let wanted = tensor::wanted(&request.outputs).map_err(status)?;
        let Texts { texts, shape, raw } = tensor::texts(request).map_err(status)?;
        let question = Question {
            model,
            selector,
            texts,
            revision: None,
            level: None,
            top_k: if wanted.contains(&Output::Probabilities) { usize::MAX } else { 1 },
            min_confidence: 0.0,
            min_precision: None,
        };
        let fits = |outline: &Outline<'_>| size::check_infer(outline, &wanted);
        let answered = self.predictor.predict_if(question, fits).await.map_err(status)?;
        Ok(Response::new(response(id, &answered, &wanted, &shape, raw)))
    }

    async fn repository_index(
        &self,
        request: Request<proto::RepositoryIndexRequest>,
    ) -> Result<Response<proto::RepositoryIndexResponse>, Status> {
        let (request, caller) = caller::of(request);
        let models = self
            .blocking(move |services| {
                only_repository(&request.repository_name)?;
                let (mut models, mut bytes) = (Vec::new(), 0);
                let all = services.registry.models(None, usize::MAX)?;
                for model in all.into_iter().filter(|model| caller.identity().sees(&model.id)) {
                    // A model that is deleted meanwhile is none of the repository.
                    let loaded = services.predictor.in_memory(&model.id).unwrap_or_default();
                    let entries = index(&model, &loaded);
                    let entries = entries.into_iter().filter(|of| !request.ready || of.reason.is_empty());
                    for entry in entries {
                        bytes += page::item_bytes(&entry);
                        models.push(entry);
                    }
                    if bytes > PAGE_BYTES {
                        return Err(index_too_large(models.len(), request.ready));
                    }
                }
                Ok(models)
            })
            .await?;
        Ok(Response::new(proto::RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        request: Request<proto::RepositoryModelLoadRequest>,
    ) -> Result<Response<proto::RepositoryModelLoadResponse>, Status> {
        let (request, caller) = caller::of(request);
        self.blocking(move |services| {
            only_repository(&request.repository_name)?;
            if let Some(name) = request.parameters.keys().min() {
                let shown: String = name.chars().take(64).collect();
                let description = format!("a model takes no configuration, got '{}'", shown.escape_debug());
                return Err(Error::invalid("parameters", description));
            }
            let model = name::model_id(&caller, "model_name", &request.model_name)?;
            services.predictor.resolve(&model, &Selector::Serving)
        })
        .await?;
        Ok(Response::new(proto::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<proto::RepositoryModelUnloadRequest>,
    ) -> Result<Response<proto::RepositoryModelUnloadResponse>, Status> {
        let (request, caller) = caller::of(request);
        let unload = || {
            only_repository(&request.repository_name)?;
            self.predictor.unload(&name::model_id(&caller, "model_name", &request.model_name)?)
        };
        unload().map_err(status)?;
        Ok(Response::new(proto::RepositoryModelUnloadResponse {}))
    }
}

impl Services {
    fn metadata(&self, model: &ModelId, selector: &Selector) -> Result<proto::ModelMetadataResponse> {
        let number = self.registry.resolve(model, selector)?;
        let manifest = self.registry.manifest(model, self.registry.version(model, number)?.revision)?;
        let names: Vec<&str> = manifest.active().map(|class| class.name.as_str()).collect();
        let mut versions = self.registry.versions(model, None, LISTED_VERSIONS)?;
        versions.reverse();
        Ok(proto::ModelMetadataResponse {
            name: model.to_string(),
            versions: versions.iter().map(|version| version.number.to_string()).collect(),
            platform: PLATFORM.into(),
            inputs: tensor::inputs(),
            outputs: tensor::outputs(names.len()),
            properties: HashMap::from([
                class_names(&names),
                ("manifest_revision".to_owned(), manifest.revision.to_string()),
                ("version".to_owned(), number.to_string()),
            ]),
        })
    }
}

/// The property that names the classes or, where that would not fit a message, the one that says how many there are.
fn class_names(names: &[&str]) -> (String, String) {
    let property = tensor::json(names);
    match property.len() <= PAGE_BYTES {
        true => ("class_names".to_owned(), property),
        false => ("class_names_omitted".to_owned(), names.len().to_string()),
    }
}

/// What a name and a version of the protocol mean; `fields` are what they are called in the request.
pub(super) fn target(
    caller: &Caller,
    fields: [&str; 2],
    name: &str,
    version: &str,
) -> Result<(ModelId, Selector)> {
    let [name_field, version_field] = fields;
    let selector = match version {
        "" => Selector::Serving,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map(|number| Selector::Number(VersionNumber(number))).map_err(|_| {
                Error::invalid(version_field, format!("is no number of a version, got '{:.24}'", digits))
            })?
        }
        alias => AliasName::new(alias).map(Selector::Alias).map_err(|what| {
            Error::invalid(version_field, format!("must be a number or an alias: alias {what}"))
        })?,
    };
    Ok((name::model_id(caller, name_field, name)?, selector))
}

/// The index has no pages.
fn index_too_large(entries: usize, ready: bool) -> Error {
    let advice = if ready { "use ListModels" } else { "ask with `ready`, or use ListModels" };
    Error::Exhausted {
        reason: "INDEX_TOO_LARGE",
        description: format!(
            "the index has {entries} entries and more, which do not fit a message; {advice}"
        ),
        retry_after: None,
    }
}

fn only_repository(name: &str) -> Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    let description = format!("there is one repository, whose name is empty, got '{}'", shown.escape_debug());
    Err(Error::invalid("repository_name", description))
}

/// The versions of a model that an alias points to or that are in memory.
fn index(model: &Model, loaded: &[VersionNumber]) -> Vec<ModelIndex> {
    let entry = |version: String, reason: &str| ModelIndex {
        name: model.id.to_string(),
        version,
        state: if reason.is_empty() { "READY" } else { "UNAVAILABLE" }.into(),
        reason: reason.into(),
    };
    let numbers: BTreeSet<VersionNumber> = model.aliases.values().chain(loaded).copied().collect();
    if numbers.is_empty() {
        return vec![entry(String::new(), "no version is promoted")];
    }
    let reason = |number| if loaded.contains(number) { "" } else { "is loaded when it is first asked" };
    numbers.iter().map(|number| entry(number.to_string(), reason(number))).collect()
}

/// The answers as the tensors that are wanted.
fn response(
    id: String,
    answered: &Answers,
    wanted: &[Output],
    shape: &[i64],
    raw: bool,
) -> proto::ModelInferResponse {
    let version = &answered.live.version;
    let mut response = proto::ModelInferResponse {
        model_name: version.model.to_string(),
        model_version: version.number.to_string(),
        id,
        parameters: HashMap::from([(
            "manifest_revision".to_owned(),
            tensor::number(version.revision.0 as i64),
        )]),
        ..Default::default()
    };
    for &output in wanted {
        let (tensor, bytes) = encoded(output, answered, shape, raw);
        response.outputs.push(tensor);
        response.raw_output_contents.extend(bytes);
    }
    response
}

fn encoded(
    output: Output,
    answered: &Answers,
    shape: &[i64],
    raw: bool,
) -> (InferOutputTensor, Option<Vec<u8>>) {
    let live = &*answered.live;
    // Every answer has a best class, for nothing was left out.
    let best = answered.answers.iter().filter_map(|answer| answer.scores.first());
    match output {
        Output::Label => {
            let names = best.map(|score| live.name(score.class).to_string()).collect();
            tensor::encode(output, shape.to_vec(), Elements::Bytes(names), raw)
        }
        Output::Score => {
            let scores = best.map(|score| score.probability as f32).collect();
            tensor::encode(output, shape.to_vec(), Elements::Fp32(scores), raw)
        }
        Output::Probabilities => {
            let shape = vec![answered.answers.len() as i64, live.groups.classes.len() as i64];
            let rows = Elements::Fp32(probabilities(live, answered));
            let (mut tensor, bytes) = tensor::encode(output, shape, rows, raw);
            let names: Vec<&str> =
                live.groups.classes.iter().map(|class| live.name(*class).as_str()).collect();
            tensor.parameters.insert("class_names".to_owned(), tensor::string(tensor::json(&names)));
            (tensor, bytes)
        }
    }
}

/// Probabilities of all classes by ascending id, text after text.
fn probabilities(live: &Live, answered: &Answers) -> Vec<f32> {
    let classes = live.groups.classes.len();
    let mut rows = vec![0.0; answered.answers.len() * classes];
    for (answer, row) in answered.answers.iter().zip(rows.chunks_mut(classes)) {
        for score in &answer.scores {
            if let Some(column) = live.groups.column(score.class) {
                row[column as usize] = score.probability as f32;
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::service::Identity;

    fn anybody() -> Caller {
        Caller::new(Arc::new(Identity::anybody()))
    }

    #[test]
    fn a_version_is_a_number_an_alias_or_what_serves() {
        let fields = ["name", "version"];
        let canary = Selector::Alias(AliasName::new("canary").unwrap());
        for (version, selector) in
            [("", Selector::Serving), ("12", Selector::Number(VersionNumber(12))), ("canary", canary)]
        {
            assert_eq!(
                target(&anybody(), fields, "bank", version).unwrap(),
                (ModelId::new("bank").unwrap(), selector)
            );
        }
        for (name, version, field) in [
            ("models/bank", "", "name"),
            ("", "", "name"),
            ("bank", "99999999999999999999", "version"),
            ("bank", "-1", "version"),
            ("bank", "Canary", "version"),
        ] {
            let error = target(&anybody(), fields, name, version).unwrap_err();
            assert!(matches!(&error, Error::Invalid(v) if v[0].field == field), "{name} {version}: {error}");
        }
    }
}
