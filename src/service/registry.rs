//! RegistryService.

use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    Answers, Services, caller, check, convert,
    convert::ModelFacts,
    name,
    page::Page,
    repeat::{self, Call},
    status::status,
};
use crate::{
    error::{Error, Resource, Result},
    model::Preset,
    proto::v1::{self, registry_service_server::RegistryService},
    registry::{
        AliasName, Design, FileName, JobId, Model, ModelId, PretrainedVectors, Receipt, Selector, Version,
    },
    taxonomy::VersionNumber,
};

#[async_trait]
impl RegistryService for Services {
    async fn create_model(
        &self,
        request: Request<v1::CreateModelRequest>,
    ) -> Result<Response<v1::CreateModelResponse>, Status> {
        let (request, caller) = caller::of(request);
        let model = self
            .blocking(move |services| {
                let id = name::new_model(&caller, "model_id", &request.model_id)?;
                let design = design(&request)?;
                let model =
                    match services.first_or_repeat(&caller, "CreateModel", &request.request_id, &request)? {
                        Call::First(receipt, _under_way) => {
                            if let Some(vectors) = &design.word_vectors {
                                services.jobs.vectors().check(&vectors.file)?;
                            }
                            services.registry.create_model(&id, design, receipt)?
                        }
                        Call::Repeat(kept) => match kept.model(&id)? {
                            Some(model) => model,
                            None => services.registry.model(&id)?,
                        },
                    };
                services.described(model, Counted::default())
            })
            .await?;
        Ok(Response::new(v1::CreateModelResponse { model: Some(model) }))
    }

    async fn get_model(
        &self,
        request: Request<v1::GetModelRequest>,
    ) -> Result<Response<v1::GetModelResponse>, Status> {
        let (request, caller) = caller::of(request);
        let id = name::model(&caller, "name", &request.name).map_err(status)?;
        let model = self.blocking(move |services| services.model(services.registry.model(&id)?)).await?;
        Ok(Response::new(v1::GetModelResponse { model: Some(model) }))
    }

