//! DatasetService.

use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    Services, caller,
    check::{self, Violations},
    convert, name,
    page::{self, PAGE_BYTES, Page},
    repeat::{self, Call},
    status::status,
    stream,
};
use crate::{
    dataset::{Added, Deleted, Relabelled},
    error::{Error, Result},
    proto::v1::{self, dataset_service_server::DatasetService},
    taxonomy::ClassName,
};

/// Texts in conflict that are shown at most.
const MAX_CONFLICTS: usize = 20;
/// How sure an answer that contradicts a label must be where the request does not say.
const DEFAULT_CONFIDENCE: f64 = 0.9;

#[async_trait]
impl DatasetService for Services {
    async fn add_examples(
        &self,
        request: Request<Streaming<v1::AddExamplesRequest>>,
    ) -> Result<Response<v1::AddExamplesResponse>, Status> {
        let (mut requests, caller) = caller::of(request);
        let Some(first) = stream::next(&mut requests).await? else {
            return Err(status(Error::invalid("model", "the stream held no message")));
        };
        let id = name::model(&caller, "model", &first.model).map_err(status)?;
        let model = first.model.clone();
        // The first message stands for the stream: what follows is not there yet.
        let call = self.first_or_repeat(&caller, "AddExamples", &first.request_id, &first).map_err(status)?;
        let (receipt, _under_way) = match call {
            Call::First(receipt, under_way) => (receipt, under_way),
            Call::Repeat(outcome) => {
                let added = repeat::answer(&outcome).map_err(status)?;
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
        let (request, caller) = caller::of(request);
        let response = self
            .blocking(move |services| {
                let (id, size) =
                    (name::model(&caller, "model", &request.model)?, check::page_size(request.page_size)?);
                let after = check::page_token(&request.page_token)?.unwrap_or(0);
                let meanings = services.meanings(&id)?;
                let filter = services.list_filter(&id, request.filter, &request.label)?;
                let uid = services.registry.model(&id)?.uid;
                let examples = services.dataset.list(uid, &filter, &meanings, after, size)?.into_iter();
                let examples = examples.map(|example| Ok((example.id, convert::example(example, &meanings))));
                let page = Page::new(size).fill(examples)?;
                let next = page.next().map(u64::to_string);
                Ok(v1::ListExamplesResponse {
                    examples: page.items,
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
        let (request, caller) = caller::of(request);
        let id = name::model(&caller, "model", &request.model).map_err(status)?;
        let response = self
            .blocking(move |services| {
                let uid = services.registry.model(&id)?.uid;
                let meanings = services.meanings(&id)?;
                let stats = services.dataset.stats(uid)?;
                let conflicts = services.dataset.conflicts(uid, &meanings, MAX_CONFLICTS)?;
                let after: Option<String> = check::page_token(&request.page_token)?;
                let first_conflicts: Vec<v1::Conflict> = match &after {
                    None => conflicts.shown.into_iter().map(|of| convert::conflict(of, &meanings)).collect(),
                    Some(_) => Vec::new(),
                };
                let beside: usize = first_conflicts.iter().map(page::item_bytes).sum();
                let following = stats
                    .labels
                    .into_iter()
                    .filter(|(label, _)| after.as_deref().is_none_or(|after| label.as_str() > after));
                let labels = following.map(|(label, counts)| {
                    let of = v1::LabelStats {
                        class_name: convert::class_name(&meanings, &label),
                        label: label.to_string(),
                        train: counts.train,
                        validation: counts.validation,
                    };
                    Ok((of.label.clone(), of))
                });
                let page = Page::new(usize::MAX).within(PAGE_BYTES.saturating_sub(beside)).fill(labels)?;
                let next = page.next().cloned();
                Ok(v1::GetStatsResponse {
                    total: stats.train + stats.validation,
                    train: stats.train,
                    validation: stats.validation,
                    labels: page.items,
                    conflicts: conflicts.texts,
                    first_conflicts,
                    next_page_token: next.unwrap_or_default(),
                })
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn relabel_examples(
        &self,
        request: Request<v1::RelabelExamplesRequest>,
    ) -> Result<Response<v1::RelabelExamplesResponse>, Status> {
        let (request, caller) = caller::of(request);
        let response = self
            .blocking(move |services| {
                let id = name::model(&caller, "model", &request.model)?;
                let label = ClassName::new(&request.label).map_err(|why| Error::invalid("label", why))?;
                let (request_id, validate_only) = (&request.request_id, request.validate_only);
                let of: Relabelled = services.correct(
                    &caller,
                    "RelabelExamples",
                    &request,
                    request_id,
                    validate_only,
                    || {
                        let chosen = services.chosen(&id, request.filter.clone())?;
                        services.dataset.relabel(&chosen.model, &chosen.filter, &chosen.meanings, &label)
                    },
                )?;
                Ok(v1::RelabelExamplesResponse {
                    relabelled: of.relabelled,
                    duplicates: of.duplicates,
                    unchanged: of.unchanged,
                    total: of.total,
                    class_name: convert::class_name(&services.meanings(&id)?, &label),
                })
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn delete_examples(
        &self,
        request: Request<v1::DeleteExamplesRequest>,
    ) -> Result<Response<v1::DeleteExamplesResponse>, Status> {
        let (request, caller) = caller::of(request);
        let response = self
            .blocking(move |services| {
                let id = name::model(&caller, "model", &request.model)?;
                let (request_id, validate_only) = (&request.request_id, request.validate_only);
                let of: Deleted = services.correct(
                    &caller,
                    "DeleteExamples",
                    &request,
                    request_id,
                    validate_only,
                    || {
                        let chosen = services.chosen(&id, request.filter.clone())?;
                        services.dataset.delete(&chosen.model, &chosen.filter, &chosen.meanings)
                    },
                )?;
                Ok(v1::DeleteExamplesResponse { deleted: of.deleted, total: of.total })
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn suggest_relabels(
        &self,
        request: Request<v1::SuggestRelabelsRequest>,
    ) -> Result<Response<v1::SuggestRelabelsResponse>, Status> {
        let (request, caller) = caller::of(request);
        let suggestions = self
            .blocking(move |services| {
                let id = name::model(&caller, "model", &request.model)?;
                let mut violations = Violations::default();
                let confidence = check::min_confidence(
                    &mut violations,
                    request.min_confidence.or(Some(DEFAULT_CONFIDENCE)),
                );
                violations.finish()?;
                services.jobs.suggest_relabels(&id, confidence, check::suggestions(request.limit)?)
            })
            .await?;
        Ok(Response::new(convert::relabel_suggestions(suggestions)))
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
        if violations.are_enough() {
            break;
        }
    }
    violations.finish()?;
    Ok(checked)
}

fn response(added: Added) -> v1::AddExamplesResponse {
    v1::AddExamplesResponse {
        added: added.added,
        duplicates: added.duplicates,
        total: added.total,
        conflicts: added.conflicts,
    }
}
