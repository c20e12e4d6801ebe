//! What was changed, by whom, and what it did to the accuracy.

use std::collections::BTreeMap;

use super::{Services, caller::Caller, check, convert, name};
use crate::{
    error::Result,
    proto::v1,
    registry::{Model, Version},
    taxonomy::{Manifest, Revision, VersionNumber},
};

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
        let page = self.registry.manifests(&id, before, size)?;
        // Which versions answer in a revision is in their records alone.
        let mut versions: BTreeMap<Revision, Vec<Version>> = BTreeMap::new();
        for version in self.registry.versions(&id, None, usize::MAX)?.into_iter().rev() {
            versions.entry(version.revision).or_default().push(version);
        }
        let next = page.last().filter(|_| page.len() == size).map(|manifest| manifest.revision);
        let entry = |manifest: &Manifest| {
            entry(&model, manifest, versions.get(&manifest.revision).map_or(&[][..], Vec::as_slice))
        };
        Ok(v1::GetHistoryResponse {
            entries: page.iter().map(entry).collect(),
            next_page_token: listing.next(next)?,
        })
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
        versions: versions.iter().map(version).collect(),
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