    async fn list_models(
        &self,
        request: Request<v1::ListModelsRequest>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        let (request, caller) = caller::of(request);
        let response = self
            .blocking(move |services| {
                let size = check::page_size(request.page_size)?;
                let listing = services.pages.listing(&caller, "ListModels", &request);
                let after = listing.position(&request)?;
                let sees = |id: &ModelId| caller.identity().sees(id);
                let (models, next) = services.registry.models_page(after.as_ref(), size, sees)?;
                let models = models.into_iter().map(|model| Ok((model.id.clone(), services.model(model)?)));
                let page = Page::new(size).fill(models)?;
                let next = if page.ended_by_bytes() { page.next().cloned() } else { next };
                Ok(v1::ListModelsResponse { models: page.items, next_page_token: listing.next(next)? })
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn delete_model(
        &self,
        request: Request<v1::DeleteModelRequest>,
    ) -> Result<Response<v1::DeleteModelResponse>, Status> {
        let (request, caller) = caller::of(request);
        self.blocking(move |services| {
            let id = name::model(&caller, "name", &request.name)?;
            let etag = check::etag(&request.etag)?;
            match services.first_or_repeat(&caller, "DeleteModel", &request.request_id, &request)? {
                Call::First(receipt, _under_way) => services.jobs.while_idle(&id, || {
                    let uid = services.registry.model(&id)?.uid;
                    services.registry.delete_model(&id, etag, receipt)?;
                    services.jobs.forget_features(uid);
                    services.dataset.delete_all(uid)
                }),
                Call::Repeat(_) => Ok(()),
            }
        })
        .await?;
        Ok(Response::new(v1::DeleteModelResponse {}))
    }

    async fn get_version(
        &self,
        request: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionResponse>, Status> {
        let (request, caller) = caller::of(request);
        let (id, selector) = name::version_or_alias(&caller, "name", &request.name).map_err(status)?;
        let version = self
            .blocking(move |services| {
                let number = services.registry.resolve(&id, &selector)?;
                services.registry.version(&id, number)
            })
            .await?;
        Ok(Response::new(v1::GetVersionResponse { version: Some(convert::version(version)) }))
    }

    async fn list_versions(
        &self,
        request: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<v1::ListVersionsResponse>, Status> {
        let (request, caller) = caller::of(request);
        let response = self
            .blocking(move |services| {
                let id = name::model(&caller, "model", &request.model)?;
                let size = check::page_size(request.page_size)?;
                let listing = services.pages.listing(&caller, "ListVersions", &request);
                let before = listing.position(&request)?.map(VersionNumber);
                let model = services.registry.model(&id)?;
                let versions = services.registry.versions_before(&model, before).map(|version| {
                    let version = without_curve(version?);
                    Ok((version.number, convert::version(version)))
                });
                let page = Page::new(size).fill(versions)?;
                let next_page_token = listing.next(page.next())?;
                Ok(v1::ListVersionsResponse { versions: page.items, next_page_token })
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn set_alias(
        &self,
        request: Request<v1::SetAliasRequest>,
    ) -> Result<Response<v1::SetAliasResponse>, Status> {
        let (request, caller) = caller::of(request);
        let model = self
            .blocking(move |services| {
                let id = name::model(&caller, "model", &request.model)?;
                let alias = match request.alias.as_str() {
                    "" => AliasName::serving(),
                    alias => AliasName::new(alias).map_err(|d| Error::invalid("alias", d))?,
                };
                let etag = check::etag(&request.etag)?;
                let number = VersionNumber(request.version);
                match services.first_or_repeat(&caller, "SetAlias", &request.request_id, &request)? {
                    Call::First(receipt, _under_way) => {
                        // In memory before requests find it through the alias.
                        services.predictor.resolve(&id, &Selector::Number(number))?;
                        let counted = services.counted(&services.registry.model(&id)?)?;
                        let details = repeat::encode(&counted)?;
                        let receipt = receipt.map(|receipt| Receipt { details, ..receipt });
                        let model = services.registry.set_alias(&id, alias, number, etag, receipt)?;
                        services.described(model, counted)
                    }
                    Call::Repeat(kept) => match kept.model(&id)? {
                        Some(model) => {
                            services.expect_uid(&id, kept.model_uid)?;
                            services.described(model, repeat::answer(&kept.details)?)
                        }
                        None => services.model(services.registry.model(&id)?),
                    },
                }
            })
            .await?;
        Ok(Response::new(v1::SetAliasResponse { model: Some(model) }))
    }

    async fn delete_version(
        &self,
        request: Request<v1::DeleteVersionRequest>,
    ) -> Result<Response<v1::DeleteVersionResponse>, Status> {
        let (request, caller) = caller::of(request);
        self.blocking(move |services| {
            let (id, number) = name::version(&caller, "name", &request.name)?;
            match services.first_or_repeat(&caller, "DeleteVersion", &request.request_id, &request)? {
                Call::First(receipt, _under_way) => services.jobs.while_idle(&id, || {
                    services.registry.delete_version(&id, number, request.forget_undo, receipt)?;
                    services.predictor.forget(&id, number)
                }),
                Call::Repeat(_) => Ok(()),
            }
        })
        .await?;
        Ok(Response::new(v1::DeleteVersionResponse {}))
    }

    type ExportVersionStream = Answers<v1::ExportVersionResponse>;

    async fn export_version(
        &self,
        request: Request<v1::ExportVersionRequest>,
    ) -> Result<Response<Self::ExportVersionStream>, Status> {
        let (request, caller) = caller::of(request);
        let (id, selector) = name::version_or_alias(&caller, "name", &request.name).map_err(status)?;
        let file = self
            .blocking(move |services| {
                let number = services.registry.resolve(&id, &selector)?;
                services.cancel.take_memory(services.registry.version(&id, number)?.size_bytes)?;
                services.registry.export(&id, &selector)?.encode()
            })
            .await?;
        // The tensors stay in memory until the last of them is sent.
        let held = self.cancellation();
        let chunks = file.chunks().map(move |data| {
            let _held = &held;
            Ok(v1::ExportVersionResponse { data })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn import_version(
        &self,
        request: Request<Streaming<v1::ImportVersionRequest>>,
    ) -> Result<Response<v1::ImportVersionResponse>, Status> {
        self.import(request).await
    }
}

impl Services {
    /// A model with what its record does not hold itself.
    fn model(&self, model: Model) -> Result<v1::Model> {
        let counted = self.counted(&model)?;
        self.described(model, counted)
    }

    fn counted(&self, model: &Model) -> Result<Counted> {
        let running = self.jobs.running(&model.id);
        Ok(Counted { examples: self.dataset.count(model.uid)?, running_job: running.map(|job| job.0) })
    }

    /// A model, as its record was at some time, with what was counted then.
    fn described(&self, model: Model, counted: Counted) -> Result<v1::Model> {
        let manifest = match model.serving() {
            Some(number) => {
                let version = self.registry.version_ever(&model.id, number)?;
                Some(self.registry.shared_manifest(&model.id, version.revision)?)
            }
            None => None,
        };
        let facts = ModelFacts {
            manifest_revision: manifest.as_ref().map_or(0, |manifest| manifest.revision.0),
            class_count: manifest.as_ref().map_or(0, |manifest| manifest.active().count()),
            example_count: counted.examples,
            running_job: counted.running_job.map(JobId),
        };
        Ok(convert::model(model, facts))
    }

    /// Refuses where a model is another one than a receipt was stored for: it was deleted since, and made again.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub(super) fn expect_uid(&self, id: &ModelId, uid: Option<u64>) -> Result<()> {
        let now = self.registry.model(id)?.uid;
        if uid.is_none_or(|uid| uid == now) {
            return Ok(());
        }
        Err(Error::not_found(Resource::Model, format!("{} of the first call, which was deleted", id.name())))
    }
}

/// What of a model is not in its record and changes without it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Counted {
    examples: u64,
    running_job: Option<u64>,
}

/// Curves of many versions would make pages of few.
fn without_curve(mut version: Version) -> Version {
    version.report.iter_mut().for_each(|report| {
        report.curve.clear();
        report.rejection.clear();
    });
    version
}

pub(super) fn design(request: &v1::CreateModelRequest) -> Result<Design> {
    let vectors = request.word_vectors.as_ref().map(|vectors| {
        let file =
            FileName::new(&vectors.file).map_err(|fault| Error::invalid("word_vectors.file", fault))?;
        Ok::<_, Error>(PretrainedVectors { file, frozen: vectors.frozen })
    });
    Ok(Design { preset: preset(request.preset)?, word_vectors: vectors.transpose()? })
}

fn preset(preset: i32) -> Result<Preset> {
    match v1::Preset::try_from(preset) {
        Ok(v1::Preset::Unspecified | v1::Preset::Default) => Ok(Preset::Default),
        Ok(v1::Preset::Seed) => Ok(Preset::Seed),
        Err(_) => Err(Error::invalid("preset", format!("is not a preset, got {preset}"))),
    }
}
