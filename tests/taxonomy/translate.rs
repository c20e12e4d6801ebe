//! Answers in the classes of another revision: exact where nothing was told apart anew, honest where it was.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use taxond::taxonomy::{Class, ClassId, LeafGroups, LeafId, Manifest, Part, Translation, Unresolved};

use super::{
    after, manifest,
    sequences::{Step, part, steps},
    strings, undone,
};

/// The manifests that steps lead through. Every step whose number is a multiple of `undo_every` undoes the change before.
fn history(classes: usize, steps: &[Step], undo_every: usize) -> Vec<Manifest> {
    let mut history = vec![manifest(classes)];
    for (index, step) in steps.iter().enumerate() {
        let now = history.last().unwrap();
        let undo = now.undo.filter(|_| index % undo_every == undo_every - 1);
        let next = match undo {
            Some(point) => {
                Ok(undone(now, history.iter().find(|past| past.revision == point.revision).unwrap()))
            }
            // What is refused changes nothing.
            None => now.edit(&step.edit(now, index), after(now)),
        };
        history.extend(next);
    }
    history
}

fn split(manifest: &Manifest, class: &str, parts: &[&str]) -> Manifest {
    let parts: Vec<Part> = parts.iter().map(|name| part(name)).collect();
    manifest.split(class, &parts, after(manifest)).unwrap()
}

fn rows(manifest: &Manifest) -> Vec<LeafId> {
    manifest.leaves().into_iter().collect()
}

/// What each class gets when each leaf has its number as probability: by its name, newer ones marked.
fn told(own: &Manifest, wanted: &Manifest, level: Option<u32>) -> BTreeMap<String, f64> {
    let rows = rows(own);
    let probabilities: Vec<f32> = rows.iter().map(|leaf| leaf.0 as f32).collect();
    let groups = Translation::new(own, wanted, &rows, level).unwrap().groups;
    let name = |id: &ClassId| match wanted.classes.get(id).filter(|class| class.is_living()) {
        Some(class) => class.name.to_string(),
        None => format!("new {}", own.classes[id].name),
    };
    groups.classes.iter().map(name).zip(groups.sums(&probabilities)).collect()
}

fn unresolved(own: &Manifest, wanted: &Manifest, level: Option<u32>) -> Vec<Unresolved> {
    Translation::new(own, wanted, &rows(own), level).unwrap().unresolved
}

fn silent(class: u32, answered_under: &[u32]) -> Unresolved {
    let answered_under = answered_under.iter().copied().map(ClassId).collect();
    Unresolved { class: ClassId(class), answered_under, silent: true }
}

fn numbers<const N: usize>(pairs: [(&str, f64); N]) -> BTreeMap<String, f64> {
    pairs.map(|(name, number)| (name.to_owned(), number)).into()
}

