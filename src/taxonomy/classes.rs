//! The classes there ever were, and the names that they had. Manifests are made from one another and share what a change leaves
//! as it is: a copy costs nothing, and a change takes no longer the more classes are gone.

use std::{
    collections::BTreeSet,
    iter,
    ops::{Bound, Index},
};

use rpds::{RedBlackTreeMapSync as Map, RedBlackTreeSetSync as Set};

use super::{Class, ClassId, ClassName, ClassState, Revision};

/// Classes by id, active ones, groups, and those that are gone.
#[derive(Debug, Clone, Default)]
pub struct Classes {
    /// The active classes and the groups.
    living: Map<ClassId, Class>,
    gone: Map<ClassId, Class>,
    /// The names of the living.
    names: Map<ClassName, ClassId>,
    /// The names of those that are gone; several may have had one.
    gone_names: Set<(ClassName, ClassId)>,
    /// Names that classes had, and the class that each still means: stored examples go by them.
    former_names: Map<ClassName, ClassId>,
    /// Memory that all of this takes, nearly.
    bytes: usize,
    delta: Option<Delta>,
}

/// A stored manifest that others are stored as differences from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// The uid of its model.
    pub model: u64,
    /// Its revision.
    pub revision: Revision,
    /// Number of differences from the record that holds all classes to this one; 0 where this one holds them.
    pub steps: u32,
}

/// What was changed since classes were stored.
#[derive(Debug, Clone)]
pub struct Delta {
    /// Where they are stored as they were.
    pub base: Base,
    /// Classes that came or changed.
    pub classes: BTreeSet<ClassId>,
    /// Former names that came, changed or went.
    pub former_names: BTreeSet<ClassName>,
}

impl Classes {
    /// A class.
    pub fn get(&self, id: &ClassId) -> Option<&Class> {
        self.living.get(id).or_else(|| self.gone.get(id))
    }

    /// Whether there is or was a class.
    pub fn contains(&self, id: &ClassId) -> bool {
        self.living.contains_key(id) || self.gone.contains_key(id)
    }

    /// How many there are and were.
    pub fn len(&self) -> usize {
        self.living.size() + self.gone.size()
    }

