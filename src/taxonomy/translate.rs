//! Answers in the classes of another revision, for clients that know only those.
//!
//! ```text
//! class of a leaf = the class of the wanted revision that owns it, else
//!                   the one class of it that the leaf's class descends from, or lives on in, else
//!                   the leaf's class itself, which is then newer
//! ```
//!
//! So each leaf is counted once and the probabilities sum to 1, and where classes were only merged, renamed or moved
//! the answer is that of the wanted revision to the bit.

use std::collections::{BTreeMap, BTreeSet};

use super::{Class, ClassId, LeafGroups, LeafId, Manifest};
use crate::error::Result;

/// The rows of a head laid into the classes of another revision than the one that it answers in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// How rows become classes: those of the wanted revision and, where it has none for a leaf, newer ones.
    pub groups: LeafGroups,
    /// The classes of the wanted revision that are not answered in, or not with all that they were, ascending.
    pub unresolved: Vec<Unresolved>,
}

/// A class of the wanted revision that is not answered in, or not with all that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The class.
    pub class: ClassId,
    /// The newer classes that hold what it was, each with what other classes were or with nothing but a part. Empty where
    /// it was taken out.
    pub answered_under: BTreeSet<ClassId>,
    /// Whether nothing is answered under the class itself.
    pub silent: bool,
}

/// Which classes of the wanted revision the others come from.
struct Origins<'a> {
    own: &'a Manifest,
    wanted: &'a Manifest,
    /// Owner of each leaf in the wanted revision.
    owners: BTreeMap<LeafId, ClassId>,
    /// For each class that answers, the classes of the wanted revision that it came of or went into.
    kin: BTreeMap<ClassId, BTreeSet<ClassId>>,
    level: Option<u32>,
}

impl Translation {
    /// Lays `wanted` over rows that stand for these leaves and answer in `own`, at a level of `wanted` as in
    /// [`LeafGroups::at_level`], or in the classes themselves.
    ///
    /// # Errors
    /// [`crate::error::Error::Internal`] where an active class of `own` has no row.
    pub fn new(own: &Manifest, wanted: &Manifest, rows: &[LeafId], level: Option<u32>) -> Result<Self> {
        let origins = Origins::new(own, wanted, level);
        let groups = LeafGroups::by_leaf(own, rows, |class, leaf| origins.answers(class, leaf))?;
        let unresolved = origins.unresolved(&groups);
        Ok(Self { groups, unresolved })
    }
}

impl<'a> Origins<'a> {
    fn new(own: &'a Manifest, wanted: &'a Manifest, level: Option<u32>) -> Self {
        let owners = wanted.active().flat_map(|class| class.leaves().map(|leaf| (leaf, class.id))).collect();
        let mut kin: BTreeMap<ClassId, BTreeSet<ClassId>> =
            own.active().map(|class| (class.id, wanted.heirs(class.id))).collect();
        for class in wanted.active() {
            for heir in own.heirs(class.id) {
                kin.entry(heir).or_default().insert(class.id);
            }
        }
        // A class that both revisions have is itself, whatever else went into it.
        for (class, kin) in &mut kin {
            if kin.contains(class) {
                *kin = BTreeSet::from([*class]);
            }
        }
        Self { own, wanted, owners, kin, level }
    }

    /// The class that stands at the level for one of the wanted revision.
    fn stand_in(&self, class: ClassId) -> ClassId {
        self.level.map_or(class, |level| self.wanted.at_level(class, level))
    }

    /// The class that a leaf is counted under.
    fn answers(&self, class: &Class, leaf: LeafId) -> ClassId {
        if let Some(owner) = self.owners.get(&leaf) {
            return self.stand_in(*owner);
        }
        let stand_ins = self.stand_ins(class.id);
        match stand_ins.first() {
            Some(only) if stand_ins.len() == 1 => *only,
            _ => class.id,
        }
    }

    /// The classes at the level that a leaf which came later could be counted under.
    fn stand_ins(&self, class: ClassId) -> BTreeSet<ClassId> {
        match self.kin.get(&class) {
            Some(kin) if !kin.is_empty() => kin.iter().map(|class| self.stand_in(*class)).collect(),
            _ => self.group_above(class).into_iter().collect(),
        }
    }

    /// The group of the wanted revision that stands at the level for a class which is in it now and came of none then.
    fn group_above(&self, class: ClassId) -> Option<ClassId> {
        let mut above = self.own.path(class);
        above.pop();
        let known = |id: &&ClassId| self.wanted.classes.get(id).is_some_and(Class::is_living);
        let group = above.iter().rev().find(known)?;
        self.wanted.path(*group).get(self.level? as usize).copied()
    }

    fn unresolved(&self, groups: &LeafGroups) -> Vec<Unresolved> {
        let is_newer = |class: &ClassId| !self.wanted.classes.get(class).is_some_and(Class::is_living);
        let mut answered_under: BTreeMap<ClassId, BTreeSet<ClassId>> = BTreeMap::new();
        for newer in groups.classes.iter().copied().filter(is_newer) {
            for class in self.kin.get(&newer).into_iter().flatten() {
                answered_under.entry(self.stand_in(*class)).or_default().insert(newer);
            }
        }
        let lost: BTreeSet<ClassId> = self.lost_a_part().map(|class| self.stand_in(class)).collect();
        let all: BTreeSet<ClassId> = self.wanted.active().map(|class| self.stand_in(class.id)).collect();
        let unresolved = all.into_iter().filter_map(|class| {
            let silent = groups.column(class).is_none();
            let under = answered_under.remove(&class).unwrap_or_default();
            let whole = !silent && under.is_empty() && !lost.contains(&class);
            (!whole).then_some(Unresolved { class, answered_under: under, silent })
        });
        unresolved.collect()
    }

    /// The classes of the wanted revision of which some was taken out.
    fn lost_a_part(&self) -> impl Iterator<Item = ClassId> + '_ {
        let today = self.own.leaves();
        let renewed: BTreeSet<ClassId> = self
            .own
            .active()
            .filter(|class| class.leaves().any(|leaf| !self.owners.contains_key(&leaf)))
            .filter_map(|class| self.kin.get(&class.id))
            .flatten()
            .copied()
            .collect();
        self.wanted.active().filter_map(move |class| {
            let gone = class.leaves().any(|leaf| !today.contains(&leaf));
            let lost = self.own.has_lost(class.id) || (gone && !renewed.contains(&class.id));
            lost.then_some(class.id)
        })
    }
}
