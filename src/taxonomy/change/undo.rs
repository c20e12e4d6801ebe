//! The classes are again what they were before a change.

use std::ops::Bound;

use super::Provenance;
use crate::taxonomy::{Change, Class, ClassState, Classes, Manifest, Meaning, descent::Owners};

impl Manifest {
    /// Restores the classes of an earlier manifest, under a new revision. Ids given out since are not given again, and
    /// classes made since retire in favour of those that own their leaves now. Names that classes got since go on meaning
    /// them where they mean nothing else. What can be undone next is what could be then, whatever serves now.
    pub fn undo(&self, target: &Self, provenance: Provenance) -> Self {
        let mut classes = self.names_kept(target);
        let owners = Owners::new(target, self);
        for class in self.made_since(target) {
            let state = ClassState::Retired(owners.of(class.id));
            classes.insert(Class { state, ..class.clone() });
        }
        Self {
            revision: provenance.revision,
            parent: Some(self.revision),
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

    /// The classes that an earlier manifest does not have.
    fn made_since<'a>(&'a self, target: &'a Self) -> impl Iterator<Item = &'a Class> {
        self.classes
            .range(Bound::Included(target.next_class))
            .filter(|class| !target.classes.contains(&class.id))
    }

    /// The classes of an earlier manifest, with the names besides that they got since: examples may have come under them.
    fn names_kept(&self, target: &Self) -> Classes {
        let mut kept = target.classes.clone();
        let today = self.living().map(|class| (&class.name, class.id));
        for (name, id) in self.classes.former_names().chain(today) {
            let Some(before) = target.classes.get(&id) else { continue };
            let is_same =
                before.is_living() && before.name == *name || target.classes.former(name) == Some(id);
            if !is_same && target.meaning(name) == Meaning::Unknown {
                kept.remember(name.clone(), id);
            }
        }
        kept
    }
}
