//! One class becomes several.

use std::collections::BTreeSet;

use super::{Provenance, violation};
use crate::{
    error::{Error, Result},
    taxonomy::{Change, Class, ClassId, ClassName, ClassState, LeafId, Manifest},
};

/// Most parts of a split.
const MOST: usize = 1000;

/// One of the classes that a class is split into, and which of its examples go there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    /// Name of the new class. May be that of the split class: then the examples that no other part takes go there.
    pub name: String,
    /// Ids of examples.
    pub example_ids: Vec<u64>,
    /// Texts of examples, however they are written.
    pub texts: Vec<String>,
    /// Labels under which examples were stored.
    pub labels: Vec<String>,
    /// A regular expression that the texts of the examples match; none if empty.
    pub pattern: String,
    /// Whether the examples that no other part takes go there.
    pub remaining: bool,
}

impl Manifest {
    /// Makes several classes of one: each owns a new leaf, and the class retires in their favour. They stand in the group
    /// that it was in.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a class that is not active; [`Error::Invalid`] naming `class_name` for a group, `parts` for
    /// fewer than two, and `parts[i].name` for a bad name, one given twice, or one that means another class.
    pub fn split(&self, class: &str, parts: &[Part], provenance: Provenance) -> Result<Self> {
        let class = self.find(class)?;
        let (id, parent) = (class.id, class.parent);
        let mut violations = Vec::new();
        if !class.is_active() {
            let description = format!("'{}' is a group; split the classes in it", class.name);
            violations.push(violation("class_name", description));
        }
        if !(2..=MOST).contains(&parts.len()) {
            violations.push(violation("parts", format!("must hold 2 to {MOST} parts, got {}", parts.len())));
        }
        let mut names: Vec<ClassName> = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let field = format!("parts[{index}].name");
            match self.name_for(&field, &part.name, &[id]) {
                Ok(name) if names.contains(&name) => {
                    violations.push(violation(field, format!("'{name}' is given twice")));
                }
                Ok(name) => names.push(name),
                Err(fault) => violations.push(fault),
            }
        }
        if !violations.is_empty() {
            return Err(Error::Invalid(violations));
        }

        let into: Vec<ClassId> = (self.next_class.0..).map(ClassId).take(names.len()).collect();
        let mut next = self.successor(Change::Split { class: id, into: into.clone() }, provenance);
        let successors = into.iter().copied().collect();
        next.classes.update(id, |class| class.state = ClassState::Retired(successors));
        for (name, id) in names.into_iter().zip(into) {
            next.classes.forget(&name);
            let state = ClassState::Active(BTreeSet::from([next.next_leaf]));
            next.classes.insert(Class { id, name, parent, state });
            next.next_class = ClassId(id.0 + 1);
            next.next_leaf = LeafId(next.next_leaf.0 + 1);
        }
        Ok(next)
    }
}
