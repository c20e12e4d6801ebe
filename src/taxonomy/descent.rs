//! What classes became, found for all classes of a manifest in one walk. The functions of `lookup` that answer for one
//! class follow its successors each time, which takes the square of the history where every class is asked about.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{ClassId, ClassName, ClassState, LeafId, Manifest};

/// For each class, the classes that retired in its favour.
struct Predecessors(HashMap<ClassId, Vec<ClassId>>);

impl Predecessors {
    fn of(manifest: &Manifest) -> Self {
        let mut predecessors: HashMap<ClassId, Vec<ClassId>> = HashMap::new();
        for class in manifest.classes.gone() {
            if let ClassState::Retired(successors) = &class.state {
                for successor in successors {
                    predecessors.entry(*successor).or_default().push(class.id);
                }
            }
        }
        Self(predecessors)
    }

    /// The classes that lead to any of these, which are not among them unless the successors form a circle.
    fn leading_to(&self, classes: impl IntoIterator<Item = ClassId>) -> HashSet<ClassId> {
        let mut found = HashSet::new();
        let mut open: Vec<ClassId> = classes.into_iter().collect();
        while let Some(id) = open.pop() {
            let before = self.0.get(&id).into_iter().flatten();
            open.extend(before.filter(|class| found.insert(**class)));
        }
        found
    }
}

impl Manifest {
    /// For each retired class of which something lives on, the active classes that it lives on in: [`Manifest::heirs`] of
    /// all of them.
    pub fn heirs_of_retired(&self) -> BTreeMap<ClassId, BTreeSet<ClassId>> {
        let predecessors = Predecessors::of(self);
        let mut heirs: BTreeMap<ClassId, BTreeSet<ClassId>> = BTreeMap::new();
        for heir in self.active() {
            for class in predecessors.leading_to([heir.id]) {
                heirs.entry(class).or_default().insert(heir.id);
            }
        }
        heirs
    }

    /// [`Manifest::former_names_of`] for each class that has any.
    pub fn former_names_by_class(&self) -> BTreeMap<ClassId, Vec<&ClassName>> {
        let today: HashSet<&ClassName> = self.living().map(|class| &class.name).collect();
        let mut names: BTreeMap<ClassId, Vec<&ClassName>> = BTreeMap::new();
        for (name, bearer) in self.classes.former_names().filter(|(name, _)| !today.contains(name)) {
            names.entry(bearer).or_default().push(name);
        }
        names
    }
}

/// Which active classes of an earlier manifest the classes of a later one came of.
pub(super) struct Owners<'a> {
    later: &'a Manifest,
    /// Owner of each leaf in the earlier manifest.
    of_leaf: HashMap<LeafId, ClassId>,
    /// For each class of the later manifest that came of others by merges and splits: those that were active earlier.
    of_descendant: HashMap<ClassId, Vec<ClassId>>,
}

impl<'a> Owners<'a> {
    pub(super) fn new(earlier: &Manifest, later: &'a Manifest) -> Self {
        let of_leaf = earlier.active().flat_map(|class| class.leaves().map(|leaf| (leaf, class.id)));
        let mut of_descendant: HashMap<ClassId, Vec<ClassId>> = HashMap::new();
        for owner in earlier.active() {
            for descendant in later.descendants(owner.id) {
                of_descendant.entry(descendant).or_default().push(owner.id);
            }
        }
        Self { later, of_leaf: of_leaf.collect(), of_descendant }
    }

