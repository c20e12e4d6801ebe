//! Corrections of stored examples as calls: which examples a request means, and the parts that such calls have in common.

use std::collections::BTreeSet;

use prost::Message;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Services,
    caller::Caller,
    check::Violations,
    repeat::{self, Call},
};
use crate::{
    dataset::{Correction, Filter, Meanings, NormalText, Split},
    error::{Error, Result},
    proto::v1,
    registry::{Model, ModelId, Receipt, Selector},
    taxonomy::{ClassId, Manifest},
};

/// The examples that a correction is about.
pub(super) struct Chosen {
    pub(super) model: Model,
    pub(super) filter: Filter,
    pub(super) meanings: Meanings,
}

impl Services {
    /// Makes a correction that `find` works out with the answer, or only answers what it would do, or what the first call with
    /// the request id answered.
    pub(super) fn correct<M: Message, T: Serialize, A: Serialize + DeserializeOwned>(
        &self,
        caller: &Caller,
        rpc: &str,
        request: &M,
        request_id: &str,
        validate_only: bool,
        find: impl FnOnce() -> Result<(A, Correction<T>)>,
    ) -> Result<A> {
        // This claims the examples, so that the first call with the request id is over when it is looked for.
        let found = find();
        if validate_only {
            return found.map(|(answer, _)| answer);
        }
        match self.first_or_repeat(caller, rpc, request_id, request)? {
            Call::First(receipt, _under_way) => {
                let (answer, correction) = found?;
                let outcome = repeat::encode(&answer)?;
                correction.commit(receipt.map(|receipt| Receipt { outcome, ..receipt }))?;
                Ok(answer)
            }
            Call::Repeat(kept) => repeat::answer(&kept.outcome),
        }
    }

    /// The examples that a correction shall change.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a filter that chooses nothing in particular and does not say `all`; as
    /// [`list_filter`](Self::list_filter).
    pub(super) fn chosen(&self, id: &ModelId, filter: Option<v1::ExampleFilter>) -> Result<Chosen> {
        let model = self.registry.model(id)?;
        let filter = filter.unwrap_or_default();
        let all = filter.all;
        let filter = self.filter(id, filter)?;
        if filter == Filter::default() && !all {
            let description = "must choose examples; all of them only with `all`, got an empty filter";
            return Err(Error::invalid("filter", description));
        }
        Ok(Chosen { model, filter, meanings: self.meanings(id)? })
    }

    /// The examples to list. `label` is short for the filter's.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::NotFound`] for the class; [`Error::Precondition`] for a class where nothing serves.
    pub(super) fn list_filter(
        &self,
        id: &ModelId,
        filter: Option<v1::ExampleFilter>,
        label: &str,
    ) -> Result<Filter> {
        let filter = self.filter(id, filter.unwrap_or_default())?;
        if label.is_empty() {
            return Ok(filter);
        }
        if filter.label.is_some() {
            let description =
                format!("must not be given beside filter.label, got '{}'", label.escape_debug());
            return Err(Error::invalid("label", description));
        }
        let mut violations = Violations::default();
        let label = violations.label(|| "label".to_owned(), label);
        violations.finish()?;
        Ok(Filter { label, ..filter })
    }

    /// What labels mean in the manifest that is served, if there is one.
    pub(super) fn meanings(&self, id: &ModelId) -> Result<Meanings> {
        let serving = self.registry.model(id)?.serving();
        let manifest = serving.map(|number| {
            let revision = self.registry.version(id, number)?.revision;
            self.registry.manifest(id, revision)
        });
        Ok(Meanings::new(manifest.transpose()?))
    }

    fn filter(&self, id: &ModelId, filter: v1::ExampleFilter) -> Result<Filter> {
        let mut violations = Violations::default();
        if filter.all && filter != (v1::ExampleFilter { all: true, ..Default::default() }) {
            violations.add("filter.all", "must be the only field of the filter, got others as well");
        }
        if let Some(at) = filter.ids.iter().position(|id| *id == 0) {
            violations.add(format!("filter.ids[{at}]"), "must be 1 or more, got 0");
        }
        let label = match filter.label.as_str() {
            "" => None,
            label => violations.label(|| "filter.label".to_owned(), label),
        };
        let contains = NormalText::new(&filter.text_contains);
        if contains.is_none() && !filter.text_contains.is_empty() {
            let got = filter.text_contains.escape_debug();
            violations.add("filter.text_contains", format!("must not be blank, got '{got}'"));
        }
        let split = split(&mut violations, filter.split);
        violations.finish()?;
        let classes = match filter.class_name.as_str() {
            "" => None,
            class => Some(self.classes(id, class)?),
        };
        let ids = filter.ids.into_iter().collect();
        Ok(Filter { ids, label, classes, contains, split, conflicting: filter.conflicting })
    }

    /// The active classes that a reference stands for.
    fn classes(&self, id: &ModelId, reference: &str) -> Result<BTreeSet<ClassId>> {
        let version = self.registry.version(id, self.registry.resolve(id, &Selector::Serving)?)?;
        let manifest: Manifest = self.registry.manifest(id, version.revision)?;
        Ok(manifest.below(manifest.find(reference)?.id))
    }
}

fn split(violations: &mut Violations, split: i32) -> Option<Split> {
    match v1::Split::try_from(split) {
        Ok(v1::Split::Unspecified) => None,
        Ok(v1::Split::Train) => Some(Split::Train),
        Ok(v1::Split::Validation) => Some(Split::Validation),
        Err(_) => {
            violations.add("filter.split", format!("is not a side of the split, got {split}"));
            None
        }
    }
}
