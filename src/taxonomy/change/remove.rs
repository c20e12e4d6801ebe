//! Classes are taken out.

use std::collections::BTreeSet;

use super::{Provenance, violation};
use crate::{
    error::{Error, Result},
    taxonomy::{Change, ClassId, ClassState, Manifest},
};

/// Classes that a classifier tells apart at least.
const FEWEST: usize = 2;

impl Manifest {
    /// Takes classes out, a group with all below it. Their leaves stay idle in the head, and the probabilities of the
    /// others are divided by their sum. Examples under their names take no part in training, until a class of the name is
    /// added again.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a class that is not active; [`Error::Invalid`] naming `classes` for none, for one given
    /// twice, and where fewer than two classes would be left.
    pub fn remove(&self, classes: &[String], provenance: Provenance) -> Result<Self> {
        let mut violations = Vec::new();
        let (mut named, mut gone): (Vec<ClassId>, BTreeSet<ClassId>) = Default::default();
        for (index, reference) in classes.iter().enumerate() {
            let id = self.find(reference)?.id;
            if named.contains(&id) {
                violations
                    .push(violation(format!("classes[{index}]"), format!("'{reference}' is given twice")));
            }
            named.push(id);
            gone.extend(self.below(id));
        }
        let all = self.active().count();
        let left = all - gone.len();
        if named.is_empty() {
            violations.push(violation("classes", "at least one is needed, got 0"));
        } else if left < FEWEST {
            let left = if left == 0 { "none".to_owned() } else { left.to_string() };
            violations.push(violation(
                "classes",
                format!(
                    "{left} of {all} classes would be left, and a classifier needs {FEWEST}; merge instead"
                ),
            ));
        }
        if !violations.is_empty() {
            return Err(Error::Invalid(violations));
        }
        let mut next = self.successor(Change::Remove(named), provenance);
        for id in gone {
            next.classes.update(id, |class| class.state = ClassState::Removed);
        }
        next.end_empty_groups(None);
        Ok(next)
    }
}
