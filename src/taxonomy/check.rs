//! What holds for every manifest that changes make, checked for one that comes from outside.

use std::collections::{BTreeMap, BTreeSet};

use super::{Class, ClassId, ClassName, ClassState, LeafId, Manifest};

/// Ids and revisions from outside lie below this, so that many may still follow.
const ID_LIMIT: u32 = 1 << 30;
/// Longest reason or author, in bytes.
const MAX_WORDS_BYTES: usize = 4096;

impl Manifest {
    /// Checks that its parts agree with each other.
    ///
    /// # Errors
    /// What is wrong, with the class, as a sentence without a subject.
    pub fn check(&self) -> Result<(), String> {
        if self.revision.0 == 0 || self.revision.0 > u64::from(ID_LIMIT) {
            return Err(format!("has revision {}, which no manifest has", self.revision));
        }
        if self.next_class.0 > ID_LIMIT || self.next_leaf.0 > ID_LIMIT {
            return Err(format!("has ids up to {} and {}", self.next_class, self.next_leaf));
        }
        if self.reason.len().max(self.author.len()) > MAX_WORDS_BYTES {
            return Err(format!("has a reason or an author of more than {MAX_WORDS_BYTES} bytes"));
        }
        if self.active().next().is_none() {
            return Err("has no active class".to_owned());
        }
        if let Some((name, id)) = self.classes.former_names().find(|(_, id)| !self.classes.contains(id)) {
            return Err(format!("gives the former name '{name}' to class #{id}, which it does not have"));
        }
        self.check_leaves()?;
        self.check_names()?;
        self.classes.iter().try_for_each(|class| self.check_class(class))
    }

    fn check_leaves(&self) -> Result<(), String> {
        let mut owners: BTreeMap<LeafId, ClassId> = BTreeMap::new();
        for (leaf, class) in self.active().flat_map(|class| class.leaves().map(|leaf| (leaf, class.id))) {
            if leaf.0 == 0 || leaf >= self.next_leaf {
                return Err(format!("gives class #{class} leaf {leaf}, which was never given out"));
            }
            if let Some(other) = owners.insert(leaf, class) {
                return Err(format!("gives leaf {leaf} to the classes #{other} and #{class}"));
            }
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), String> {
        let mut bearers: BTreeMap<&ClassName, ClassId> = BTreeMap::new();
        for class in self.living() {
            if let Some(other) = bearers.insert(&class.name, class.id) {
                return Err(format!(
                    "gives the name '{}' to the classes #{other} and #{}",
                    class.name, class.id
                ));
            }
        }
        Ok(())
    }

    fn check_class(&self, class: &Class) -> Result<(), String> {
        let id = class.id;
        if id.0 == 0 || id >= self.next_class {
            return Err(format!("has class #{id}, whose id was never given out"));
        }
        if class.is_living() {
            self.check_place(class)?;
        }
        match &class.state {
            ClassState::Retired(successors) => {
                match successors.iter().find(|heir| **heir == id || !self.classes.contains(heir)) {
                    Some(heir) => Err(format!("retires class #{id} in favour of #{heir}")),
                    None => Ok(()),
                }
            }
            ClassState::Group if !self.living().any(|below| below.parent == Some(id)) => {
                Err(format!("has nothing in group #{id}"))
            }
            ClassState::Active(_) | ClassState::Group | ClassState::Removed => Ok(()),
        }
    }

    /// Follows the groups above a class up to the top.
    fn check_place(&self, class: &Class) -> Result<(), String> {
        let mut passed = BTreeSet::from([class.id]);
        let mut above = class.parent;
        while let Some(group) = above {
            let found = self.classes.get(&group).filter(|group| group.state == ClassState::Group);
            let Some(found) = found.filter(|_| passed.insert(group)) else {
                return Err(format!("puts class #{} into #{group}, which cannot be above it", class.id));
            };
            above = found.parent;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::taxonomy::Revision;

    /// Two classes, the first of them in a group.
    fn sound() -> Manifest {
        let name = |raw| ClassName::new(raw).unwrap();
        let mut manifest = Manifest::create(&[name("card"), name("cash")], SystemTime::UNIX_EPOCH).unwrap();
        let group = Class { id: ClassId(3), name: name("all"), parent: None, state: ClassState::Group };
        manifest.classes.insert(group);
        manifest.next_class = ClassId(4);
        spoil(&mut manifest, 1, |class| class.parent = Some(ClassId(3)));
        manifest
    }

    fn spoil(manifest: &mut Manifest, id: u32, how: impl FnOnce(&mut Class)) {
        manifest.classes.update(ClassId(id), how);
    }

    fn class(manifest: &Manifest, id: u32) -> Class {
        manifest.classes[&ClassId(id)].clone()
    }

    #[test]
    fn parts_that_contradict_each_other_are_named() {
        assert_eq!(sound().check(), Ok(()));
        type Spoil = fn(&mut Manifest);
        let wrong: [(&str, Spoil); 13] = [
            ("has revision 0", |m| m.revision = Revision(0)),
            ("has ids up to", |m| m.next_leaf = LeafId(u32::MAX)),
            ("has a reason", |m| m.reason = "x".repeat(5000)),
            ("class #2, whose id was never", |m| m.next_class = ClassId(2)),
            ("leaf 2, which was never", |m| m.next_leaf = LeafId(2)),
            ("leaf 1 to the classes #1 and #2", |m| {
                let Class { state, .. } = class(m, 1);
                spoil(m, 2, |class| class.state = state);
            }),
            ("'card' to the classes #1 and #2", |m| {
                let Class { name, .. } = class(m, 1);
                spoil(m, 2, |class| class.name = name);
            }),
            ("former name 'cards' to class #9", |m| {
                m.classes.remember(ClassName::new("cards").unwrap(), ClassId(9));
            }),
            ("puts class #2 into #1", |m| spoil(m, 2, |class| class.parent = Some(ClassId(1)))),
            ("into #3, which cannot be above it", |m| spoil(m, 3, |class| class.parent = Some(ClassId(3)))),
            ("nothing in group #3", |m| spoil(m, 1, |class| class.parent = None)),
            ("retires class #2 in favour of #7", |m| {
                spoil(m, 2, |class| class.state = ClassState::Retired(BTreeSet::from([ClassId(7)])));
            }),
            ("no active class", |m| {
                [1, 2].into_iter().for_each(|id| spoil(m, id, |class| class.state = ClassState::Removed));
            }),
        ];
        for (part, make_wrong) in wrong {
            let mut manifest = sound();
            make_wrong(&mut manifest);
            let fault = manifest.check().unwrap_err();
            assert!(fault.contains(part), "{part}: {fault}");
        }
    }
}
