//! TaxonomyService.

use std::{fmt, str::FromStr};

use tonic::{Request, Response, Status, async_trait};

use super::{
    Answers, Services, author,
    background::Priority,
    caller,
    change::{First, Lesson, Terms, answer, lesson, terms},
    check::{self, Violations},
    convert, edit, name,
    page::Page,
    repeat::Call,
    status::status,
    stream,
};
use crate::{
    error::Result,
    proto::v1::{
        self, add_classes_response, apply_changes_response, merge_classes_response, remove_classes_response,
        split_class_response, taxonomy_service_server::TaxonomyService,
    },
    registry::Selector,
    taxonomy::{ClassId, Edit, Revision},
    train::{Edits, UndoOrder},
};

/// Where a page of the classes of a manifest begins: behind a class, in the revision of the page before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ClassesAfter {
    revision: Revision,
    class: ClassId,
}

impl fmt::Display for ClassesAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.revision, self.class)
    }
}

impl FromStr for ClassesAfter {
    type Err = ();

    fn from_str(token: &str) -> Result<Self, ()> {
        let (revision, class) = token.split_once('.').ok_or(())?;
        let revision = revision.parse().map(Revision).map_err(|_| ())?;
        Ok(Self { revision, class: class.parse().map(ClassId).map_err(|_| ())? })
    }
}

#[async_trait]
impl TaxonomyService for Services {
    type MergeClassesStream = Answers<v1::MergeClassesResponse>;

    async fn merge_classes(
        &self,
        request: Request<v1::MergeClassesRequest>,
    ) -> Result<Response<Self::MergeClassesStream>, Status> {
        use merge_classes_response::Result as Kind;
        let (request, caller, author) = author::of(request).map_err(status)?;
        let detach = request.detach;
        let (first, followed) = self
            .blocking_at(Priority::of_change(request.validate_only), move |services| {
                let edit = Edit::Merge { classes: request.classes.clone(), into: request.into.clone() };
                let (terms, edits) = (terms!(request, caller, author), Edits::One(edit));
                services.change_and_learn("MergeClasses", &request, terms, edits, lesson!(request))
            })
            .await?;
        answer!(MergeClassesResponse, Kind, first, followed, detach)
    }

