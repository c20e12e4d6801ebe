//! TaxonomyService.

use std::time::Instant;

use tonic::{Request, Response, Status, async_trait};

use super::{
    Answers, Services,
    check::{self, Violations},
    convert, name,
    repeat::{self, Call},
    status::status,
    stream,
};
use crate::{
    error::{Error, Result},
    proto::v1::{self, merge_classes_response, taxonomy_service_server::TaxonomyService},
    registry::{Selector, Version},
    taxonomy::Revision,
    train::MergeOrder,
};

#[async_trait]
impl TaxonomyService for Services {
    type MergeClassesStream = Answers<v1::MergeClassesResponse>;

    async fn merge_classes(
        &self,
        request: Request<v1::MergeClassesRequest>,
    ) -> Result<Response<Self::MergeClassesStream>, Status> {
        use merge_classes_response::Result as Kind;
        let started = Instant::now();
        let request = request.into_inner();
        let detach = request.detach;
        let (first, watch) = self
            .blocking(move |services| {
                let (order, learn) = merge_order(&request)?;
                if request.validate_only {
                    return Ok((services.preview(&order)?, None));
                }
                let (version, job) =
                    match repeat::check(&services.registry, "MergeClasses", &request.request_id, &request)? {
                        Call::First(receipt) => {
                            let applied = services.jobs.merge(&order, learn, receipt)?;
                            (applied.version, applied.job.map(|job| job.id))
                        }
                        Call::Repeat(outcome) => {
                            let version = services.version_of_outcome(&outcome)?;
                            let job = version.job;
                            (version, job)
                        }
                    };
                let watch = match job {
                    Some(job) => Some((job, version.model.clone(), services.jobs.watch(job)?)),
                    None => None,
                };
                let applied = v1::ChangeApplied {
                    job: job.map(|job| job.name()).unwrap_or_default(),
                    seconds: started.elapsed().as_secs_f64(),
                    ..services.applied(version)?
                };
                Ok((Kind::Applied(applied), watch))
            })
            .await?;
        let first = v1::MergeClassesResponse { result: Some(first) };
        let wrap = |event| v1::MergeClassesResponse { result: Some(Kind::Event(event)) };
        Ok(Response::new(stream::job_events(Some(first), watch, detach, wrap)))
    }

    async fn undo_change(
        &self,
        request: Request<v1::UndoChangeRequest>,
    ) -> Result<Response<v1::UndoChangeResponse>, Status> {
        let request = request.into_inner();
        let applied = self
            .blocking(move |services| {
                let model = name::model("model", &request.model)?;
                let mut violations = Violations::default();
                check::reason(&mut violations, &request.reason);
                violations.finish()?;
                let version =
                    match repeat::check(&services.registry, "UndoChange", &request.request_id, &request)? {
                        Call::First(receipt) => {
                            let reason = request.reason.clone();
                            services.jobs.undo(&model, reason, request.expected_revision, receipt)?.version
                        }
                        Call::Repeat(outcome) => services.version_of_outcome(&outcome)?,
                    };
                services.applied(version)
            })
            .await?;
        Ok(Response::new(v1::UndoChangeResponse { manifest: applied.manifest, version: applied.version }))
    }

    async fn get_manifest(
        &self,
        request: Request<v1::GetManifestRequest>,
    ) -> Result<Response<v1::GetManifestResponse>, Status> {
        let (id, revision) = name::manifest("name", &request.into_inner().name).map_err(status)?;
        let manifest = self
            .blocking(move |services| {
                let registry = &services.registry;
                let revision = match revision {
                    Some(revision) => revision,
                    None => registry.version(&id, registry.resolve(&id, &Selector::Serving)?)?.revision,
                };
                Ok(convert::manifest(&id, &registry.manifest(&id, revision)?))
            })
            .await?;
        Ok(Response::new(v1::GetManifestResponse { manifest: Some(manifest) }))
    }

