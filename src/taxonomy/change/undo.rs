//! The classes are again what they were before a change.

use std::collections::BTreeMap;

use super::Provenance;
use crate::taxonomy::{Change, Class, ClassId, ClassName, ClassState, Manifest, descent::Owners};

impl Manifest {
    /// Restores the classes of an earlier manifest, under a new revision. Ids given out since are not given again, and
    /// classes made since retire in favour of those that own their leaves now. Names that classes got since go on meaning
    /// them where they mean nothing else. What can be undone next is what could be then, whatever serves now.
    pub fn undo(&self, target: &Self, provenance: Provenance) -> Self {
        let mut classes = target.classes.clone();
        let owners = Owners::new(target, self);
        for class in self.classes.values().filter(|class| !target.classes.contains_key(&class.id)) {
            let state = ClassState::Retired(owners.of(class.id));
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
        let (mut kept, known) = (target.former_names.clone(), target.known_names());
        for (name, id) in since {
            if target.classes.contains_key(&id) && !known.contains(name) {
                kept.insert(name.clone(), id);
            }
        }
        kept
    }
}