    /// Whether there is none and was none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Class> + '_ {
        self.range(Bound::Unbounded)
    }

    /// Those from an id on, ascending.
    pub fn range(&self, from: Bound<ClassId>) -> impl Iterator<Item = &Class> + '_ {
        let within = (from, Bound::Unbounded);
        let mut living = self.living.range(within).map(|(_, class)| class).peekable();
        let mut gone = self.gone.range(within).map(|(_, class)| class).peekable();
        iter::from_fn(move || match (living.peek(), gone.peek()) {
            (Some(next), Some(other)) if other.id < next.id => gone.next(),
            (Some(_), _) => living.next(),
            (None, _) => gone.next(),
        })
    }

    /// The active classes and the groups, ascending.
    pub fn living(&self) -> impl Iterator<Item = &Class> + '_ {
        self.living.values()
    }

    /// Those that are neither, from the newest to the oldest.
    pub fn gone(&self) -> impl Iterator<Item = &Class> + '_ {
        self.gone.iter().rev().map(|(_, class)| class)
    }

    /// The active class or group with a name.
    pub fn living_by_name(&self, name: &ClassName) -> Option<&Class> {
        self.living.get(self.names.get(name)?)
    }

    /// The classes with a name that are gone, ascending.
    pub(super) fn gone_by_name(&self, name: &ClassName) -> impl DoubleEndedIterator<Item = ClassId> + '_ {
        let [first, last] = [ClassId(0), ClassId(u32::MAX)].map(|id| (name.clone(), id));
        self.gone_names.range(first..=last).map(|(_, id)| *id)
    }

    /// Adds a class, or puts it in place of the one that has its id.
    pub fn insert(&mut self, class: Class) {
        let id = class.id;
        self.take_out(id);
        self.bytes += bytes(&class);
        if class.is_living() {
            self.names.insert_mut(class.name.clone(), id);
            self.living.insert_mut(id, class);
        } else {
            self.gone_names.insert_mut((class.name.clone(), id));
            self.gone.insert_mut(id, class);
        }
        if let Some(delta) = &mut self.delta {
            delta.classes.insert(id);
        }
    }

    /// Changes a class, if there is one with this id, which it keeps.
    pub fn update(&mut self, id: ClassId, change: impl FnOnce(&mut Class)) {
        if let Some(mut class) = self.get(&id).cloned() {
            change(&mut class);
            self.insert(Class { id, ..class });
        }
    }

    fn take_out(&mut self, id: ClassId) {
        let Some(class) = self.get(&id) else { return };
        let (name, is_living) = (class.name.clone(), class.is_living());
        self.bytes -= bytes(class);
        if is_living {
            // A file from outside may give two classes one name, until it is checked.
            if self.names.get(&name) == Some(&id) {
                self.names.remove_mut(&name);
            }
            self.living.remove_mut(&id);
        } else {
            self.gone_names.remove_mut(&(name, id));
            self.gone.remove_mut(&id);
        }
    }

    /// The class that a former name still means.
    pub fn former(&self, name: &ClassName) -> Option<ClassId> {
        self.former_names.get(name).copied()
    }

    /// Names that classes had, in order, and the class that each still means.
    pub fn former_names(&self) -> impl Iterator<Item = (&ClassName, ClassId)> + '_ {
        self.former_names.iter().map(|(name, id)| (name, *id))
    }

    /// Has a former name mean a class.
    pub fn remember(&mut self, name: ClassName, id: ClassId) {
        if !self.former_names.contains_key(&name) {
            self.bytes += former_name_bytes(&name);
        }
        if let Some(delta) = &mut self.delta {
            delta.former_names.insert(name.clone());
        }
        self.former_names.insert_mut(name, id);
    }

    /// Has a former name mean nothing any more.
    pub fn forget(&mut self, name: &ClassName) {
        if self.former_names.remove_mut(name) {
            self.bytes -= former_name_bytes(name);
            if let Some(delta) = &mut self.delta {
                delta.former_names.insert(name.clone());
            }
        }
    }

    /// Memory that they take, in bytes, nearly.
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// What was changed since they were stored; none where they never were.
    pub fn delta(&self) -> Option<&Delta> {
        self.delta.as_ref()
    }

    /// The same, stored: what changes from now on differs from that.
    #[must_use]
    pub fn stored_as(self, base: Base) -> Self {
        let delta = Delta { base, classes: BTreeSet::new(), former_names: BTreeSet::new() };
        Self { delta: Some(delta), ..self }
    }
}

impl Index<&ClassId> for Classes {
    type Output = Class;

    /// # Panics
    /// There never was such a class.
    fn index(&self, id: &ClassId) -> &Class {
        match self.get(id) {
            Some(class) => class,
            None => panic!("there is no class #{id}"),
        }
    }
}

/// Where they are stored is no part of what they are.
impl PartialEq for Classes {
    fn eq(&self, other: &Self) -> bool {
        self.living == other.living && self.gone == other.gone && self.former_names == other.former_names
    }
}

impl Eq for Classes {}

impl FromIterator<Class> for Classes {
    fn from_iter<I: IntoIterator<Item = Class>>(classes: I) -> Self {
        let mut all = Self::default();
        classes.into_iter().for_each(|class| all.insert(class));
        all
    }
}

/// As if no other manifest shared the class. An entry of a tree takes about as much again as what it holds.
fn bytes(class: &Class) -> usize {
    let ids = match &class.state {
        ClassState::Active(leaves) => leaves.len(),
        ClassState::Retired(successors) => successors.len(),
        ClassState::Group | ClassState::Removed => 0,
    };
    let names = 2 * size_of::<(ClassName, ClassId)>() + class.name.as_str().len();
    2 * size_of::<(ClassId, Class)>() + names + 2 * ids * size_of::<ClassId>()
}