    async fn list_manifests(
        &self,
        request: Request<v1::ListManifestsRequest>,
    ) -> Result<Response<v1::ListManifestsResponse>, Status> {
        let request = request.into_inner();
        let response = self
            .blocking(move |services| {
                let id = name::model("model", &request.model)?;
                let size = check::page_size(request.page_size)?;
                let before = check::page_token(&request.page_token)?.map(Revision);
                let page = services.registry.manifests(&id, before, size)?;
                let next = page.last().filter(|_| page.len() == size).map(|m| m.revision.to_string());
                Ok(v1::ListManifestsResponse {
                    manifests: page.iter().map(|manifest| convert::manifest(&id, manifest)).collect(),
                    next_page_token: next.unwrap_or_default(),
                })
            })
            .await?;
        Ok(Response::new(response))
    }

    type SplitClassStream = Answers<v1::SplitClassResponse>;

    async fn split_class(
        &self,
        _request: Request<v1::SplitClassRequest>,
    ) -> Result<Response<Self::SplitClassStream>, Status> {
        Err(status(Error::Unimplemented("SplitClass")))
    }

    type AddClassesStream = Answers<v1::AddClassesResponse>;

    async fn add_classes(
        &self,
        _request: Request<v1::AddClassesRequest>,
    ) -> Result<Response<Self::AddClassesStream>, Status> {
        Err(status(Error::Unimplemented("AddClasses")))
    }

    type RemoveClassesStream = Answers<v1::RemoveClassesResponse>;

    async fn remove_classes(
        &self,
        _request: Request<v1::RemoveClassesRequest>,
    ) -> Result<Response<Self::RemoveClassesStream>, Status> {
        Err(status(Error::Unimplemented("RemoveClasses")))
    }

    async fn rename_class(
        &self,
        _request: Request<v1::RenameClassRequest>,
    ) -> Result<Response<v1::RenameClassResponse>, Status> {
        Err(status(Error::Unimplemented("RenameClass")))
    }

    async fn move_class(
        &self,
        _request: Request<v1::MoveClassRequest>,
    ) -> Result<Response<v1::MoveClassResponse>, Status> {
        Err(status(Error::Unimplemented("MoveClass")))
    }

    async fn suggest_merges(
        &self,
        _request: Request<v1::SuggestMergesRequest>,
    ) -> Result<Response<v1::SuggestMergesResponse>, Status> {
        Err(status(Error::Unimplemented("SuggestMerges")))
    }
}

impl Services {
    fn preview(&self, order: &MergeOrder) -> Result<merge_classes_response::Result> {
        let preview = self.jobs.preview_merge(order)?;
        Ok(merge_classes_response::Result::Preview(v1::ChangePreview {
            manifest: Some(convert::manifest(&order.model, &preview.manifest)),
            validation_accuracy_before: preview.accuracy.map(|(before, _)| before),
            validation_accuracy_after: preview.accuracy.map(|(_, after)| after),
            validation_examples: preview.validation_examples,
        }))
    }

    /// The version that the first call with a request id made.
    fn version_of_outcome(&self, outcome: &str) -> Result<Version> {
        let (id, selector) = name::version_or_alias("request_id", outcome)?;
        self.registry.version(&id, self.registry.resolve(&id, &selector)?)
    }

    fn applied(&self, version: Version) -> Result<v1::ChangeApplied> {
        let manifest = self.registry.manifest(&version.model, version.revision)?;
        Ok(v1::ChangeApplied {
            manifest: Some(convert::manifest(&version.model, &manifest)),
            version: Some(convert::version(version)),
            job: String::new(),
            seconds: 0.0,
        })
    }
}

/// The merge that a request asks for, and whether learning follows.
fn merge_order(request: &v1::MergeClassesRequest) -> Result<(MergeOrder, bool)> {
    let model = name::model("model", &request.model)?;
    let mut violations = Violations::default();
    check::reason(&mut violations, &request.reason);
    let learn = match v1::Learn::try_from(request.learn) {
        Ok(v1::Learn::Unspecified | v1::Learn::Auto) => true,
        Ok(v1::Learn::None) => false,
        Err(_) => {
            violations.add("learn", format!("is not a way to learn, got {}", request.learn));
            false
        }
    };
    violations.finish()?;
    let order = MergeOrder {
        model,
        classes: request.classes.clone(),
        into: request.into.clone(),
        reason: request.reason.clone(),
        expected_revision: request.expected_revision,
    };
    Ok((order, learn))
}
