//! Changes of the classes: each makes the next manifest from the one before and changes nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use super::{
    Change, Class, ClassId, ClassName, ClassState, LeafId, Manifest, Revision, UndoPoint, VersionNumber,
};
use crate::error::{Error, Result, Violation};

/// What a manifest keeps about how it came to be.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// Number the new manifest gets.
    pub revision: Revision,
    /// The version that answers when the change comes; an undo leads back to it.
    pub serving: VersionNumber,
    /// Why, as the caller put it.
    pub reason: String,
    /// When.
    pub created: SystemTime,
}

impl Manifest {
    /// Makes one class of several: the new class owns the union of their leaves, and they retire in its favour.
    ///
    /// The merged class always has a new id, also where it takes over the name of one of the merged.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a class that is not active; [`Error::Invalid`] naming `classes` or `into` for fewer
    /// than two classes, a class given twice, a bad name, or the name of an active class that is not merged.
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
        let name = match ClassName::new(into) {
            Ok(name) => {
                if let Some(other) = self.active_by_name(&name).filter(|class| !sources.contains(&class.id)) {
                    violations.push(violation(
                        "into",
                        format!(
                            "'{name}' is the name of another class (#{}); choose another name or merge that class as well",
                            other.id
                        ),
                    ));
                }
                Some(name)
            }
            Err(description) => {
                violations.push(violation("into", description));
                None
            }
        };
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
        next.classes.insert(id, Class { id, name, parent, state: ClassState::Active(leaves) });
        next.next_class = ClassId(id.0 + 1);
        Ok(next)
    }

    /// Adds classes with one new leaf each.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is given twice or is an active class already.
    pub fn add(&self, names: &[ClassName], provenance: Provenance) -> Result<Self> {
        let (grown, ids) = self.with_new_classes(names)?;
        Ok(Self {
            classes: grown.classes,
            next_class: grown.next_class,
            next_leaf: grown.next_leaf,
            ..self.successor(Change::Add(ids), provenance)
        })
    }

    /// Restores the classes of an earlier manifest, under a new revision. Ids given out since are not given again, and
    /// classes made since retire in favour of those that own their leaves now.
    pub fn undo(&self, target: &Self, revision: Revision, reason: String, created: SystemTime) -> Self {
        let mut classes = target.classes.clone();
        for class in self.classes.values().filter(|class| !target.classes.contains_key(&class.id)) {
            let leaves = self.last_leaves(class.id);
            let owners = target.active().filter(|owner| owner.leaves().any(|leaf| leaves.contains(&leaf)));
            let state = ClassState::Retired(owners.map(|owner| owner.id).collect());
            classes.insert(class.id, Class { state, ..class.clone() });
        }
        Self {
            revision,
            parent: Some(self.revision),
            classes,
            next_class: self.next_class,
            next_leaf: self.next_leaf,
            change: Change::Undo(self.revision),
            undo: target.undo,
            reason,
            created,
        }
    }

    /// The leaves a class lives on in: its own while active, else those of its heirs.
    fn last_leaves(&self, id: ClassId) -> BTreeSet<LeafId> {
        self.heirs(id).iter().filter_map(|heir| self.classes.get(heir)).flat_map(Class::leaves).collect()
    }

    /// The next revision with the same classes.
    fn successor(&self, change: Change, provenance: Provenance) -> Self {
        Self {
            revision: provenance.revision,
            parent: Some(self.revision),
            change,
            undo: Some(UndoPoint { revision: self.revision, version: provenance.serving }),
            reason: provenance.reason,
            created: provenance.created,
            ..self.clone()
        }
    }

    /// This manifest with classes appended, and their ids.
    pub(super) fn with_new_classes(&self, names: &[ClassName]) -> Result<(Self, Vec<ClassId>)> {
        let mut next = self.clone();
        let mut ids = Vec::new();
        let mut taken: BTreeMap<&ClassName, ClassId> = self.active().map(|c| (&c.name, c.id)).collect();
        for (index, name) in names.iter().enumerate() {
            let id = next.next_class;
            if let Some(other) = taken.insert(name, id) {
                let description = format!("'{name}' is the name of class #{other} already");
                return Err(Error::invalid(format!("names[{index}]"), description));
            }
            let state = ClassState::Active(BTreeSet::from([next.next_leaf]));
            next.classes.insert(id, Class { id, name: name.clone(), parent: None, state });
            next.next_class = ClassId(id.0 + 1);
            next.next_leaf = LeafId(next.next_leaf.0 + 1);
            ids.push(id);
        }
        Ok((next, ids))
    }
}

fn violation(field: impl Into<String>, description: impl Into<String>) -> Violation {
    Violation { field: field.into(), description: description.into() }
}