fn former_name_bytes(name: &ClassName) -> usize {
    2 * size_of::<(ClassName, ClassId)>() + name.as_str().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taxonomy::LeafId;

    fn name(raw: &str) -> ClassName {
        ClassName::new(raw).unwrap()
    }

    fn class(id: u32, raw: &str, is_living: bool) -> Class {
        let state = if is_living {
            ClassState::Active(BTreeSet::from([LeafId(id)]))
        } else {
            ClassState::Retired(BTreeSet::from([ClassId(1)]))
        };
        Class { id: ClassId(id), name: name(raw), parent: None, state }
    }

    fn ids<'a>(classes: impl Iterator<Item = &'a Class>) -> Vec<u32> {
        classes.map(|class| class.id.0).collect()
    }

    #[test]
    fn classes_are_found_by_id_by_name_and_by_whether_they_are_gone() {
        let all = [(4, "d", true), (1, "a", true), (3, "a", false), (2, "a", false), (5, "e", false)];
        let mut classes: Classes = all.iter().map(|&(id, name, living)| class(id, name, living)).collect();
        assert_eq!(ids(classes.iter()), [1, 2, 3, 4, 5]);
        assert_eq!(ids(classes.range(Bound::Excluded(ClassId(2)))), [3, 4, 5]);
        assert_eq!((ids(classes.living()), ids(classes.gone())), (vec![1, 4], vec![5, 3, 2]));
        assert_eq!(classes.living_by_name(&name("a")).unwrap().id, ClassId(1));
        assert!(classes.gone_by_name(&name("a")).eq([ClassId(2), ClassId(3)]));
        assert!(
            classes.contains(&ClassId(5))
                && !classes.contains(&ClassId(6))
                && classes.get(&ClassId(6)).is_none()
        );

        classes.update(ClassId(1), |class| class.state = ClassState::Removed);
        classes.update(ClassId(4), |class| class.name = name("x"));
        classes.update(ClassId(9), |_| unreachable!("there is none"));
        assert_eq!((classes.len(), ids(classes.living())), (5, vec![4]));
        assert!(classes.living_by_name(&name("a")).is_none() && classes.living_by_name(&name("d")).is_none());
        assert_eq!(classes.living_by_name(&name("x")).unwrap().id, ClassId(4));
        assert!(classes.gone_by_name(&name("a")).eq([1, 2, 3].map(ClassId)));
        let again: Classes = classes.iter().cloned().collect();
        assert_eq!((&again, again.memory_bytes()), (&classes, classes.memory_bytes()));
    }

    #[test]
    fn what_changed_since_they_were_stored_is_known_and_no_part_of_what_they_are() {
        let base = Base { model: 7, revision: Revision(3), steps: 0 };
        let mut classes: Classes = [class(1, "a", true), class(2, "b", true)].into_iter().collect();
        assert!(classes.delta().is_none());
        let before = classes.clone();
        classes.remember(name("old"), ClassId(1));
        classes = classes.stored_as(base);
        let stored = classes.clone();

        classes.update(ClassId(2), |class| class.name = name("c"));
        classes.forget(&name("old"));
        classes.forget(&name("never"));
        classes.remember(name("b"), ClassId(2));
        let delta = classes.delta().unwrap();
        assert_eq!((delta.base, &delta.classes), (base, &BTreeSet::from([ClassId(2)])));
        assert_eq!(delta.former_names, BTreeSet::from([name("b"), name("old")]));
        assert_eq!((classes.former(&name("b")), classes.former(&name("old"))), (Some(ClassId(2)), None));

        // What they were made from stays as it was.
        assert!(stored.former(&name("old")).is_some() && stored.delta().unwrap().classes.is_empty());
        classes.update(ClassId(2), |class| class.name = name("b"));
        classes.forget(&name("b"));
        assert_eq!((&classes, classes.memory_bytes()), (&before, before.memory_bytes()));
    }
}
