//! Random sequences of all changes, undone again: the first classes and the first answers come back, no id is given twice,
//! and the probabilities of every level sum to 1.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use taxond::taxonomy::{
    Change, Class, ClassId, ClassName, Edit, LeafGroups, LeafId, Manifest, Meaning, Part,
};

use super::{after, manifest, undone};

/// A change whose classes are numbers that stand for positions among the living ones.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Merge(Vec<usize>),
    Rename(usize),
    Remove(Vec<usize>),
    Place(usize, Option<usize>),
    Group(usize),
    Add(usize),
    Split(usize, usize),
    /// The first part takes over the name.
    CarveOut(usize),
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let picks = || prop::collection::vec(0usize..64, 1..4);
    let step = prop_oneof![
        picks().prop_map(Step::Merge),
        (0usize..64).prop_map(Step::Rename),
        picks().prop_map(Step::Remove),
        (0usize..64, prop::option::of(0usize..64)).prop_map(|(class, parent)| Step::Place(class, parent)),
        (0usize..64).prop_map(Step::Group),
        (1usize..3).prop_map(Step::Add),
        (0usize..64, 2usize..4).prop_map(|(class, parts)| Step::Split(class, parts)),
        (0usize..64).prop_map(Step::CarveOut),
    ];
    prop::collection::vec(step, 0..24)
}

impl Step {
    pub(super) fn edit(&self, now: &Manifest, index: usize) -> Edit {
        let living: Vec<ClassId> = now.living().map(|class| class.id).collect();
        let reference = |pick: &usize| format!("#{}", living[pick % living.len()]);
        let references =
            |picks: &[usize]| picks.iter().map(reference).collect::<BTreeSet<_>>().into_iter().collect();
        match self {
            Self::Merge(picks) => Edit::Merge { classes: references(picks), into: format!("merged {index}") },
            Self::Rename(pick) => Edit::Rename { class: reference(pick), new_name: format!("named {index}") },
            Self::Remove(picks) => Edit::Remove { classes: references(picks) },
            Self::Place(pick, parent) => Edit::Place {
                class: reference(pick),
                parent: parent.as_ref().map(reference),
                create_parent: false,
            },
            Self::Group(pick) => {
                let parent = Some(format!("group {index}"));
                Edit::Place { class: reference(pick), parent, create_parent: true }
            }
            Self::Split(pick, count) => Edit::Split {
                class: reference(pick),
                parts: (0..*count).map(|at| part(&format!("part {index} {at}"))).collect(),
            },
            Self::CarveOut(pick) => {
                let name = now.classes[&living[pick % living.len()]].name.as_str();
                Edit::Split {
                    class: reference(pick),
                    parts: vec![part(name), part(&format!("rest {index}"))],
                }
            }
            Self::Add(count) => {
                Edit::Add { names: (0..*count).map(|at| format!("added {index} {at}")).collect() }
            }
        }
    }
}

pub(super) fn part(name: &str) -> Part {
    Part { name: name.to_owned(), ..Part::default() }
}

/// Probabilities of rows by their leaf, which need not sum to 1 before they are grouped.
fn row(leaf: LeafId, weights: &[f32]) -> f32 {
    weights[leaf.0 as usize % weights.len()]
}

/// What each living class at each level gets, by name.
fn answers(manifest: &Manifest, leaves: &[LeafId], weights: &[f32]) -> Vec<BTreeMap<String, u64>> {
    let total: f32 = leaves.iter().map(|leaf| row(*leaf, weights)).sum();
    let rows: Vec<f32> = leaves.iter().map(|leaf| row(*leaf, weights) / total).collect();
    let levels = (0..=manifest.depth()).map(|level| {
        let groups = LeafGroups::at_level(manifest, leaves, level).unwrap();
        let sums = groups.sums(&rows);
        assert!((sums.iter().sum::<f64>() - 1.0).abs() < 1e-5, "level {level}: {sums:?}");
        let names = groups.classes.iter().map(|id| manifest.classes[id].name.to_string());
        names.zip(sums.into_iter().map(f64::to_bits)).collect()
    });
    levels.collect()
}

proptest! {
    #[test]
    fn whatever_was_changed_can_be_undone(
        classes in 3usize..10,
        steps in steps(),
        weights in prop::collection::vec(0.01f32..1.0, 7),
    ) {
        let first = manifest(classes);
        let (mut history, mut edits) = (vec![first.clone()], Vec::new());
        for (index, step) in steps.iter().enumerate() {
            let now = history.last().unwrap();
            let edit = step.edit(now, index);
            // What is refused changes nothing.
            let Ok(next) = now.edit(&edit, after(now)) else { continue };
            let merges = matches!(edit, Edit::Merge { .. });
            prop_assert!(merges || next.active().count() >= now.active().count().min(2), "{:?}", edit);
            prop_assert!(next.next_class >= now.next_class && next.next_leaf >= now.next_leaf);
            prop_assert_eq!(next.check(), Ok(()), "{:?}", edit);
            let made = |class: &&Class| !now.classes.contains(&class.id);
            let reused = next.classes.iter().filter(made).any(|class| class.id < now.next_class);
            prop_assert!(!reused, "{edit:?} reused an id");
            let leaves: Vec<LeafId> = next.leaves().into_iter().collect();
            answers(&next, &leaves, &weights);
            edits.push(edit);
            history.push(next);
        }

        let mut now = history.last().unwrap().clone();
        for target in history.iter().rev().skip(1) {
            prop_assert_eq!(now.undo.unwrap().revision, target.revision);
            let before = now.clone();
            now = undone(&now, target);
            prop_assert!(now.living().eq(target.living()), "{:?}", edits);
            prop_assert!(before.classes.iter().all(|class| now.classes.contains(&class.id)), "a class was forgotten");
            prop_assert_eq!(now.check(), Ok(()), "{:?}", edits);
            prop_assert!(now.next_class >= before.next_class && now.next_leaf >= before.next_leaf);
            let leaves: Vec<LeafId> = target.leaves().into_iter().collect();
            prop_assert_eq!(answers(&now, &leaves, &weights), answers(target, &leaves, &weights));
        }
        for class in first.active() {
            prop_assert_eq!(now.meaning(&class.name), Meaning::Class(class.id));
        }
    }

    #[test]
    fn a_label_never_comes_to_mean_a_stranger(classes in 3usize..10, steps in steps()) {
        // The leaves that a label stood for are, while it means a class, all that class's or gone.
        let mut now = manifest(classes);
        for (index, step) in steps.iter().enumerate() {
            let Ok(next) = now.edit(&step.edit(&now, index), after(&now)) else { continue };
            let names: BTreeSet<&ClassName> = now.classes.iter().map(|class| &class.name).collect();
            for name in names.into_iter().chain(now.classes.former_names().map(|(name, _)| name)) {
                let (Meaning::Class(was), Meaning::Class(is)) = (now.meaning(name), next.meaning(name)) else {
                    continue;
                };
                // A part that took over the name of the class it came of.
                if matches!(&next.change, Change::Split { class, into } if *class == was && into.contains(&is)) {
                    continue;
                }
                let owned: BTreeSet<LeafId> = next.classes[&is].leaves().collect();
                let moved = now.classes[&was].leaves().all(|leaf| owned.contains(&leaf));
                prop_assert!(moved, "'{}' came to mean another class", name);
            }
            now = next;
        }
    }
}
