//! DatasetService.

use serde::{Deserialize, Serialize};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    Services, caller,
    check::{self, Violations},
    convert, name,
    page::{self, PAGE_BYTES, Page},
    repeat::{self, Call},
    status::status,
    stream::{Complete, Received, Uploads},
};
use crate::{
    dataset::{AddSession, Added, Deleted, Relabelled},
    error::{Error, Result},
    proto::v1::{self, dataset_service_server::DatasetService},
    registry::Receipt,
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
        let (mut uploads, caller) = Uploads::of(request);
        let first = uploads.first().await?;
        let id = name::model(&caller, "model", &first.model).map_err(status)?;
        let model = first.model.clone();
        // The first message stands for the stream: what follows is not there yet.
        let call = self.first_or_repeat(&caller, "AddExamples", &first.request_id, &first).map_err(status)?;
        let (receipt, under_way) = match call {
            Call::First(receipt, under_way) => (receipt, under_way),
            Call::Repeat(kept) => {
                let added = repeat::answer(&kept.outcome).map_err(status)?;
                return Ok(Response::new(response(added)));
            }
        };
        let begun =
            self.blocking(move |services| services.dataset.add(&services.registry.model(&id)?)).await?;
        let mut session = Uncommitted::new(begun);
        let mut seen = 0;
        let mut request = first;
        let complete = loop {
            if !request.model.is_empty() && request.model != model {
                let description = format!("must not change within a stream, got '{}'", request.model);
                return Err(status(Error::invalid("model", description)));
            }
            let examples = checked(request.examples, seen).map_err(status)?;
            seen += examples.len();
            let mut pushing = session.into_inner();
            let pushed = self.blocking(move |_| {
                pushing.push(examples)?;
                Ok(pushing)
            });
            session = Uncommitted::new(pushed.await?);
            match uploads.next().await? {
                Received::Message(next) => request = next,
                Received::End(complete) => break complete,
            }
        };
        let session = session.into_inner();
        let added = self
            .blocking(move |_| {
                // A repeat must not begin before this has ended, be its own client there or not.
                let _under_way = under_way;
                commit(session, receipt, complete)
            })
            .await?;
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
                let listing = services.pages.listing(&caller, "ListExamples", &request);
                let after = listing.position(&request)?.unwrap_or(0);
                let meanings = services.meanings(&id)?;
                let filter = services.list_filter(&id, request.filter, &request.label)?;
                let uid = services.registry.model(&id)?.uid;
                let examples = services.dataset.list(uid, &filter, &meanings, after, size)?.into_iter();
                let examples = examples.map(|example| Ok((example.id, convert::example(example, &meanings))));
                let page = Page::new(size).fill(examples)?;
                let next_page_token = listing.next(page.next())?;
                Ok(v1::ListExamplesResponse { examples: page.items, next_page_token })
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
                let stats = services.dataset.stats(uid, &meanings)?;
                let conflicts = services.dataset.conflicts(uid, &meanings, MAX_CONFLICTS)?;
                let listing = services.pages.listing(&caller, "GetStats", &request);
                let after: Option<String> = listing.position(&request)?;
                let first_conflicts: Vec<v1::Conflict> = match &after {
                    None => conflicts.shown.into_iter().map(|of| convert::conflict(of, &meanings)).collect(),
                    Some(_) => Vec::new(),
                };
                let small_classes: Vec<String> = match &after {
                    None => stats.small_classes.iter().map(ToString::to_string).collect(),
                    Some(_) => Vec::new(),
                };
                let (small_classes, _) =
                    page::fitting(small_classes, PAGE_BYTES / 2, false, |name: &String| name.len() + 4);
                let named: usize = small_classes.iter().map(|name| name.len() + 4).sum();
                let beside = first_conflicts.iter().map(page::item_bytes).sum::<usize>() + named;
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
                let next_page_token = listing.next(page.next())?;
                Ok(v1::GetStatsResponse {
                    total: stats.train + stats.validation,
                    train: stats.train,
                    validation: stats.validation,
                    labels: page.items,
                    small_classes,
                    conflicts: conflicts.texts,
                    first_conflicts,
                    next_page_token,
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
                let RelabelAnswer { of, class_name } = services.correct(
                    &caller,
                    "RelabelExamples",
                    &request,
                    request_id,
                    validate_only,
                    || {
                        let chosen = services.chosen(&id, request.filter.clone())?;
                        let class_name = Some(convert::class_name(&chosen.meanings, &label));
                        let correction = services.dataset.relabel(
                            &chosen.model,
                            &chosen.filter,
                            &chosen.meanings,
                            &label,
                        )?;
                        Ok((RelabelAnswer { of: correction.outcome, class_name }, correction))
                    },
                )?;
                let class_name = match class_name {
                    Some(name) => name,
                    None => convert::class_name(&services.meanings(&id)?, &label),
                };
                Ok(v1::RelabelExamplesResponse {
                    relabelled: of.relabelled,
                    duplicates: of.duplicates,
                    unchanged: of.unchanged,
                    total: of.total,
                    class_name,
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
                        let correction =
                            services.dataset.delete(&chosen.model, &chosen.filter, &chosen.meanings)?;
                        Ok((correction.outcome, correction))
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
                let limit = check::suggestions(request.limit)?;
                services.jobs.suggest_relabels(&id, confidence, limit, &services.cancel)
            })
            .await?;
        Ok(Response::new(convert::relabel_suggestions(suggestions)))
    }
}

/// What the receipt of RelabelExamples keeps.
#[derive(Debug, Serialize, Deserialize)]
struct RelabelAnswer {
    #[serde(flatten)]
    of: Relabelled,
    /// The class that the label meant; none in receipts of earlier builds.
    class_name: Option<String>,
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

/// Stores an upload that came to its end.
fn commit(session: AddSession, receipt: Option<Receipt>, _all_came: Complete) -> Result<Added> {
    session.commit(receipt)
}

/// A session that may be dropped while its stream is read: when the client leaves, or sends what is refused.
/// To remove what it wrote takes a while, which holds up none of the other calls.
struct Uncommitted(Option<AddSession>);

impl Uncommitted {
    fn new(session: AddSession) -> Self {
        Self(Some(session))
    }

    fn into_inner(mut self) -> AddSession {
        self.0.take().expect("it is there until it is taken out, which ends the owner")
    }
}

impl Drop for Uncommitted {
    fn drop(&mut self) {
        let Some(session) = self.0.take() else { return };
        // A runtime of one thread has no others to take over its calls.
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => block_in_place(|| drop(session)),
            _ => drop(session),
        }
    }
}

fn response(added: Added) -> v1::AddExamplesResponse {
    v1::AddExamplesResponse {
        added: added.added,
        duplicates: added.duplicates,
        total: added.total,
        conflicts: added.conflicts,
    }
}
