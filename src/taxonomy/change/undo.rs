//! The classes are again what they were before a change.

use std::collections::{BTreeMap, BTreeSet};

use super::Provenance;
use crate::taxonomy::{Change, Class, ClassId, ClassName, ClassState, LeafId, Manifest, Meaning};

impl Manifest {
    /// Restores the classes of an earlier manifest, under a new revision. Ids given out since are not given again, and
    /// classes made since retire in favour of those that own their leaves now. Names that classes got since go on meaning
    /// them where they mean nothing else. What can be undone next is what could be then, whatever serves now.
    pub fn undo(&self, target: &Self, provenance: Provenance) -> Self {
        let mut classes = target.classes.clone();
        for class in self.classes.values().filter(|class| !target.classes.contains_key(&class.id)) {
            let state = ClassState::Retired(self.owners_in(target, class.id));
            classes.insert(class.id, Class { state, ..class.clone() });
        }
        Self {
            revision: provenance.revision,
            parent: Some(self.revision),
            former_names: self.names_kept(target),
            classes,
            next_class: self.next_class,
            next_leaf: self.next_leaf,
            change: Change::Undo(self.revision),
            undo: target.undo,
            reason: provenance.reason,
            author: provenance.author,
            created: provenance.created,
        }
    }

    /// The former names of an earlier manifest, and those that its classes got since: examples may have come under them.
    fn names_kept(&self, target: &Self) -> BTreeMap<ClassName, ClassId> {
        let today = self.living().map(|class| (&class.name, class.id));
        let since = self.former_names.iter().map(|(name, id)| (name, *id)).chain(today);
        let mut kept = target.former_names.clone();
        for (name, id) in since {
            if target.classes.contains_key(&id) && target.meaning(name) == Meaning::Unknown {
                kept.insert(name.clone(), id);
            }
        }
        kept
    }

    /// The active classes of an earlier manifest that a later class came of: those that own leaves it lives on in, and those
    /// that it, or what it lives on in, came of by merges and splits since.
    fn owners_in(&self, target: &Self, id: ClassId) -> BTreeSet<ClassId> {
        let leaves = self.last_leaves(id);
        let mut alive = self.heirs(id);
        alive.insert(id);
        let came_of = |owner: &&Class| {
            owner.leaves().any(|leaf| leaves.contains(&leaf))
                || !self.descendants(owner.id).is_disjoint(&alive)
        };
        target.active().filter(came_of).map(|owner| owner.id).collect()
    }

    /// The leaves a class lives on in: its own while active, else those of its heirs.
    fn last_leaves(&self, id: ClassId) -> BTreeSet<LeafId> {
        self.heirs(id).iter().filter_map(|heir| self.classes.get(heir)).flat_map(Class::leaves).collect()
    }
}
