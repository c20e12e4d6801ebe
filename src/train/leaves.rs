//! What is known about the leaves of a training: learnt before, to be learnt now, or neither.

use std::collections::BTreeSet;

use crate::{
    dataset::{Example, Meanings, Split},
    error::Result,
    registry::{Model, Registry},
    taxonomy::{Class, ClassId, LeafId, Manifest},
};

/// The leaves of a training by what is known about them.
pub(super) struct Leaves {
    pub(super) all: BTreeSet<LeafId>,
    /// Those that an earlier training had examples for.
    learnt: BTreeSet<LeafId>,
    /// Those whose rows were fitted at once when a change brought them.
    fitted: BTreeSet<LeafId>,
    /// Those that this training has examples for.
    with_examples: BTreeSet<LeafId>,
}

impl Leaves {
    pub(super) fn new(
        registry: &Registry,
        model: &Model,
        manifest: &Manifest,
        examples: &[Example],
    ) -> Result<Self> {
        let (learnt, fitted) = match model.serving() {
            Some(number) => {
                let version = registry.version(&model.id, number)?;
                (registry.learnt_leaves(&version)?, registry.fitted_leaves(&version)?)
            }
            None => Default::default(),
        };
        let train = examples.iter().filter(|example| example.split == Split::Train);
        let meanings = Meanings::new(Some(manifest.clone()));
        let classes: BTreeSet<ClassId> = train.filter_map(|example| meanings.class_id_of(example)).collect();
        let classes = classes.iter().filter_map(|class| manifest.classes.get(class));
        let with_examples = classes.flat_map(Class::leaves).collect();
        Ok(Self { all: manifest.leaves(), learnt, fitted, with_examples })
    }

    /// Leaves to be learnt for the first time. What a network had for them was made to be silent, which is no start, unless it
    /// was fitted at once.
    pub(super) fn fresh(&self) -> BTreeSet<LeafId> {
        let fresh = self.with_examples.difference(&self.learnt);
        fresh.filter(|leaf| !self.fitted.contains(leaf)).copied().collect()
    }

    /// Leaves that are as little known afterwards as before.
    pub(super) fn unlearnt(&self) -> Vec<LeafId> {
        let known = |leaf: &&LeafId| !self.learnt.contains(leaf) && !self.with_examples.contains(leaf);
        self.all.iter().filter(known).copied().collect()
    }
}
