//! Classes come in.

use std::collections::{BTreeMap, BTreeSet};

use super::{Provenance, violation};
use crate::{
    error::{Error, Result, Violation},
    taxonomy::{Change, Class, ClassId, ClassName, ClassState, LeafId, Manifest},
};

/// Most classes of one change.
const MOST: usize = 1000;

impl Manifest {
    /// Adds classes by their names, with one new leaf each. The name of a class that was removed may be given again: then
    /// the examples under it are the new class's.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming `names` for none, or more than 1000, a name given twice, a bad one, or one that means another class.
    pub fn add_named(&self, names: &[String], provenance: Provenance) -> Result<Self> {
        let (mut violations, mut checked): (Vec<Violation>, Vec<ClassName>) = Default::default();
        if !(1..=MOST).contains(&names.len()) {
            let description = format!("must hold 1 to {MOST} names, got {}", names.len());
            return Err(Error::invalid("names", description));
        }
        for (index, name) in names.iter().enumerate() {
            let field = format!("names[{index}]");
            match self.name_for_new(&field, name) {
                Ok(name) if checked.contains(&name) => {
                    violations.push(violation(field, format!("'{name}' is given twice")));
                }
                Ok(name) => checked.push(name),
                Err(fault) => violations.push(fault),
            }
        }
        if violations.is_empty() { self.add(&checked, provenance) } else { Err(Error::Invalid(violations)) }
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

    /// This manifest with classes appended, and their ids.
    pub(in crate::taxonomy) fn with_new_classes(&self, names: &[ClassName]) -> Result<(Self, Vec<ClassId>)> {
        let mut next = self.clone();
        let mut ids = Vec::new();
        let mut taken: BTreeMap<&ClassName, ClassId> = self.living().map(|c| (&c.name, c.id)).collect();
        for (index, name) in names.iter().enumerate() {
            let id = next.next_class;
            if let Some(other) = taken.insert(name, id) {
                let description = format!("'{name}' is the name of class #{other} already");
                return Err(Error::invalid(format!("names[{index}]"), description));
            }
            next.classes.forget(name);
            let state = ClassState::Active(BTreeSet::from([next.next_leaf]));
            next.classes.insert(Class { id, name: name.clone(), parent: None, state });
            next.next_class = ClassId(id.0 + 1);
            next.next_leaf = LeafId(next.next_leaf.0 + 1);
            ids.push(id);
        }
        Ok((next, ids))
    }
}