    /// The active classes of the earlier manifest that a class came of: those that own leaves it lives on in, and those
    /// that it, or what it lives on in, came of by merges and splits.
    pub(super) fn of(&self, id: ClassId) -> BTreeSet<ClassId> {
        let heirs = self.later.heirs(id);
        let leaves = heirs.iter().filter_map(|heir| self.later.classes.get(heir)).flat_map(|of| of.leaves());
        let by_leaf = leaves.filter_map(|leaf| self.of_leaf.get(&leaf));
        let alive = heirs.iter().chain([&id]);
        let by_descent = alive.filter_map(|class| self.of_descendant.get(class)).flatten();
        by_leaf.chain(by_descent).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::taxonomy::{Class, Meaning, Provenance, Revision, VersionNumber};

    fn name(raw: &str) -> ClassName {
        ClassName::new(raw).unwrap()
    }

    fn after(manifest: &Manifest) -> Provenance {
        Provenance {
            revision: Revision(manifest.revision.0 + 1),
            serving: VersionNumber(1),
            reason: String::new(),
            author: String::new(),
            created: SystemTime::UNIX_EPOCH,
        }
    }

    /// Merges that take in one class after the other, renames, a split, a removal and an undo.
    fn history() -> Vec<Manifest> {
        let names: Vec<ClassName> = (0..12).map(|at| name(&format!("class {at}"))).collect();
        let mut history = vec![Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap()];
        let mut merged = "class 0".to_owned();
        for at in 1..8 {
            let now = history.last().unwrap();
            let into = format!("merged {at}");
            let next = now.merge(&[merged, format!("class {at}")], &into, after(now)).unwrap();
            history.push(next);
            merged = into;
        }
        let now = history.last().unwrap().rename("class 8", "renamed", after(history.last().unwrap()));
        history.push(now.unwrap());
        let now = history.last().unwrap();
        history.push(now.remove(&["class 9".to_owned()], after(now)).unwrap());
        let now = history.last().unwrap();
        history.push(now.undo(&history[4], after(now)));
        history
    }

    #[test]
    fn all_classes_at_once_are_told_as_each_alone() {
        for manifest in history() {
            let (heirs, former) = (manifest.heirs_of_retired(), manifest.former_names_by_class());
            for class in manifest.classes.iter() {
                if matches!(class.state, ClassState::Retired(_)) {
                    assert_eq!(heirs.get(&class.id).cloned().unwrap_or_default(), manifest.heirs(class.id));
                }
                let alone: Vec<&ClassName> = manifest.former_names_of(class.id).collect();
                assert_eq!(former.get(&class.id).cloned().unwrap_or_default(), alone);
            }
        }
    }

    /// [`Owners::of`] by its definition, for one class.
    fn owners(earlier: &Manifest, later: &Manifest, id: ClassId) -> BTreeSet<ClassId> {
        let mut alive = later.heirs(id);
        let leaves: BTreeSet<LeafId> = alive.iter().flat_map(|heir| later.classes[heir].leaves()).collect();
        alive.insert(id);
        let came_of = |owner: &&Class| {
            owner.leaves().any(|leaf| leaves.contains(&leaf))
                || !later.descendants(owner.id).is_disjoint(&alive)
        };
        earlier.active().filter(came_of).map(|owner| owner.id).collect()
    }

    #[test]
    fn owners_are_those_of_the_definition() {
        let history = history();
        for (at, later) in history.iter().enumerate() {
            for earlier in &history[..at] {
                let all = Owners::new(earlier, later);
                for Class { id, .. } in later.classes.iter() {
                    assert_eq!(all.of(*id), owners(earlier, later, *id), "class {id} of revision {at}");
                }
            }
        }
    }

    #[test]
    fn successors_that_form_a_circle_end() {
        // No change makes one, but a file from outside may.
        let mut manifest = Manifest::create(&[name("a"), name("b")], SystemTime::UNIX_EPOCH).unwrap();
        for (id, to) in [(8, 9), (9, 8)] {
            let state = ClassState::Retired(BTreeSet::from([ClassId(to)]));
            let class = Class { id: ClassId(id), name: name(&format!("gone {id}")), parent: None, state };
            manifest.classes.insert(class);
        }
        assert!(manifest.heirs_of_retired().is_empty());
        assert_eq!(manifest.meaning(&name("gone 8")), Meaning::Unknown);
    }
}
