//! What was changed, by whom, and what it did to the accuracy.

use super::{
    Services,
    caller::Caller,
    check, convert, name,
    page::{self, PAGE_BYTES, Page},
};
use crate::{
    error::Result,
    proto::v1,
    registry::{Model, Version},
    taxonomy::{Manifest, Revision, VersionNumber},
};

/// Bytes of the versions of an entry at most.
const VERSION_BYTES: usize = PAGE_BYTES / 2;

impl Services {
    /// A page of the history of a model.
    pub(super) fn history(
        &self,
        caller: &Caller,
        request: &v1::GetHistoryRequest,
    ) -> Result<v1::GetHistoryResponse> {
        let id = name::model(caller, "model", &request.model)?;
        let size = check::page_size(request.page_size)?;
        let listing = self.pages.listing(caller, "GetHistory", request);
        let before = listing.position(request)?.map(Revision);
        let model = self.registry.model(&id)?;
        let entries = self.registry.manifests_before(&model, before).map(|manifest| {
            let manifest = manifest?;
            let versions = self.registry.versions_in(&model, manifest.revision)?;
            Ok((manifest.revision, entry(&model, &manifest, &versions)))
        });
        let page = Page::new(size).fill(entries)?;
        let next_page_token = listing.next(page.next())?;
        Ok(v1::GetHistoryResponse { entries: page.items, next_page_token })
    }
}

/// The entry of a revision, of the versions that answer in it, oldest first.
fn entry(model: &Model, manifest: &Manifest, versions: &[Version]) -> v1::HistoryEntry {
    let version = |version: &Version| {
        let report = version.report.as_ref();
        v1::HistoryVersion {
            name: version.name(),
            number: version.number.0,
            origin: convert::origin(version.origin).into(),
            create_time: convert::timestamp(version.created),
            serving: model.serving() == Some(version.number),
            validation_accuracy: match report {
                Some(report) => report.validation_accuracy,
                None => measured_later(version.number, versions),
            },
            replaced_validation_accuracy: report.and_then(|report| report.replaced_validation_accuracy),
            gate: report.map(|report| report.gate.clone()).unwrap_or_default(),
        }
    };
    // The newest stay where not all fit.
    let newest_first = versions.iter().rev().map(version).collect();
    let (mut shown, omitted) = page::fitting(newest_first, VERSION_BYTES, false, page::item_bytes);
    shown.reverse();
    v1::HistoryEntry {
        revision: manifest.revision.0,
        manifest: model.id.manifest_name(manifest.revision),
        parent_revision: manifest.parent.map_or(0, |parent| parent.0),
        create_time: convert::timestamp(manifest.created),
        author: manifest.author.clone(),
        change: convert::change(&manifest.change).into(),
        description: manifest.describe(),
        reason: manifest.reason.clone(),
        class_count: manifest.active().count() as u32,
        versions: shown,
        omitted_versions: omitted as u32,
    }
}

/// The accuracy of a version as the first training found it that set out from it. One in another revision measured it by
/// other classes, which says nothing here.
fn measured_later(number: VersionNumber, versions: &[Version]) -> Option<f64> {
    let learnt = versions.iter().filter(|version| version.parent == Some(number));
    learnt
        .filter_map(|version| version.report.as_ref())
        .find_map(|report| report.replaced_validation_accuracy)
}
