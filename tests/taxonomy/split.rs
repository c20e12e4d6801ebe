//! Splits: parts take new leaves, examples go where they are sent, and undo gives everything back.

use taxond::{
    error::Error,
    taxonomy::{Change, ClassId, ClassState, Edit, LeafId, Manifest, Meaning, Part},
};

use super::{after, label, manifest, undone};

fn parts(names: &[&str]) -> Vec<Part> {
    names.iter().map(|name| Part { name: (*name).to_owned(), ..Part::default() }).collect()
}

fn split(now: &Manifest, class: &str, names: &[&str]) -> Manifest {
    now.split(class, &parts(names), after(now)).unwrap()
}

#[test]
fn the_parts_get_new_leaves_in_the_place_of_the_class() {
    let grouped = manifest(3).place("class 1", Some("cards"), true, after(&manifest(3))).unwrap();
    let next = split(&grouped, "class 1", &["small", "large"]);
    let [small, large] = [ClassId(5), ClassId(6)];
    assert_eq!(next.change, Change::Split { class: ClassId(2), into: vec![small, large] });
    assert_eq!(next.describe(), "split class 1 into small, large");
    assert_eq!(next.classes[&ClassId(2)].state, ClassState::Retired([small, large].into()));
    for (id, leaf) in [(small, LeafId(4)), (large, LeafId(5))] {
        assert_eq!(next.classes[&id].state, ClassState::Active([leaf].into()));
        assert_eq!(next.classes[&id].parent, grouped.classes[&ClassId(2)].parent);
    }
    assert_eq!(next.meaning(&label("class 1")), Meaning::Ambiguous([small, large].into()));
}

#[test]
fn an_example_means_the_part_it_went_to() {
    let first = manifest(3);
    let next = split(&first, "class 1", &["small", "large"]);
    let [small, large] = [ClassId(4), ClassId(5)];
    let class_1 = label("class 1");
    assert_eq!(next.meaning_of(&class_1, &[small]), Meaning::Class(small));
    assert_eq!(next.meaning_of(&class_1, &[]), Meaning::Ambiguous([small, large].into()));
    // A label that was never that of the split class is right about itself.
    assert_eq!(next.meaning_of(&label("class 2"), &[small]), Meaning::Class(ClassId(3)));

    let twice = split(&next, "small", &["tiny", "little"]);
    let tiny = ClassId(6);
    assert_eq!(twice.meaning_of(&class_1, &[small, tiny]), Meaning::Class(tiny));
    assert_eq!(twice.meaning_of(&class_1, &[small]), Meaning::Ambiguous([tiny, ClassId(7)].into()));

    let joined = next.merge(&["small".into(), "class 2".into()], "other", after(&next)).unwrap();
    assert_eq!(joined.meaning_of(&class_1, &[small]), Meaning::Class(ClassId(6)));
    assert_eq!(joined.meaning_of(&class_1, &[large]), Meaning::Class(large));
    let gone = next.remove(&["small".into()], after(&next)).unwrap();
    assert_eq!(gone.meaning_of(&class_1, &[small]), Meaning::Removed);
}

#[test]
fn a_part_may_keep_the_name_and_with_it_what_no_other_takes() {
    let first = manifest(3);
    let next = split(&first, "class 1", &["class 1", "abroad"]);
    let [kept, abroad] = [ClassId(4), ClassId(5)];
    assert_eq!(next.meaning(&label("class 1")), Meaning::Class(kept));
    assert_eq!(next.meaning_of(&label("class 1"), &[abroad]), Meaning::Class(abroad));
}

#[test]
fn undo_brings_the_class_back_with_all_that_went_to_its_parts() {
    let first = manifest(3);
    let next = split(&first, "class 1", &["small", "large"]);
    let back = undone(&next, &first);
    assert!(back.living().eq(first.living()));
    for (name, assigned) in [("class 1", vec![ClassId(4)]), ("small", vec![]), ("large", vec![ClassId(5)])] {
        assert_eq!(back.meaning_of(&label(name), &assigned), Meaning::Class(ClassId(2)), "{name}");
    }
}

#[test]
fn what_cannot_be_split_is_named() {
    let first = manifest(3);
    let grouped = first.place("class 1", Some("cards"), true, after(&first)).unwrap();
    let refused = |class: &str, names: &[&str]| {
        grouped.split(class, &parts(names), after(&grouped)).unwrap_err().to_string()
    };
    assert_eq!(refused("cards", &["a", "b"]), "class_name: 'cards' is a group; split the classes in it");
    assert_eq!(refused("class 0", &["a"]), "parts: must hold 2 to 1000 parts, got 1");
    assert_eq!(refused("class 0", &["a", " a "]), "parts[1].name: 'a' is given twice");
    assert_eq!(
        refused("class 0", &["a", "class 2"]),
        "parts[1].name: 'class 2' is the name of another class (#3)"
    );
    assert!(matches!(first.split("clas 1", &parts(&["a", "b"]), after(&first)), Err(Error::NotFound { .. })));
}

#[test]
fn several_changes_are_one_revision_and_one_undo() {
    let first = manifest(4);
    let edits = [
        Edit::Split { class: "class 1".into(), parts: parts(&["small", "large"]) },
        Edit::Merge { classes: vec!["small".into(), "class 2".into()], into: "mix".into() },
        Edit::Rename { class: "mix".into(), new_name: "mixed".into() },
    ];
    let mut seen = Vec::new();
    let next = first
        .edit_all(&edits, &after(&first), &mut |edit, before, after| {
            seen.push((edit.kind(), before.active().count(), after.active().count()));
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, [("split", 4, 5), ("merge", 5, 4), ("rename", 4, 4)]);
    assert_eq!((next.revision.0, next.parent), (2, Some(first.revision)));
    assert_eq!(next.undo.unwrap().revision, first.revision);
    assert_eq!(
        next.describe(),
        "split class 1 into small, large; merge small, class 2 into mixed; rename mix to mixed"
    );
    let back = undone(&next, &first);
    assert!(back.living().eq(first.living()));
    assert_eq!(back.meaning(&label("mixed")), Meaning::Ambiguous([ClassId(2), ClassId(3)].into()));

    let bad = [edits[0].clone(), Edit::Merge { classes: vec!["large".into()], into: "x".into() }];
    let error = first.edit_all(&bad, &after(&first), &mut |_, _, _| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "changes[1].merge.classes: at least two are needed, got 1");
    assert!(first.edit_all(&[], &after(&first), &mut |_, _, _| Ok(())).is_err());
}
