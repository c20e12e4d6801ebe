//! How names find their class: those of today, those of before, and the labels of examples stored under any of them.

use std::collections::BTreeSet;

use super::{Class, ClassId, ClassName, ClassState, Manifest};
use crate::error::{Error, Resource, Result, nearest};

/// What a label means in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// This active class.
    Class(ClassId),
    /// A retired class whose texts could now belong to any of these.
    Ambiguous(BTreeSet<ClassId>),
    /// No class, active or retired, has or had this name.
    Unknown,
}

impl Manifest {
    /// The active class with a name.
    pub fn active_by_name(&self, name: &ClassName) -> Option<&Class> {
        self.active().find(|class| class.name == *name)
    }

    /// The active class that a caller means by its name, or by `#` and its id.
    ///
    /// # Errors
    /// [`Error::NotFound`], with the nearest name, or with the name that a renamed class has now.
    pub fn find(&self, reference: &str) -> Result<&Class> {
        let class = match reference.strip_prefix('#') {
            Some(id) => id.parse().ok().and_then(|id| self.classes.get(&ClassId(id))),
            None => {
                let name = ClassName::new(reference).map_err(|_| self.unknown(reference))?;
                self.active_by_name(&name)
            }
        };
        class.filter(|class| class.is_active()).ok_or_else(|| self.unknown(reference))
    }

    /// What a label means here: an active class by name; else the class that had the name last, by its successors.
    pub fn meaning(&self, label: &ClassName) -> Meaning {
        let holders = self.holders(label);
        match holders.first() {
            Some(&holder) if holders.len() == 1 => Meaning::Class(holder),
            Some(_) => Meaning::Ambiguous(holders),
            None => Meaning::Unknown,
        }
    }

    /// The active classes that a class lives on in: itself while active.
    pub fn heirs(&self, id: ClassId) -> BTreeSet<ClassId> {
        let mut heirs = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let Some(class) = self.classes.get(&id).filter(|_| seen.insert(id)) else { continue };
            match &class.state {
                ClassState::Active(_) => {
                    heirs.insert(id);
                }
                ClassState::Retired(successors) => open.extend(successors),
            }
        }
        heirs
    }

    /// Names that a class had and that mean it still, in order.
    pub fn former_names_of(&self, id: ClassId) -> impl Iterator<Item = &ClassName> + '_ {
        let names = self.former_names.iter().filter(move |(_, bearer)| **bearer == id).map(|(name, _)| name);
        names.filter(|name| self.active_by_name(name).is_none())
    }

    /// The active classes that a name stands for. A name of today counts before one of before, the latest bearer of that
    /// before older ones.
    pub(super) fn holders(&self, name: &ClassName) -> BTreeSet<ClassId> {
        if let Some(class) = self.active_by_name(name) {
            return BTreeSet::from([class.id]);
        }
        let former = self.former_names.get(name).copied();
        let retired = self.classes.values().rev().filter(|class| class.name == *name).map(|class| class.id);
        former
            .into_iter()
            .chain(retired)
            .map(|id| self.heirs(id))
            .find(|heirs| !heirs.is_empty())
            .unwrap_or_default()
    }

    fn unknown(&self, reference: &str) -> Error {
        let renamed = ClassName::new(reference).ok().and_then(|name| self.former_names.get(&name));
        let today = renamed.and_then(|id| self.classes.get(id)).filter(|class| class.is_active());
        let names = || self.active().map(|class| class.name.as_str());
        let suggestion = today.map(|class| class.name.as_str()).or_else(|| nearest(reference, names()));
        let suggestion = suggestion.map(str::to_owned);
        Error::NotFound { resource: Resource::Class, name: reference.to_owned(), suggestion }
    }
}