proptest! {
    #[test]
    fn in_its_own_revision_a_version_answers_as_ever(classes in 2usize..8, steps in steps(), undo_every in 2usize..9) {
        for now in history(classes, &steps, undo_every) {
            let rows = rows(&now);
            let translation = Translation::new(&now, &now, &rows, None).unwrap();
            prop_assert_eq!(&translation.groups, &LeafGroups::new(&now, &rows).unwrap());
            prop_assert!(translation.unresolved.is_empty());
            for level in 0..=now.depth() {
                let translation = Translation::new(&now, &now, &rows, Some(level)).unwrap();
                prop_assert_eq!(translation.groups, LeafGroups::at_level(&now, &rows, level).unwrap());
            }
        }
    }

    #[test]
    fn merges_renames_moves_and_undos_leave_every_old_answer_as_it_was(
        classes in 2usize..8,
        steps in steps(),
        undo_every in 2usize..9,
        weights in prop::collection::vec(0.01f32..1.0, 8),
    ) {
        let same_leaves = |step: &Step| {
            matches!(step, Step::Merge(_) | Step::Rename(_) | Step::Place(..) | Step::Group(_))
        };
        let steps: Vec<Step> = steps.into_iter().filter(same_leaves).collect();
        let history = history(classes, &steps, undo_every);
        let rows = rows(&history[0]);
        let probabilities = &weights[..classes];
        let bits = |groups: &LeafGroups| -> Vec<u64> {
            groups.sums(probabilities).into_iter().map(f64::to_bits).collect()
        };
        for (own, wanted) in history.iter().flat_map(|own| history.iter().map(move |wanted| (own, wanted))) {
            let levels = (0..=wanted.depth()).map(Some).chain([None]);
            for level in levels {
                let then = match level {
                    Some(level) => LeafGroups::at_level(wanted, &rows, level),
                    None => LeafGroups::new(wanted, &rows),
                };
                let (then, translation) = (then.unwrap(), Translation::new(own, wanted, &rows, level).unwrap());
                prop_assert_eq!(&translation.groups.classes, &then.classes);
                prop_assert_eq!(bits(&translation.groups), bits(&then));
                prop_assert!(translation.unresolved.is_empty(), "{:?}", translation.unresolved);
            }
        }
    }

    #[test]
    fn after_splits_renames_and_moves_every_old_class_answers_with_all_that_came_of_it(
        classes in 2usize..8,
        steps in steps(),
    ) {
        let apart = |step: &Step| !matches!(step, Step::Merge(_) | Step::Remove(_) | Step::Add(_));
        let steps: Vec<Step> = steps.into_iter().filter(apart).collect();
        let history = history(classes, &steps, usize::MAX);
        for (at, own) in history.iter().enumerate() {
            for wanted in &history[..at] {
                let rows = rows(own);
                let Translation { groups, unresolved } = Translation::new(own, wanted, &rows, None).unwrap();
                prop_assert!(unresolved.is_empty(), "{:?}", unresolved);
                let active: Vec<ClassId> = wanted.active().map(|class| class.id).collect();
                prop_assert_eq!(&groups.classes, &active);
                for (leaf, column) in rows.iter().zip(&groups.class_of_row) {
                    let today = own.active().find(|class| class.leaves().any(|own| own == *leaf)).unwrap();
                    let then = groups.classes[column.unwrap() as usize];
                    prop_assert!(own.heirs(then).contains(&today.id));
                }
            }
        }
    }

    #[test]
    fn in_any_revision_the_answer_sums_to_one_and_accounts_for_every_class(
        classes in 2usize..8,
        steps in steps(),
        undo_every in 2usize..9,
        weights in prop::collection::vec(0.01f32..1.0, 7),
    ) {
        let history = history(classes, &steps, undo_every);
        for (own, wanted) in history.iter().flat_map(|own| history.iter().map(move |wanted| (own, wanted))) {
            let rows = rows(own);
            let weight = |leaf: &LeafId| weights[leaf.0 as usize % weights.len()];
            let total: f32 = rows.iter().map(weight).sum();
            let probabilities: Vec<f32> = rows.iter().map(|leaf| weight(leaf) / total).collect();
            for level in (0..=wanted.depth()).map(Some).chain([None]) {
                let Translation { groups, unresolved } = Translation::new(own, wanted, &rows, level).unwrap();
                let sum: f64 = groups.sums(&probabilities).iter().sum();
                prop_assert!((sum - 1.0).abs() < 1e-5, "{}", sum);
                let stands = |id: ClassId| level.map_or(id, |level| wanted.at_level(id, level));
                let all: BTreeSet<ClassId> = wanted.active().map(|class| stands(class.id)).collect();
                let newer = groups.classes.iter().filter(|class| !all.contains(class));
                for class in newer {
                    let living = wanted.classes.get(class).is_some_and(Class::is_living);
                    prop_assert!(own.classes[class].is_active() && !living, "{:?}", class);
                }
                for class in &all {
                    let told = unresolved.iter().find(|unresolved| unresolved.class == *class);
                    let answered = groups.column(*class).is_some();
                    prop_assert_eq!(answered, told.is_none_or(|unresolved| !unresolved.silent));
                }
                prop_assert!(unresolved.iter().all(|unresolved| all.contains(&unresolved.class)));
            }
        }
    }
}

#[test]
fn a_merged_class_is_told_apart_for_those_who_know_its_parts() {
    let first = manifest(3);
    let merged = first.merge(&strings(["class 0", "class 1"]), "both", after(&first)).unwrap();
    assert_eq!(told(&merged, &first, None), numbers([("class 0", 1.0), ("class 1", 2.0), ("class 2", 3.0)]));
    assert_eq!(told(&first, &merged, None), numbers([("both", 3.0), ("class 2", 3.0)]));
}

#[test]
fn the_parts_of_a_split_class_are_the_class() {
    let first = manifest(3);
    let now = split(&first, "class 0", &["left", "right"]);
    assert_eq!(told(&now, &first, None), numbers([("class 0", 9.0), ("class 1", 2.0), ("class 2", 3.0)]));
    assert_eq!(unresolved(&now, &first, None), []);
    // Whatever becomes of the parts.
    let now = now.rename("left", "west", after(&now)).unwrap();
    let now = split(&now, "west", &["north", "south"]);
    let now = now.merge(&strings(["north", "right"]), "rest", after(&now)).unwrap();
    assert_eq!(told(&now, &first, None)["class 0"], 5.0 + 6.0 + 7.0);
    assert_eq!(unresolved(&now, &first, None), []);
    // Some of it taken out is said.
    let now = now.remove(&strings(["south"]), after(&now)).unwrap();
    assert_eq!(told(&now, &first, None)["class 0"], 5.0 + 6.0);
    let some = Unresolved { class: ClassId(1), answered_under: BTreeSet::new(), silent: false };
    assert_eq!(unresolved(&now, &first, None), [some]);
}

