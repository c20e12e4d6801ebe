//! Groups over classes, and classes that are taken out.

use std::collections::BTreeSet;

use taxond::{
    error::Error,
    taxonomy::{ClassId, ClassName, ClassState, LeafGroups, LeafId, Manifest, Meaning},
};

use super::{after, strings, undone};

fn name(raw: &str) -> ClassName {
    ClassName::new(raw).unwrap()
}

fn classes<const N: usize>(names: [&str; N]) -> Manifest {
    Manifest::create(&names.map(name), std::time::SystemTime::UNIX_EPOCH).unwrap()
}

fn placed(manifest: &Manifest, class: &str, parent: Option<&str>) -> Manifest {
    manifest.place(class, parent, true, after(manifest)).unwrap()
}

fn removed<const N: usize>(manifest: &Manifest, names: [&str; N]) -> Manifest {
    manifest.remove(&strings(names), after(manifest)).unwrap()
}

/// Two cards and a balance: bank > card > lost, stolen; balance at the top.
fn bank() -> Manifest {
    let start = classes(["balance", "lost", "stolen"]);
    let one = placed(&start, "lost", Some("card"));
    let two = placed(&one, "stolen", Some("card"));
    placed(&two, "card", Some("bank"))
}

fn violation(result: Result<Manifest, Error>) -> (String, String) {
    match result {
        Err(Error::Invalid(violations)) => (violations[0].field.clone(), violations[0].description.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_level_sums_what_lies_below() {
    let bank = bank();
    assert_eq!(bank.depth(), 2);
    let id = |name: &str| bank.find(name).unwrap().id;
    assert_eq!(bank.path(id("lost")), [id("bank"), id("card"), id("lost")]);
    let rows = [LeafId(1), LeafId(2), LeafId(3)];
    let at = |level| {
        let groups = LeafGroups::at_level(&bank, &rows, level).unwrap();
        let sums = groups.sums(&[0.5, 0.25, 0.25]);
        let names = groups.classes.iter().map(|class| bank.classes[class].name.to_string());
        names.zip(sums).collect::<Vec<_>>()
    };
    let pair = |name: &str, p: f64| (name.to_owned(), p);
    assert_eq!(at(0), [pair("balance", 0.5), pair("bank", 0.5)]);
    assert_eq!(at(1), [pair("balance", 0.5), pair("card", 0.5)]);
    let ends = [pair("balance", 0.5), pair("lost", 0.25), pair("stolen", 0.25)];
    assert_eq!((at(2), at(9)), (ends.to_vec(), ends.to_vec()));
}

#[test]
fn a_label_of_a_group_could_be_any_below_it() {
    let bank = bank();
    let below = BTreeSet::from([ClassId(2), ClassId(3)]);
    for label in ["card", "bank"] {
        assert_eq!(bank.meaning(&name(label)), Meaning::Ambiguous(below.clone()), "{label}");
    }
    assert!(bank.has_leaves_of(&classes(["balance", "lost", "stolen"])));
}

#[test]
fn places_that_make_no_sense_are_refused() {
    let bank = bank();
    let place = |class: &str, parent: Option<&str>, create| {
        violation(bank.place(class, parent, create, after(&bank)))
    };
    for (class, parent, create, part) in [
        ("lost", Some("balance"), false, "is a class with leaves of its own"),
        ("bank", Some("card"), false, "'card' is below 'bank' itself"),
        ("card", Some("card"), false, "is the class that is moved"),
        ("lost", Some("card"), false, "'lost' is in class #4 'card' already"),
        ("balance", None, false, "'balance' is at the top already"),
        ("lost", Some("#77"), true, "must not begin with '#'"),
    ] {
        let (field, description) = place(class, parent, create);
        assert_eq!(field, "parent");
        assert!(description.contains(part), "{description}");
    }
    let unknown = bank.place("lost", Some("cards"), false, after(&bank)).unwrap_err();
    assert_eq!(unknown.to_string(), "class 'cards' not found; did you mean 'card'?");
}

#[test]
fn a_group_ends_with_what_is_in_it_and_an_undo_brings_it_back() {
    let bank = bank();
    let once = placed(&bank, "lost", None);
    assert!(once.find("card").is_ok());
    let twice = placed(&once, "stolen", None);
    assert!(twice.find("card").is_err() && twice.find("bank").is_err());
    assert_eq!(twice.depth(), 0);
    assert_eq!(undone(&twice, &once).living().collect::<Vec<_>>(), once.living().collect::<Vec<_>>());
    // Examples under its name do not become a class by themselves.
    assert_eq!(twice.meaning(&name("card")), Meaning::Removed);
    assert_eq!(
        placed(&twice, "lost", Some("card")).meaning(&name("card")),
        Meaning::Ambiguous([ClassId(2)].into())
    );
}

#[test]
fn a_merge_stays_in_the_group_of_all_and_may_be_of_a_group() {
    let bank = bank();
    let merged = bank.merge(&strings(["lost", "stolen"]), "gone", after(&bank)).unwrap();
    assert_eq!(merged.find("gone").unwrap().parent, Some(bank.find("card").unwrap().id));
    let across = bank.merge(&strings(["lost", "balance"]), "both", after(&bank)).unwrap();
    assert_eq!(across.find("both").unwrap().parent, None);
    let whole = bank.merge(&strings(["card"]), "card", after(&bank)).unwrap();
    let card = whole.find("card").unwrap();
    assert_eq!((card.leaves().count(), card.parent), (2, Some(bank.find("bank").unwrap().id)));
    for label in ["lost", "stolen", "card"] {
        assert_eq!(whole.meaning(&name(label)), Meaning::Class(card.id), "{label}");
    }
    let (field, twice) = violation(bank.merge(&strings(["card", "lost"]), "x", after(&bank)));
    assert_eq!((field.as_str(), twice.contains("given twice")), ("classes[1]", true));
}

#[test]
fn a_removed_class_leaves_the_others_in_proportion() {
    let start = classes(["a", "b", "c"]);
    let left = removed(&start, ["c"]);
    assert_eq!(left.classes[&ClassId(3)].state, ClassState::Removed);
    let groups = LeafGroups::new(&left, &[LeafId(1), LeafId(2), LeafId(3)]).unwrap();
    assert_eq!(groups.sums(&[0.25, 0.125, 0.625]), [2.0 / 3.0, 1.0 / 3.0]);
    assert_eq!(left.describe(), "remove c");
    assert_eq!(left.meaning(&name("c")), Meaning::Removed);
    assert!(undone(&left, &start).active().eq(start.active()));
}

#[test]
fn the_name_of_a_removed_class_is_free_for_its_like_only() {
    let left = removed(&classes(["a", "b", "c"]), ["c"]);
    let (field, description) = violation(left.rename("a", "c", after(&left)));
    assert_eq!(field, "new_name");
    assert!(description.contains("a class that was removed"), "{description}");
    assert!(left.merge(&strings(["a", "b"]), "c", after(&left)).is_err());
    assert!(left.place("a", Some("c"), true, after(&left)).is_ok());
}

#[test]
fn what_was_merged_into_a_removed_class_is_removed_with_it() {
    let start = classes(["a", "b", "c", "d"]);
    let merged = start.merge(&strings(["a", "b"]), "ab", after(&start)).unwrap();
    let gone = removed(&merged, ["ab"]);
    assert_eq!(gone.meaning(&name("a")), Meaning::Removed);
    // Undone, the merged name may be either; with one of them gone it is not surely the other.
    let split = removed(&undone(&merged, &start), ["b"]);
    assert_eq!(split.meaning(&name("ab")), Meaning::Ambiguous([ClassId(1)].into()));
}

#[test]
fn two_classes_must_be_left() {
    let bank = bank();
    let remove = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        violation(bank.remove(&names, after(&bank)))
    };
    assert!(remove(&["bank"]).1.contains("1 of 3 classes would be left"));
    assert!(remove(&["bank", "balance"]).1.contains("none of 3 classes would be left"));
    assert!(remove(&[]).1.contains("at least one is needed"));
    assert_eq!(remove(&["lost", "lost"]).0, "classes[1]");
    assert!(
        bank.remove(&strings(["los"]), after(&bank))
            .unwrap_err()
            .to_string()
            .contains("did you mean 'lost'?")
    );
}
