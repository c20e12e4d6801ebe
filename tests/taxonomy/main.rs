//! The algebra of classes and leaves: merge then undo is identity, the order of merges does not matter,
//! probabilities sum to 1, ids are never reused.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod places;
mod rename;
mod sequences;
mod split;
mod translate;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use proptest::prelude::*;
use taxond::{
    error::Error,
    taxonomy::{
        ClassId, ClassName, LeafGroups, LeafId, Manifest, Meaning, Provenance, Revision, VersionNumber,
    },
};

fn manifest(classes: usize) -> Manifest {
    let names: Vec<ClassName> =
        (0..classes).map(|i| ClassName::new(&format!("class {i}")).unwrap()).collect();
    Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap()
}

fn label(name: &str) -> ClassName {
    ClassName::new(name).unwrap()
}

fn after(manifest: &Manifest) -> Provenance {
    Provenance {
        revision: Revision(manifest.revision.0 + 1),
        serving: VersionNumber(manifest.revision.0),
        reason: String::new(),
        author: String::new(),
        created: SystemTime::UNIX_EPOCH,
    }
}

fn undone(now: &Manifest, target: &Manifest) -> Manifest {
    now.undo(target, after(now))
}

/// The active classes without their ids: which name owns which leaves.
fn partition(manifest: &Manifest) -> BTreeMap<String, BTreeSet<LeafId>> {
    manifest.active().map(|class| (class.name.to_string(), class.leaves().collect())).collect()
}

/// Merges a random subset of the active classes, chosen by numbers that stand for positions.
fn merge_some(manifest: &Manifest, picks: &[usize], name: &str) -> Manifest {
    let active: Vec<_> = manifest.active().collect();
    let chosen: BTreeSet<usize> = picks.iter().map(|pick| pick % active.len()).collect();
    let sources: Vec<String> = chosen.iter().map(|&index| format!("#{}", active[index].id)).collect();
    if sources.len() < 2 {
        return manifest.clone();
    }
    manifest.merge(&sources, name, after(manifest)).unwrap()
}

fn merges() -> impl Strategy<Value = (usize, Vec<Vec<usize>>)> {
    (2usize..12, prop::collection::vec(prop::collection::vec(0usize..64, 2..4), 0..8))
}

proptest! {
    #[test]
    fn merge_then_undo_is_identity((classes, steps) in merges()) {
        let mut history = vec![manifest(classes)];
        for (index, picks) in steps.iter().enumerate() {
            let next = merge_some(history.last().unwrap(), picks, &format!("merged {index}"));
            if next.revision != history.last().unwrap().revision {
                history.push(next);
            }
        }
        // Undo everything, newest change first; each undo restores the classes to the letter.
        let mut now = history.pop().unwrap();
        while let Some(target) = history.pop() {
            prop_assert_eq!(now.undo.unwrap().revision, target.revision);
            now = undone(&now, &target);
            prop_assert!(now.active().eq(target.active()));
            prop_assert_eq!(now.undo, target.undo);
        }
        prop_assert!(now.undo.is_none());
    }

    #[test]
    fn the_order_of_merges_does_not_matter(classes in 3usize..12, picks in prop::collection::btree_set(0usize..64, 3..6)) {
        let start = manifest(classes);
        let names: BTreeSet<String> = picks.iter().map(|pick| format!("class {}", pick % classes)).collect();
        prop_assume!(names.len() >= 3);
        let names: Vec<String> = names.into_iter().collect();

        let at_once = start.merge(&names, "all", after(&start)).unwrap();
        let fold = |mut order: Vec<String>| {
            let mut now = start.clone();
            while order.len() > 1 {
                let pair = [order.remove(0), order.remove(0)];
                now = now.merge(&pair, "all", after(&now)).unwrap();
                order.insert(0, "all".into());
            }
            now
        };
        let forwards = fold(names.clone());
        let backwards = fold(names.into_iter().rev().collect());
        prop_assert_eq!(partition(&at_once), partition(&forwards));
        prop_assert_eq!(partition(&forwards), partition(&backwards));
    }

    #[test]
    fn leaves_are_kept_and_probabilities_sum_to_one((classes, steps) in merges(), logits in prop::collection::vec(-20f32..20.0, 12)) {
        let start = manifest(classes);
        let rows: Vec<LeafId> = start.leaves().into_iter().collect();
        let exps: Vec<f32> = logits[..classes].iter().map(|l| l.exp()).collect();
        let total: f32 = exps.iter().sum();
        let probabilities: Vec<f32> = exps.iter().map(|e| e / total).collect();

        let mut now = start.clone();
        for (index, picks) in steps.iter().enumerate() {
            let before = now.clone();
            now = merge_some(&now, picks, &format!("merged {index}"));
            prop_assert_eq!(now.leaves(), start.leaves());

            let sums = LeafGroups::new(&now, &rows).unwrap().sums(&probabilities);
            prop_assert!((sums.iter().sum::<f64>() - 1.0).abs() < 1e-6);
            // A class the merge did not touch keeps its probability to the bit.
            let groups = LeafGroups::new(&now, &rows).unwrap();
            let groups_before = LeafGroups::new(&before, &rows).unwrap();
            let sums_before = groups_before.sums(&probabilities);
            for class in before.active().filter(|class| now.classes[&class.id].is_active()) {
                let column = groups.column(class.id).unwrap() as usize;
                let column_before = groups_before.column(class.id).unwrap() as usize;
                prop_assert_eq!(sums[column], sums_before[column_before]);
            }
        }
    }

    #[test]
    fn ids_are_never_reused((classes, steps) in merges(), undo_every in 1usize..4) {
        let mut now = manifest(classes);
        let mut versions = BTreeMap::from([(now.revision, now.clone())]);
        let mut given: BTreeMap<ClassId, String> =
            now.active().map(|class| (class.id, class.name.to_string())).collect();
        for (index, picks) in steps.iter().enumerate() {
            let before = now.clone();
            now = match now.undo {
                Some(point) if index % undo_every == 0 => undone(&now, &versions[&point.revision]),
                _ => merge_some(&now, picks, &format!("merged {index}")),
            };
            prop_assert!(now.next_class >= before.next_class && now.next_leaf >= before.next_leaf);
            prop_assert!(before.classes.iter().all(|class| now.classes.contains(&class.id)), "a class was forgotten");
            for class in now.classes.iter() {
                let name = given.entry(class.id).or_insert_with(|| class.name.to_string());
                prop_assert_eq!(&*name, class.name.as_str(), "id {} came to name another class", class.id);
            }
            versions.insert(now.revision, now.clone());
        }
    }
}