#[test]
fn a_version_from_before_a_split_cannot_tell_the_parts() {
    let first = manifest(3);
    let now = split(&first, "class 0", &["left", "right"]);
    assert_eq!(told(&first, &now, None), numbers([("new class 0", 1.0), ("class 1", 2.0), ("class 2", 3.0)]));
    assert_eq!(unresolved(&first, &now, None), [silent(4, &[1]), silent(5, &[1])]);
    // Nor can one after the split was undone.
    let undone = undone(&now, &first);
    assert_eq!(told(&undone, &now, None), told(&first, &now, None));
    assert_eq!(told(&undone, &first, None), told(&first, &first, None));
    assert_eq!(unresolved(&undone, &now, None), [silent(4, &[1]), silent(5, &[1])]);
    // Merged again they can be told.
    let merged = now.merge(&strings(["left", "right"]), "class 0", after(&now)).unwrap();
    assert_eq!(told(&first, &merged, None), numbers([("class 0", 1.0), ("class 1", 2.0), ("class 2", 3.0)]));
    assert_eq!(told(&merged, &first, None), numbers([("class 0", 9.0), ("class 1", 2.0), ("class 2", 3.0)]));
}

#[test]
fn what_comes_of_several_classes_with_new_leaves_is_newer_than_each() {
    let first = manifest(4);
    let merged = first.merge(&strings(["class 0", "class 1"]), "both", after(&first)).unwrap();
    let now = split(&merged, "both", &["left", "right"]);
    let expected = numbers([("new left", 5.0), ("new right", 6.0), ("class 2", 3.0), ("class 3", 4.0)]);
    assert_eq!(told(&now, &first, None), expected);
    assert_eq!(unresolved(&now, &first, None), [silent(1, &[6, 7]), silent(2, &[6, 7])]);
    assert_eq!(told(&now, &merged, None)["both"], 11.0);
    // Where both are in one group, that group answers.
    let placed = first.place("class 0", Some("pair"), true, after(&first)).unwrap();
    let placed = placed.place("class 1", Some("pair"), false, after(&placed)).unwrap();
    let merged = placed.merge(&strings(["class 0", "class 1"]), "both", after(&placed)).unwrap();
    let now = split(&merged, "both", &["left", "right"]);
    assert_eq!(told(&now, &placed, Some(0)), numbers([("pair", 11.0), ("class 2", 3.0), ("class 3", 4.0)]));
    assert_eq!(unresolved(&now, &placed, Some(0)), []);
    assert_eq!(unresolved(&now, &placed, Some(1)).len(), 2);
}

#[test]
fn an_added_class_is_newer_but_in_a_group_that_was_there() {
    let first = manifest(3);
    let grouped = first.place("class 0", Some("group"), true, after(&first)).unwrap();
    let now = grouped.add_named(&strings(["loan"]), after(&grouped)).unwrap();
    let expected = numbers([("class 0", 1.0), ("class 1", 2.0), ("class 2", 3.0), ("new loan", 4.0)]);
    assert_eq!(told(&now, &first, None), expected);
    assert_eq!(unresolved(&now, &first, None), []);
    let now = now.place("loan", Some("group"), false, after(&now)).unwrap();
    assert_eq!(told(&now, &grouped, None), expected);
    let expected = numbers([("group", 5.0), ("class 1", 2.0), ("class 2", 3.0)]);
    assert_eq!(told(&now, &grouped, Some(0)), expected);
}

#[test]
fn a_class_that_was_removed_is_silent_even_if_it_is_added_again() {
    let first = manifest(3);
    let now = first.remove(&strings(["class 2"]), after(&first)).unwrap();
    assert_eq!(told(&now, &first, None), numbers([("class 0", 1.0), ("class 1", 2.0)]));
    assert_eq!(unresolved(&now, &first, None), [silent(3, &[])]);
    let now = now.add_named(&strings(["class 2"]), after(&now)).unwrap();
    assert_eq!(told(&now, &first, None)["new class 2"], 4.0);
    assert_eq!(unresolved(&now, &first, None), [silent(3, &[])]);
    // A class of which a part was removed answers with the other, and that is said.
    let merged = first.merge(&strings(["class 1", "class 2"]), "both", after(&first)).unwrap();
    let apart = undone(&merged, &first);
    let now = apart.remove(&strings(["class 2"]), after(&apart)).unwrap();
    let some = Unresolved { class: ClassId(4), answered_under: BTreeSet::new(), silent: false };
    assert_eq!(unresolved(&now, &merged, None), [some]);
    assert_eq!(told(&now, &merged, None), numbers([("class 0", 1.0), ("both", 2.0)]));
}
