//! Several classes become one.

use std::collections::BTreeSet;

use super::{Provenance, violation};
use crate::{
    error::{Error, Result},
    taxonomy::{Change, Class, ClassId, ClassState, Manifest},
};

impl Manifest {
    /// Makes one class of several: the new class owns the union of their leaves, and they retire in its favour.
    ///
    /// The merged class always has a new id, also where it takes over the name of one of the merged.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a class that is not active; [`Error::Invalid`] naming `classes` or `into` for fewer
    /// than two classes, a class given twice, a bad name, or one that means a class that is not
    /// merged.
    pub fn merge(&self, classes: &[String], into: &str, provenance: Provenance) -> Result<Self> {
        let mut violations = Vec::new();
        if classes.len() < 2 {
            violations.push(violation("classes", format!("at least two are needed, got {}", classes.len())));
        }
        let mut sources = Vec::new();
        for (index, reference) in classes.iter().enumerate() {
            let id = self.find(reference)?.id;
            if sources.contains(&id) {
                violations
                    .push(violation(format!("classes[{index}]"), format!("'{reference}' is given twice")));
            }
            sources.push(id);
        }
        let name = self.name_for("into", into, &sources).map_err(|fault| violations.push(fault)).ok();
        let Some(name) = name.filter(|_| violations.is_empty()) else {
            return Err(Error::Invalid(violations));
        };

        let id = self.next_class;
        let mut next = self.successor(Change::Merge { sources: sources.clone(), into: id }, provenance);
        let mut leaves = BTreeSet::new();
        let mut parents = BTreeSet::new();
        for source in &sources {
            if let Some(class) = next.classes.get_mut(source) {
                leaves.extend(class.leaves());
                parents.insert(class.parent);
                class.state = ClassState::Retired(BTreeSet::from([id]));
            }
        }
        for class in next.classes.values_mut() {
            if class.parent.is_some_and(|parent| sources.contains(&parent)) {
                class.parent = Some(id);
            }
        }
        let parent = if parents.len() == 1 { parents.into_iter().next().flatten() } else { None };
        next.former_names.remove(&name);
        next.classes.insert(id, Class { id, name, parent, state: ClassState::Active(leaves) });
        next.next_class = ClassId(id.0 + 1);
        Ok(next)
    }
}
