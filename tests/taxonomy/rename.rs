//! A name is an attribute: what was stored under any name of a class stays the class's.

use std::collections::BTreeSet;

use taxond::{
    error::Error,
    taxonomy::{Change, ClassId, ClassName, Edit, Manifest, Meaning},
};

use super::{after, manifest, partition, strings, two_withdrawals, undone};

fn name(raw: &str) -> ClassName {
    ClassName::new(raw).unwrap()
}

fn renamed(manifest: &Manifest, class: &str, to: &str) -> Manifest {
    manifest.rename(class, to, after(manifest)).unwrap()
}

fn refusal(manifest: &Manifest, class: &str, to: &str) -> String {
    match manifest.rename(class, to, after(manifest)) {
        Err(Error::Invalid(violations)) => {
            assert_eq!(violations[0].field, "new_name");
            violations[0].description.clone()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_name_of_a_class_means_it() {
    let start = two_withdrawals();
    let once = renamed(&start, "balance", "saldo");
    let twice = renamed(&once, "#3", "Kontostand");
    for label in ["balance", "saldo", "Kontostand"] {
        assert_eq!(twice.meaning(&name(label)), Meaning::Class(ClassId(3)), "{label}");
    }
    assert_eq!(
        twice.former_names_of(ClassId(3)).map(ClassName::as_str).collect::<Vec<_>>(),
        ["balance", "saldo"]
    );
    assert!(twice.has_leaves_of(&start));
    assert_eq!(twice.describe(), "rename saldo to Kontostand");
    assert!(matches!(&twice.change, Change::Rename { class: ClassId(3), .. }));
    let back = renamed(&twice, "Kontostand", "balance");
    assert_eq!(back.meaning(&name("Kontostand")), Meaning::Class(ClassId(3)));
    assert_eq!(back.former_names_of(ClassId(3)).count(), 2);
}

#[test]
fn a_former_name_is_no_way_to_call_a_class_but_leads_to_it() {
    let error = renamed(&two_withdrawals(), "balance", "Kontostand").find("balance").unwrap_err();
    assert_eq!(error.to_string(), "class 'balance' not found; did you mean 'Kontostand'?");
}

#[test]
fn a_name_that_means_another_class_is_refused() {
    let start = two_withdrawals();
    assert!(refusal(&start, "balance", "balance").contains("is the name of class #3 already"));
    assert!(refusal(&start, "balance", "取款两万以上").contains("is the name of another class (#2)"));
    assert!(refusal(&start, "balance", " ").contains("empty"));
    let freed = renamed(&start, "balance", "saldo");
    assert!(refusal(&freed, "#1", "balance").contains("a former name of class #3 'saldo'"));
    // So is the name of a merged class, whose examples are its heir's now.
    let merged = start.merge(&strings(["#1", "#2"]), "取款", after(&start)).unwrap();
    assert!(refusal(&merged, "balance", "取款两万以上").contains("class #4 '取款'"));
    let into = merged.merge(&strings(["balance", "取款"]), "取款两万以上", after(&merged)).unwrap();
    assert_eq!(into.meaning(&name("取款两万以上")), Meaning::Class(ClassId(5)));
    assert!(freed.merge(&strings(["#1", "#2"]), "balance", after(&freed)).is_err());
}

#[test]
fn names_follow_a_class_into_a_merge_and_back() {
    let start = two_withdrawals();
    let freed = renamed(&start, "#1", "small");
    let merged = freed.merge(&strings(["small", "balance"]), "both", after(&freed)).unwrap();
    assert_eq!(merged.meaning(&name("取款两万以下")), Meaning::Class(ClassId(4)));
    let back = undone(&merged, &freed);
    assert_eq!(back.meaning(&name("取款两万以下")), Meaning::Class(ClassId(1)));
    assert_eq!(back.meaning(&name("both")), Meaning::Ambiguous(BTreeSet::from([ClassId(1), ClassId(3)])));
}

#[test]
fn what_came_under_the_new_name_stays_the_class_s_after_an_undo() {
    let start = two_withdrawals();
    let back = undone(&renamed(&start, "balance", "saldo"), &start);
    assert!(back.active().eq(start.active()));
    assert_eq!(partition(&back), partition(&start));
    assert_eq!(back.meaning(&name("saldo")), Meaning::Class(ClassId(3)));
    assert_eq!(back.meaning(&name("balance")), Meaning::Class(ClassId(3)));
    // The name is not lost to others for good: it may become that of a merge that takes the class in.
    let merged = back.merge(&strings(["#1", "#3"]), "saldo", after(&back)).unwrap();
    assert_eq!(merged.meaning(&name("saldo")), Meaning::Class(ClassId(4)));
    assert_eq!(merged.former_names_of(ClassId(3)).count(), 0);
}

#[test]
fn a_name_means_who_bore_it_last_although_an_undo_brought_it_back() {
    let start = manifest(4);
    let edit = |now: &Manifest, edit: Edit| now.edit(&edit, after(now)).unwrap();
    let merge = |now: &Manifest, classes, into: &str| {
        edit(now, Edit::Merge { classes: strings(classes), into: into.to_owned() })
    };
    let removed = edit(&start, Edit::Remove { classes: strings(["class 1"]) });
    let again = edit(&removed, Edit::Add { names: strings(["class 1"]) });
    let other = merge(&again, ["class 1", "class 3"], "class 1");
    let back = [&again, &removed, &start].iter().fold(other, |now, target| undone(&now, target));
    assert_eq!(back.meaning(&name("class 1")), Meaning::Class(ClassId(2)));
    // Another class of the name came of "class 3", with a later id.
    let merged = merge(&back, ["class 0", "class 1"], "one of two");
    let into = merged.living_by_name(&name("one of two")).unwrap().id;
    assert_eq!(merged.meaning(&name("class 1")), Meaning::Class(into));
    let gone = edit(&back, Edit::Remove { classes: strings(["class 1"]) });
    assert_eq!(gone.meaning(&name("class 1")), Meaning::Removed);
}
