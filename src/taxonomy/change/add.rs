//! Classes come in.

use std::collections::{BTreeMap, BTreeSet};

use super::Provenance;
use crate::{
    error::{Error, Result},
    taxonomy::{Change, Class, ClassId, ClassName, ClassState, LeafId, Manifest},
};

impl Manifest {
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
