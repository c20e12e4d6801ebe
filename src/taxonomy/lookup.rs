//! How names find their class: those of today, those of before, and the labels of examples stored under any of them.

use std::collections::BTreeSet;

use super::{Class, ClassId, ClassName, ClassState, Manifest};
use crate::error::{Error, Resource, Result, nearest};

/// What a label means in a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// This active class.
    Class(ClassId),
    /// A group, or a class that is gone, whose texts could now belong to any of these.
    Ambiguous(BTreeSet<ClassId>),
    /// A class that was taken out.
    Removed,
    /// No class has or had this name.
    Unknown,
}

impl Meaning {
    /// The one active class, if it is one.
    pub fn class(&self) -> Option<ClassId> {
        match self {
            Self::Class(id) => Some(*id),
            Self::Ambiguous(_) | Self::Removed | Self::Unknown => None,
        }
    }
}

/// What lives on of the classes that bore a name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Bearers {
    /// Active classes and groups.
    pub(super) living: BTreeSet<ClassId>,
    /// Whether some of it was taken out.
    pub(super) removed: bool,
}

impl Bearers {
    fn meaning(&self, manifest: &Manifest) -> Meaning {
        let Self { living, removed } = self;
        match living.first() {
            Some(&id) if living.len() == 1 && !removed && manifest.is_active(id) => Meaning::Class(id),
            Some(_) => Meaning::Ambiguous(living.iter().flat_map(|&id| manifest.below(id)).collect()),
            None if *removed => Meaning::Removed,
            None => Meaning::Unknown,
        }
    }
}

impl Manifest {
    /// The active class or group with a name.
    pub fn living_by_name(&self, name: &ClassName) -> Option<&Class> {
        self.classes.living_by_name(name)
    }

    /// The active class or group that a caller means by its name, or by `#` and its id.
    ///
    /// # Errors
    /// [`Error::NotFound`], with the nearest name, or with the name that a renamed class has now.
    pub fn find(&self, reference: &str) -> Result<&Class> {
        let class = match reference.strip_prefix('#') {
            Some(id) => id.parse().ok().and_then(|id| self.classes.get(&ClassId(id))),
            None => {
                let name = ClassName::new(reference).map_err(|_| self.unknown(reference))?;
                self.living_by_name(&name)
            }
        };
        class.filter(|class| class.is_living()).ok_or_else(|| self.unknown(reference))
    }

    /// What a label means here: an active class by name; else the class that had the name last, by its successors.
    pub fn meaning(&self, label: &ClassName) -> Meaning {
        self.bearers(label).meaning(self)
    }

    /// What an example means that was stored under a label and went, at splits, to these classes, the latest last. The
    /// class it went to counts while it descends from one that bore the label; the label alone otherwise.
    pub fn meaning_of(&self, label: &ClassName, assigned: &[ClassId]) -> Meaning {
        if assigned.is_empty() {
            return self.meaning(label);
        }
        let living = self.living_by_name(label).map(|class| class.id);
        let bearers =
            self.classes.former(label).into_iter().chain(living).chain(self.classes.gone_by_name(label));
        let descendants: BTreeSet<ClassId> = bearers.flat_map(|bearer| self.descendants(bearer)).collect();
        match assigned.iter().rev().find(|id| descendants.contains(id)) {
            Some(&id) => self.lives_on(id).meaning(self),
            None => self.meaning(label),
        }
    }

    /// The classes that came, by merges and splits, of one that is gone.
    pub(super) fn descendants(&self, id: ClassId) -> BTreeSet<ClassId> {
        let mut found = BTreeSet::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if let Some(ClassState::Retired(successors)) = self.classes.get(&id).map(|class| &class.state) {
                open.extend(successors.iter().filter(|successor| found.insert(**successor)));
            }
        }
        found
    }

    /// The active classes that a class lives on in: itself while active.
    pub fn heirs(&self, id: ClassId) -> BTreeSet<ClassId> {
        self.lives_on(id).living.into_iter().filter(|id| self.is_active(*id)).collect()
    }

    /// Whether some of what a class was is gone: it was taken out, or some of what it became.
    pub(super) fn has_lost(&self, id: ClassId) -> bool {
        self.lives_on(id).removed
    }

    /// Names that a class had and that mean it still, in order.
    pub fn former_names_of(&self, id: ClassId) -> impl Iterator<Item = &ClassName> + '_ {
        let names =
            self.classes.former_names().filter(move |(_, bearer)| *bearer == id).map(|(name, _)| name);
        names.filter(|name| self.living_by_name(name).is_none())
    }

    /// What a name stands for. A name of today counts before one of before, the latest bearer of that before older ones.
    pub(super) fn bearers(&self, name: &ClassName) -> Bearers {
        if let Some(class) = self.living_by_name(name) {
            return Bearers { living: BTreeSet::from([class.id]), removed: false };
        }
        let bearers = self.classes.former(name).into_iter().chain(self.classes.gone_by_name(name).rev());
        bearers.map(|id| self.lives_on(id)).find(|found| *found != Bearers::default()).unwrap_or_default()
    }

    /// What lives on of a class.
    pub(super) fn lives_on(&self, id: ClassId) -> Bearers {
        let mut bearers = Bearers::default();
        let mut seen = BTreeSet::new();
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let Some(class) = self.classes.get(&id).filter(|_| seen.insert(id)) else { continue };
            match &class.state {
                ClassState::Active(_) | ClassState::Group => {
                    bearers.living.insert(id);
                }
                ClassState::Retired(successors) => open.extend(successors),
                ClassState::Removed => bearers.removed = true,
            }
        }
        bearers
    }

    /// Whether this is an active class.
    pub fn is_active(&self, id: ClassId) -> bool {
        self.classes.get(&id).is_some_and(Class::is_active)
    }

    /// Whether this is an active class or a group.
    pub(super) fn is_living(&self, id: ClassId) -> bool {
        self.classes.get(&id).is_some_and(Class::is_living)
    }

    fn unknown(&self, reference: &str) -> Error {
        let renamed = ClassName::new(reference).ok().and_then(|name| self.classes.former(&name));
        let today = renamed.and_then(|id| self.classes.get(&id)).filter(|class| class.is_living());
        let names = || self.living().map(|class| class.name.as_str());
        let suggestion = today.map(|class| class.name.as_str()).or_else(|| nearest(reference, names()));
        let suggestion = suggestion.map(str::to_owned);
        Error::NotFound { resource: Resource::Class, name: reference.to_owned(), suggestion }
    }
}
