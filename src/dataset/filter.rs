//! Choosing examples.

use std::collections::BTreeSet;

use super::{Dataset, Example, Meanings, Split, example_key};
use crate::{
    error::{Error, Resource, Result},
    registry::ModelId,
    store::Tree,
    taxonomy::{ClassId, ClassName},
    text::normalise,
};

/// Chooses examples: those that all of it matches. The default matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only these ids; empty means any.
    pub ids: BTreeSet<u64>,
    /// Only this label, as stored.
    pub label: Option<ClassName>,
    /// Only examples of one of these active classes.
    pub classes: Option<BTreeSet<ClassId>>,
    /// Only texts that contain this, both in normal form.
    pub contains: Option<NormalText>,
    /// Only this side of the split.
    pub split: Option<Split>,
    /// Only texts that are stored under several classes.
    pub conflicting: bool,
}

/// A piece of text in normal form, not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalText(String);

impl NormalText {
    /// Normalises a text; none where nothing is left of it.
    pub fn new(raw: &str) -> Option<Self> {
        Some(normalise(raw)).filter(|normal| !normal.is_empty()).map(Self)
    }
}

impl Filter {
    /// Whether it matches an example, but for `conflicting`, which an example alone does not show.
    fn matches(&self, example: &Example, meanings: &Meanings) -> bool {
        (self.ids.is_empty() || self.ids.contains(&example.id))
            && self.label.as_ref().is_none_or(|label| *label == example.label)
            && self.split.is_none_or(|split| split == example.split)
            && self.classes.as_ref().is_none_or(|classes| {
                meanings.class_of(example).is_some_and(|class| classes.contains(&class.id))
            })
            && self.contains.as_ref().is_none_or(|NormalText(part)| normalise(&example.text).contains(part))
    }
}

impl Dataset {
    /// Examples that a filter matches, with ids above `after`, in the order they came.
    pub(super) fn matching<'a>(
        &self,
        uid: u64,
        filter: &'a Filter,
        meanings: &'a Meanings,
        after: u64,
    ) -> Result<impl Iterator<Item = Result<Example>> + use<'a>> {
        let conflicting = match filter.conflicting {
            true => Some(self.conflicting(uid, meanings)?.into_iter().flatten().collect()),
            false => None::<BTreeSet<u64>>,
        };
        let matches = move |example: &Example| {
            filter.matches(example, meanings)
                && conflicting.as_ref().is_none_or(|ids| ids.contains(&example.id))
        };
        Ok(self
            .candidates(uid, filter, after)?
            .filter(move |example| example.as_ref().map_or(true, &matches)))
    }

    /// Refuses a filter with an id that no example has.
    pub(super) fn check_ids(&self, uid: u64, model: &ModelId, filter: &Filter) -> Result<()> {
        let end = self.whole_extent(uid)?.end;
        for &id in &filter.ids {
            self.cancel.check()?;
            if id > end || !self.store.contains(Tree::Examples, &example_key(uid, id))? {
                return Err(Error::not_found(Resource::Example, format!("{}/examples/{id}", model.name())));
            }
        }
        Ok(())
    }

    /// The examples that a filter may match: those with its ids, or all.
    fn candidates(
        &self,
        uid: u64,
        filter: &Filter,
        after: u64,
    ) -> Result<Box<dyn Iterator<Item = Result<Example>>>> {
        if filter.ids.is_empty() {
            return Ok(Box::new(self.examples(uid, after)?));
        }
        let ids = filter.ids.iter().copied().filter(|id| *id > after).collect();
        Ok(Box::new(self.examples_of(uid, ids)?))
    }
}