fn two_withdrawals() -> Manifest {
    let names = ["取款两万以下", "取款两万以上", "balance"].map(|name| ClassName::new(name).unwrap());
    Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap()
}

fn strings<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}

#[test]
fn old_labels_find_the_class_they_went_into() {
    let start = two_withdrawals();
    let merged = start.merge(&strings(["取款两万以下", "取款两万以上"]), "取款", after(&start)).unwrap();
    let old = ClassName::new("取款两万以下").unwrap();
    let new = ClassName::new("取款").unwrap();
    let id = merged.find("取款").unwrap().id;
    assert_eq!(merged.meaning(&old), Meaning::Class(id));
    assert_eq!(merged.meaning(&ClassName::new("loan").unwrap()), Meaning::Unknown);
    assert_eq!(merged.describe(), "merge 取款两万以下, 取款两万以上 into 取款");

    // After the undo the merged name could be either of the two.
    let undone = undone(&merged, &start);
    assert_eq!(undone.meaning(&old), Meaning::Class(ClassId(1)));
    assert_eq!(undone.meaning(&new), Meaning::Ambiguous(BTreeSet::from([ClassId(1), ClassId(2)])));
}

#[test]
fn a_merge_may_keep_the_name_of_one_of_the_merged() {
    let start = two_withdrawals();
    let merged = start.merge(&strings(["取款两万以下", "balance"]), "balance", after(&start)).unwrap();
    let class = merged.find("balance").unwrap();
    assert_eq!(class.id, ClassId(4));
    assert_eq!(class.leaves().count(), 2);
}

#[test]
fn bad_merges_name_the_field_and_the_value() {
    let start = two_withdrawals();
    let cases = [
        (strings(["balance"]), "x", "classes", "got 1"),
        (strings(["balance", "#3"]), "x", "classes[1]", "'#3' is given twice"),
        (
            strings(["取款两万以下", "取款两万以上"]),
            "balance",
            "into",
            "'balance' is the name of another class (#3)",
        ),
        (strings(["取款两万以下", "取款两万以上"]), "  ", "into", "empty"),
    ];
    for (classes, into, field, part) in cases {
        let Err(Error::Invalid(violations)) = start.merge(&classes, into, after(&start)) else {
            panic!("{classes:?} into {into:?} was taken");
        };
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].field, field);
        assert!(violations[0].description.contains(part), "{violations:?}");
    }
}

#[test]
fn an_unknown_class_gets_the_nearest_name() {
    let error = two_withdrawals().find("balanse").unwrap_err();
    assert_eq!(error.to_string(), "class 'balanse' not found; did you mean 'balance'?");
    assert!(two_withdrawals().find("#9").is_err());
}

#[test]
fn rows_of_no_class_are_left_out_and_the_rest_renormalised() {
    let start = two_withdrawals();
    let rows = [LeafId(1), LeafId(2), LeafId(3), LeafId(77)];
    let groups = LeafGroups::new(&start, &rows).unwrap();
    assert_eq!(
        groups.sums(&[0.1, 0.2, 0.2, 0.5]).iter().map(|p| (p * 100.0).round()).collect::<Vec<_>>(),
        [20.0, 40.0, 40.0]
    );
    assert!(LeafGroups::new(&start, &rows[..2]).is_err(), "a class without a row was taken");
}
