//! DatasetService.

use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    Services,
    check::{self, Violations},
    convert, name,
    repeat::{self, Call},
    status::status,
    stream,
};
use crate::{
    dataset::Added,
    error::{Error, Result},
    proto::v1::{self, dataset_service_server::DatasetService},
    registry::ModelId,
    taxonomy::{ClassId, ClassName, Manifest, Meaning},
};

/// Wrong examples that an error names at most.
const MAX_NAMED: usize = 20;

#[async_trait]
impl DatasetService for Services {
    async fn add_examples(
        &self,
        request: Request<Streaming<v1::AddExamplesRequest>>,
    ) -> Result<Response<v1::AddExamplesResponse>, Status> {
        let mut requests = request.into_inner();
        let Some(first) = stream::next(&mut requests).await? else {
            return Err(status(Error::invalid("model", "the stream held no message")));
        };
        let id = name::model("model", &first.model).map_err(status)?;
        let model = first.model.clone();
        // The first message stands for the stream: what follows is not there yet.
        let call = repeat::check(&self.registry, "AddExamples", &first.request_id, &first).map_err(status)?;
        let receipt = match call {
            Call::First(receipt) => receipt,
            Call::Repeat(outcome) => {
                let added = first_answer(&outcome).map_err(status)?;
                return Ok(Response::new(response(added)));
            }
        };
        let mut session =
            self.blocking(move |services| services.dataset.add(&services.registry.model(&id)?)).await?;
        let mut seen = 0;
        let mut next = Some(first);
        while let Some(request) = next {
            if !request.model.is_empty() && request.model != model {
                let description = format!("must not change within a stream, got '{}'", request.model);
                return Err(status(Error::invalid("model", description)));
            }
            let examples = checked(request.examples, seen).map_err(status)?;
            seen += examples.len();
            session = self
                .blocking(move |_| {
                    session.push(examples)?;
                    Ok(session)
                })
                .await?;
            next = stream::next(&mut requests).await?;
        }
        let added = self.blocking(move |_| session.commit(receipt)).await?;
        Ok(Response::new(response(added)))
    }

    async fn list_examples(
        &self,
        request: Request<v1::ListExamplesRequest>,
    ) -> Result<Response<v1::ListExamplesResponse>, Status> {
        let request = request.into_inner();
        let response = self
            .blocking(move |services| {
                let id = name::model("model", &request.model)?;
                let label = match request.label.as_str() {
                    "" => None,
                    label => Some(ClassName::new(label).map_err(|d| Error::invalid("label", d))?),
                };
                let size = check::page_size(request.page_size)?;
                let after = check::page_token(&request.page_token)?.unwrap_or(0);
                let uid = services.registry.model(&id)?.uid;
                let page = services.dataset.list(uid, label.as_ref(), after, size)?;
                let next = page.last().filter(|_| page.len() == size).map(|example| example.id.to_string());
                let meanings = services.meanings(&id)?;
                let examples = page.into_iter().map(|example| v1::Example {
                    id: example.id,
                    class_name: meanings.of(&example.label, &example.assigned),
                    text: example.text,
                    label: example.label.to_string(),
                    split: convert::split(example.split).into(),
                    create_time: convert::timestamp(example.created),
                });
                Ok(v1::ListExamplesResponse {
                    examples: examples.collect(),
                    next_page_token: next.unwrap_or_default(),
                })
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn get_stats(
        &self,
        request: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::GetStatsResponse>, Status> {
        let id = name::model("model", &request.into_inner().model).map_err(status)?;
        let response = self
            .blocking(move |services| {
                let uid = services.registry.model(&id)?.uid;
                let meanings = services.meanings(&id)?;
                let stats = services.dataset.stats(uid)?;
                let labels = stats.labels.into_iter().map(|(label, counts)| v1::LabelStats {
                    class_name: meanings.of(&label, &[]),
                    label: label.to_string(),
                    train: counts.train,
                    validation: counts.validation,
                });
                Ok(v1::GetStatsResponse {
                    total: stats.train + stats.validation,
                    train: stats.train,
                    validation: stats.validation,
                    labels: labels.collect(),
                })
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn relabel_examples(
        &self,
        _request: Request<v1::RelabelExamplesRequest>,
    ) -> Result<Response<v1::RelabelExamplesResponse>, Status> {
        Err(status(Error::Unimplemented("RelabelExamples")))
    }

    async fn delete_examples(
        &self,
        _request: Request<v1::DeleteExamplesRequest>,
    ) -> Result<Response<v1::DeleteExamplesResponse>, Status> {
        Err(status(Error::Unimplemented("DeleteExamples")))
    }
}

/// What labels mean in the manifest that is served, if there is one.
struct Meanings(Option<Manifest>);

impl Meanings {
    fn of(&self, label: &ClassName, assigned: &[ClassId]) -> String {
        let Some(manifest) = &self.0 else { return String::new() };
        match manifest.meaning_of(label, assigned) {
            Meaning::Class(id) => manifest.classes[&id].name.to_string(),
            Meaning::Ambiguous(_) | Meaning::Removed | Meaning::Unknown => String::new(),
        }
    }
}

impl Services {
    fn meanings(&self, id: &ModelId) -> Result<Meanings> {
        let Some(number) = self.registry.model(id)?.serving() else { return Ok(Meanings(None)) };
        let revision = self.registry.version(id, number)?.revision;
        Ok(Meanings(Some(self.registry.manifest(id, revision)?)))
    }
}

/// Checks labelled texts; `seen` counts those of the stream before.
pub(super) fn checked(examples: Vec<v1::LabelledText>, seen: usize) -> Result<Vec<(String, ClassName)>> {
    let mut violations = Violations::default();
    let mut checked = Vec::with_capacity(examples.len());
    for (index, example) in examples.into_iter().enumerate() {
        let at = seen + index;
        violations.text(|| format!("examples[{at}].text"), &example.text);
        if let Some(label) = violations.label(|| format!("examples[{at}].label"), &example.label) {
            checked.push((example.text, label));
        }
        if violations.len() >= MAX_NAMED {
            break;
        }
    }
    violations.finish()?;
    Ok(checked)
}

/// What the first call with a request id answered.
fn first_answer(outcome: &str) -> Result<Added> {
    serde_json::from_str(outcome)
        .map_err(|_| Error::invalid("request_id", "was used for another request within 24 hours"))
}

fn response(added: Added) -> v1::AddExamplesResponse {
    v1::AddExamplesResponse { added: added.added, duplicates: added.duplicates, total: added.total }
}
