//! Groups: classes over classes, to any depth. The active classes are the ends of the branches.

use std::collections::BTreeSet;

use super::{Class, ClassId, ClassState, Manifest};

impl Manifest {
    /// The groups over a class, from the top down, then the class itself.
    pub fn path(&self, id: ClassId) -> Vec<ClassId> {
        let mut path = vec![id];
        let mut above = self.classes.get(&id).and_then(|class| class.parent);
        // A parent that came twice would be a cycle, which no change makes.
        while let Some(parent) = above.filter(|parent| !path.contains(parent)) {
            path.push(parent);
            above = self.classes.get(&parent).and_then(|class| class.parent);
        }
        path.reverse();
        path
    }

    /// The class that stands for an active one at a level: the group so many steps below the top or, where the class is
    /// not so deep, the class itself.
    pub fn at_level(&self, id: ClassId, level: u32) -> ClassId {
        let path = self.path(id);
        path.get(level as usize).copied().unwrap_or(id)
    }

    /// The level from which on every active class stands for itself; 0 without groups.
    pub fn depth(&self) -> u32 {
        let depths = self.active().map(|class| self.path(class.id).len() - 1);
        depths.max().and_then(|depth| u32::try_from(depth).ok()).unwrap_or(0)
    }

    /// A living class and the living classes under it, groups and active ones.
    pub fn subtree(&self, id: ClassId) -> BTreeSet<ClassId> {
        if self.is_active(id) {
            return BTreeSet::from([id]);
        }
        let within = |class: &&Class| class.id == id || self.path(class.id).contains(&id);
        self.living().filter(within).map(|class| class.id).collect()
    }

    /// The active classes at or under a class.
    pub fn below(&self, id: ClassId) -> BTreeSet<ClassId> {
        let subtree = self.subtree(id).into_iter();
        subtree.filter(|id| self.classes.get(id).is_some_and(Class::is_active)).collect()
    }

    /// The deepest group that all of these classes are in; none if that is the top.
    pub(super) fn common_parent(&self, classes: &[ClassId]) -> Option<ClassId> {
        let above = |id: &ClassId| {
            let mut path = self.path(*id);
            path.pop();
            path
        };
        let mut paths = classes.iter().map(above);
        let mut common = paths.next().unwrap_or_default();
        for path in paths {
            let same = common.iter().zip(&path).take_while(|(a, b)| a == b).count();
            common.truncate(same);
        }
        common.pop()
    }

    /// Ends the groups that nothing is left in: in favour of an heir, or as removed.
    pub(super) fn end_empty_groups(&mut self, heir: Option<ClassId>) {
        loop {
            let parents: BTreeSet<ClassId> = self.living().filter_map(|class| class.parent).collect();
            let empty = |class: &&Class| class.state == ClassState::Group && !parents.contains(&class.id);
            let ended: Vec<ClassId> = self.living().filter(empty).map(|class| class.id).collect();
            if ended.is_empty() {
                return;
            }
            let state = heir.map_or(ClassState::Removed, |heir| ClassState::Retired(BTreeSet::from([heir])));
            for group in ended {
                self.classes.update(group, |class| class.state = state.clone());
            }
        }
    }
}
