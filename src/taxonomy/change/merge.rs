//! Several classes become one.

use std::collections::BTreeSet;

use super::{Provenance, violation};
use crate::{
    error::{Error, Result},
    taxonomy::{Change, Class, ClassId, ClassState, LeafId, Manifest},
};

impl Manifest {
    /// Makes one class of several: the new class owns the union of their leaves, and they retire in its favour. A group
    /// counts as the classes below it. The new class stands in the deepest group that all of them are in.
    ///
    /// The merged class always has a new id, also where it takes over the name of one of the merged.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a class that is not active; [`Error::Invalid`] naming `classes` or `into` for fewer
    /// than two classes, a class given twice, a bad name, or one that means a class that is not merged.
    pub fn merge(&self, classes: &[String], into: &str, provenance: Provenance) -> Result<Self> {
        let mut violations = Vec::new();
        let (mut named, mut sources, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for (index, reference) in classes.iter().enumerate() {
            let id = self.find(reference)?.id;
            let below = self.below(id);
            if below.iter().any(|id| sources.contains(id)) {
                violations
                    .push(violation(format!("classes[{index}]"), format!("'{reference}' is given twice")));
            }
            named.push(id);
            sources.extend(below);
            own.extend(self.subtree(id));
        }
        if classes.len().max(sources.len()) < 2 {
            violations.push(violation("classes", format!("at least two are needed, got {}", sources.len())));
        }
        let name = self.name_for("into", into, &own).map_err(|fault| violations.push(fault)).ok();
        let Some(name) = name.filter(|_| violations.is_empty()) else {
            return Err(Error::Invalid(violations));
        };

        let (id, parent) = (self.next_class, self.common_parent(&named));
        let mut next = self.successor(Change::Merge { sources: sources.clone(), into: id }, provenance);
        let mut leaves: BTreeSet<LeafId> = BTreeSet::new();
        for source in &sources {
            next.classes.update(*source, |class| {
                leaves.extend(class.leaves());
                class.state = ClassState::Retired(BTreeSet::from([id]));
            });
        }
        next.classes.forget(&name);
        next.classes.insert(Class { id, name, parent, state: ClassState::Active(leaves) });
        next.next_class = ClassId(id.0 + 1);
        next.end_empty_groups(Some(id));
        Ok(next)
    }
}