    async fn undo_change(
        &self,
        request: Request<v1::UndoChangeRequest>,
    ) -> Result<Response<v1::UndoChangeResponse>, Status> {
        let (request, caller, author) = author::of(request).map_err(status)?;
        let applied = self
            .blocking(move |services| {
                let model = name::model(&caller, "model", &request.model)?;
                let mut violations = Violations::default();
                check::reason(&mut violations, &request.reason);
                violations.finish()?;
                let version =
                    match services.first_or_repeat(&caller, "UndoChange", &request.request_id, &request)? {
                        Call::First(receipt, _under_way) => {
                            let (reason, expected_revision) =
                                (request.reason.clone(), request.expected_revision);
                            let order = UndoOrder { model, reason, author, expected_revision };
                            services.jobs.undo(&order, receipt)?.version
                        }
                        Call::Repeat(kept) => services.version_of(&caller, &kept)?,
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
        let (request, caller) = caller::of(request);
        let (id, revision) = name::manifest(&caller, "name", &request.name).map_err(status)?;
        let response = self
            .blocking(move |services| {
                let registry = &services.registry;
                let listing = services.pages.listing(&caller, "GetManifest", &request);
                let after: Option<ClassesAfter> = listing.position(&request)?;
                let revision = match after.as_ref().map(|after| after.revision).or(revision) {
                    Some(revision) => revision,
                    None => registry.version(&id, registry.resolve(&id, &Selector::Serving)?)?.revision,
                };
                let manifest = registry.shared_manifest(&id, revision)?;
                let class = after.map(|after| after.class);
                let (page, next) = convert::manifest_page(&id, &manifest, class)?;
                let next = next.map(|class| ClassesAfter { revision, class });
                Ok(v1::GetManifestResponse { manifest: Some(page), next_page_token: listing.next(next)? })
            })
            .await?;
        Ok(Response::new(response))
    }

    async fn list_manifests(
        &self,
        request: Request<v1::ListManifestsRequest>,
    ) -> Result<Response<v1::ListManifestsResponse>, Status> {
        let (request, caller) = caller::of(request);
        let response = self
            .blocking(move |services| {
                let id = name::model(&caller, "model", &request.model)?;
                let size = check::page_size(request.page_size)?;
                let listing = services.pages.listing(&caller, "ListManifests", &request);
                let before = listing.position(&request)?.map(Revision);
                let model = services.registry.model(&id)?;
                let manifests = services.registry.manifests_before(&model, before).map(|manifest| {
                    manifest.map(|manifest| (manifest.revision, convert::manifest(&id, &manifest)))
                });
                let page = Page::new(size).fill(manifests)?;
                let next_page_token = listing.next(page.next())?;
                Ok(v1::ListManifestsResponse { manifests: page.items, next_page_token })
            })
            .await?;
        Ok(Response::new(response))
    }

    type SplitClassStream = Answers<v1::SplitClassResponse>;

    async fn split_class(
        &self,
        request: Request<v1::SplitClassRequest>,
    ) -> Result<Response<Self::SplitClassStream>, Status> {
        use split_class_response::Result as Kind;
        let (request, caller, author) = author::of(request).map_err(status)?;
        let detach = request.detach;
        let (first, followed) = self
            .blocking_at(Priority::of_change(request.validate_only), move |services| {
                let edit = edit::split(request.class_name.clone(), request.parts.clone());
                let (terms, edits) = (terms!(request, caller, author), Edits::One(edit));
                services.change_and_learn("SplitClass", &request, terms, edits, lesson!(request))
            })
            .await?;
        answer!(SplitClassResponse, Kind, first, followed, detach)
    }

    type ApplyChangesStream = Answers<v1::ApplyChangesResponse>;

    async fn apply_changes(
        &self,
        request: Request<v1::ApplyChangesRequest>,
    ) -> Result<Response<Self::ApplyChangesStream>, Status> {
        use apply_changes_response::Result as Kind;
        let (request, caller, author) = author::of(request).map_err(status)?;
        let detach = request.detach;
        let (first, followed) = self
            .blocking_at(Priority::of_change(request.validate_only), move |services| {
                // Before the changes are read: whose model it is comes first.
                name::model(&caller, "model", &request.model)?;
                let edits = Edits::Several(edit::list(&request.changes)?);
                services.change_and_learn(
                    "ApplyChanges",
                    &request,
                    terms!(request, caller, author),
                    edits,
                    lesson!(request),
                )
            })
            .await?;
        answer!(ApplyChangesResponse, Kind, first, followed, detach)
    }

    type AddClassesStream = Answers<v1::AddClassesResponse>;

    async fn add_classes(
        &self,
        request: Request<v1::AddClassesRequest>,
    ) -> Result<Response<Self::AddClassesStream>, Status> {
        use add_classes_response::Result as Kind;
        let (request, caller, author) = author::of(request).map_err(status)?;
        let detach = request.detach;
        let (first, followed) = self
            .blocking_at(Priority::of_change(request.validate_only), move |services| {
                let edit = Edit::Add { names: request.names.clone() };
                let (terms, edits) = (terms!(request, caller, author), Edits::One(edit));
                services.change_and_learn("AddClasses", &request, terms, edits, lesson!(request))
            })
            .await?;
        answer!(AddClassesResponse, Kind, first, followed, detach)
    }

    type RemoveClassesStream = Answers<v1::RemoveClassesResponse>;

    async fn remove_classes(
        &self,
        request: Request<v1::RemoveClassesRequest>,
    ) -> Result<Response<Self::RemoveClassesStream>, Status> {
        use remove_classes_response::Result as Kind;
        let (request, caller, author) = author::of(request).map_err(status)?;
        let detach = request.detach;
        let (first, followed) = self
            .blocking_at(Priority::of_change(request.validate_only), move |services| {
                let edit = Edit::Remove { classes: request.classes.clone() };
                let (terms, edits) = (terms!(request, caller, author), Edits::One(edit));
                services.change_and_learn("RemoveClasses", &request, terms, edits, lesson!(request))
            })
            .await?;
        answer!(RemoveClassesResponse, Kind, first, followed, detach)
    }

    async fn rename_class(
        &self,
        request: Request<v1::RenameClassRequest>,
    ) -> Result<Response<v1::RenameClassResponse>, Status> {
        let (request, caller, author) = author::of(request).map_err(status)?;
        let v1::ChangeApplied { manifest, version, job, .. } = self
            .blocking(move |services| {
                let (class, new_name) = (request.class_name.clone(), request.new_name.clone());
                let edit = Edit::Rename { class, new_name };
                services.change_names("RenameClass", &request, terms!(request, caller, author), edit)
            })
            .await?;
        Ok(Response::new(v1::RenameClassResponse { manifest, version, job }))
    }

    async fn move_class(
        &self,
        request: Request<v1::MoveClassRequest>,
    ) -> Result<Response<v1::MoveClassResponse>, Status> {
        let (request, caller, author) = author::of(request).map_err(status)?;
        let v1::ChangeApplied { manifest, version, job, .. } = self
            .blocking(move |services| {
                let (class, parent) = (request.class_name.clone(), request.parent.clone());
                let edit = edit::place(class, parent, request.create_parent);
                services.change_names("MoveClass", &request, terms!(request, caller, author), edit)
            })
            .await?;
        Ok(Response::new(v1::MoveClassResponse { manifest, version, job }))
    }

    async fn get_history(
        &self,
        request: Request<v1::GetHistoryRequest>,
    ) -> Result<Response<v1::GetHistoryResponse>, Status> {
        let (request, caller) = caller::of(request);
        Ok(Response::new(self.blocking(move |services| services.history(&caller, &request)).await?))
    }

    async fn suggest_merges(
        &self,
        request: Request<v1::SuggestMergesRequest>,
    ) -> Result<Response<v1::SuggestMergesResponse>, Status> {
        let (request, caller) = caller::of(request);
        let suggestions = self
            .blocking(move |services| {
                let id = name::model(&caller, "model", &request.model)?;
                services.jobs.suggest_merges(&id, check::suggestions(request.limit)?, &services.cancel)
            })
            .await?;
        Ok(Response::new(convert::suggestions(&suggestions)))
    }

    async fn suggest_splits(
        &self,
        request: Request<v1::SuggestSplitsRequest>,
    ) -> Result<Response<v1::SuggestSplitsResponse>, Status> {
        let (request, caller) = caller::of(request);
        let suggestions = self
            .blocking(move |services| {
                let id = name::model(&caller, "model", &request.model)?;
                services.jobs.suggest_splits(&id, check::suggestions(request.limit)?, &services.cancel)
            })
            .await?;
        Ok(Response::new(convert::split_suggestions(suggestions)))
    }
}
