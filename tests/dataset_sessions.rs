//! Examples are added all at once or not at all, once each, and keep their side of the split.

mod store_fixtures;

use std::{collections::BTreeSet, path::Path, time::SystemTime};

use store_fixtures::{id, kind, label, open};
use taxond::{
    dataset::{Added, Dataset, Filter, Meanings, SideCounts, Split},
    model::Preset,
    registry::{Model, Receipt, Registry},
    store::{Batch, Store, Tree},
    taxonomy::ClassName,
};

fn reopen(path: &Path) -> (Registry, Dataset) {
    let store = open(path);
    let registry = Registry::open(store.clone()).expect("it opens");
    let uids = registry.uids().expect("readable");
    (registry, Dataset::open(store, &uids).expect("it opens"))
}

fn with_model(path: &Path) -> (Registry, Dataset, Model) {
    let (registry, dataset) = reopen(path);
    let model = registry.create_model(&id("bank"), Preset::Default, None).expect("created");
    (registry, dataset, model)
}

fn texts(numbers: std::ops::Range<usize>, class: &str) -> Vec<(String, ClassName)> {
    numbers.map(|number| (format!("Text {number}"), label(class))).collect()
}

fn add(dataset: &Dataset, model: &Model, examples: Vec<(String, ClassName)>) -> Added {
    let mut session = dataset.add(model).expect("begun");
    session.push(examples).expect("pushed");
    session.commit(None).expect("committed")
}

#[test]
fn a_session_without_a_commit_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (registry, dataset, model) = with_model(dir.path());
    add(&dataset, &model, texts(0..3, "card"));
    let mut abandoned = dataset.add(&model).expect("begun");
    abandoned.push(texts(100..200, "card")).expect("pushed");
    assert_eq!(dataset.count(model.uid).expect("readable"), 3, "not before the commit");
    drop((abandoned, registry, dataset));

    let (_registry, dataset) = reopen(dir.path());
    assert_eq!(dataset.all(model.uid).expect("readable").len(), 3);
    let added = add(&dataset, &model, texts(100..102, "cash"));
    assert_eq!(
        added,
        Added { added: 2, duplicates: 0, total: 5, conflicts: 0 },
        "what was abandoned counts as nobody's duplicate"
    );
    let all = dataset.all(model.uid).expect("readable");
    let ids: Vec<u64> = all.iter().map(|example| example.id).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    assert_eq!(all[4].label, label("cash"), "the abandoned example of this id was overwritten");
}

/// A record of an example, written as a session writes it and left as a crash leaves it.
fn leave_behind(path: &Path, uid: u64, ids: std::ops::RangeInclusive<u64>) {
    let store = open(path);
    let mut batch = Batch::new();
    for id in ids {
        let key = [&b"x"[..], &uid.to_be_bytes(), &id.to_be_bytes()].concat();
        batch.put(Tree::Examples, key, vec![7; 40_000]);
    }
    store.append_durably(batch).expect("written");
}

/// How many examples are stored, committed or not, and their bytes.
fn stored(store: &Store) -> (usize, usize) {
    let examples = store.scan(Tree::Examples, b"x", None).map(|entry| entry.expect("whole").1.len());
    examples.fold((0, 0), |(count, bytes), length| (count + 1, bytes + length))
}

#[test]
fn what_is_not_committed_takes_no_room() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let registry = Registry::open(store.clone()).expect("it opens");
    let dataset = Dataset::open(store.clone(), &registry.uids().expect("readable")).expect("it opens");
    let models = ["bank", "cards", "empty"]
        .map(|name| registry.create_model(&id(name), Preset::Default, None).expect("created"));
    for model in &models[..2] {
        add(&dataset, model, texts(0..2000, "card"));
    }
    let before = stored(&store);
    assert_eq!(before.0, 4000);

    // Dropped before it is committed, while another model is written to.
    let mut refused = dataset.add(&models[0]).expect("begun");
    refused.push(texts(2000..6000, "card")).expect("pushed");
    let mut other = dataset.add(&models[1]).expect("begun");
    other.push(texts(2000..2001, "card")).expect("pushed");
    assert_eq!(stored(&store).0, 8001);
    drop(refused);
    assert_eq!(other.commit(None).expect("committed").total, 2001);
    assert_eq!(stored(&store).0, 4001);
    let before = stored(&store);
    drop((registry, dataset, store));

    // Left by a crash, of a model with examples and of one without.
    leave_behind(dir.path(), models[0].uid, 2001..=2300);
    leave_behind(dir.path(), models[2].uid, 1..=3);
    let store = open(dir.path());
    assert_eq!(stored(&store).0, before.0 + 303);
    drop(store);
    let (registry, dataset) = reopen(dir.path());
    let counts = models.map(|model| dataset.all(model.uid).expect("readable").len());
    assert_eq!(counts, [2000, 2001, 0]);
    drop((registry, dataset));
    assert_eq!(stored(&open(dir.path())), before);
}

#[test]
fn a_committed_session_is_whole_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (registry, dataset, model) = with_model(dir.path());
    let mut session = dataset.add(&model).expect("begun");
    for start in 0..5 {
        session.push(texts(start * 100..start * 100 + 100, "card")).expect("pushed");
    }
    let long = "长 ".repeat(20_000);
    session.push(vec![(long.clone(), label("取款"))]).expect("pushed");
    session.commit(None).expect("committed");
    let before = dataset.all(model.uid).expect("readable");
    drop((registry, dataset));

    let (_registry, dataset) = reopen(dir.path());
    let after = dataset.all(model.uid).expect("readable");
    assert_eq!(after, before);
    assert_eq!((after.len(), after[500].text.as_str()), (501, long.as_str()));
    assert!(after.iter().all(|example| example.split == Split::of(&example.text)));
}

#[test]
fn the_same_text_with_the_same_label_is_stored_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let (registry, dataset, model) = with_model(dir.path());
    assert_eq!(
        add(&dataset, &model, texts(0..10, "card")),
        Added { added: 10, duplicates: 0, total: 10, conflicts: 0 }
    );
    let mut again = texts(5..12, "card");
    again.extend([("TEXT  11".to_owned(), label("card")), ("Text 11".to_owned(), label("cash"))]);
    let expected = Added { added: 3, duplicates: 6, total: 13, conflicts: 1 };
    let mut abandoned = dataset.add(&model).expect("begun");
    abandoned.push(again.clone()).expect("pushed");
    drop(abandoned);
    assert_eq!(add(&dataset, &model, again.clone()), expected);
    drop((registry, dataset));

    let (_registry, dataset) = reopen(dir.path());
    assert_eq!(add(&dataset, &model, again), Added { added: 0, duplicates: 9, total: 13, conflicts: 0 });
}

#[test]
fn one_session_a_model_at_a_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let (registry, dataset, model) = with_model(dir.path());
    let other = registry.create_model(&id("weather"), Preset::Default, None).expect("created");
    let session = dataset.add(&model).expect("begun");
    assert_eq!(kind(&dataset.add(&model).expect_err("one runs")), "ADDING");
    add(&dataset, &other, texts(0..1, "sun"));
    drop(session);
    add(&dataset, &model, texts(0..1, "card"));
    assert_eq!(dataset.count(other.uid).expect("readable"), 1);
}

#[test]
fn a_session_cannot_outlive_its_model() {
    let dir = tempfile::tempdir().expect("a folder");
    let (registry, dataset, model) = with_model(dir.path());
    let mut session = dataset.add(&model).expect("begun");
    session.push(texts(0..3, "card")).expect("pushed");
    registry.delete_model(&model.id, None, None).expect("deleted");
    dataset.delete_all(model.uid).expect("deleted");
    let gone = "not found: model models/bank";
    assert_eq!(kind(&session.push(texts(3..4, "card")).expect_err("deleted")), gone);
    assert_eq!(kind(&session.commit(None).expect_err("deleted")), gone);
    assert_eq!(kind(&dataset.add(&model).expect_err("deleted")), gone);
    assert!(dataset.all(model.uid).expect("readable").is_empty());
}

#[test]
fn lists_page_and_filter_and_counts_agree() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_registry, dataset, model) = with_model(dir.path());
    add(&dataset, &model, texts(0..60, "card"));
    add(&dataset, &model, texts(60..100, "cash"));
    let ids = |label: Option<&ClassName>, after, limit| -> Vec<u64> {
        let filter = Filter { label: label.cloned(), ..Filter::default() };
        let page = dataset.list(model.uid, &filter, &Meanings::new(None), after, limit).expect("readable");
        page.into_iter().map(|example| example.id).collect()
    };
    assert_eq!(ids(None, 0, 3), [1, 2, 3]);
    assert_eq!(ids(None, 98, 10), [99, 100]);
    assert_eq!(ids(Some(&label("cash")), 0, 2), [61, 62]);
    assert_eq!(ids(Some(&label("card")), 59, 10), [60]);
    assert_eq!(ids(Some(&label("none")), 0, 10), [0; 0]);

    let stats = dataset.stats(model.uid, &Meanings::new(None)).expect("readable");
    let all = dataset.all(model.uid).expect("readable");
    let on = |class: &str, split| {
        all.iter().filter(|e| e.label == label(class) && e.split == split).count() as u64
    };
    for class in ["card", "cash"] {
        let counted = SideCounts { train: on(class, Split::Train), validation: on(class, Split::Validation) };
        assert_eq!(stats.labels[&label(class)], counted);
        assert!(counted.validation > 0, "a hundred texts have some on either side");
    }
    assert_eq!(stats.train + stats.validation, 100);
    assert_eq!(stats.small_classes, []);
    assert_eq!(
        stats.labels.keys().cloned().collect::<BTreeSet<_>>(),
        BTreeSet::from([label("card"), label("cash")])
    );
}

#[test]
fn the_receipt_comes_with_the_commit_and_holds_its_answer() {
    let dir = tempfile::tempdir().expect("a folder");
    let (registry, dataset, model) = with_model(dir.path());
    let receipt = || Receipt::new("", "load-1", [1; 32], SystemTime::now());
    let mut session = dataset.add(&model).expect("begun");
    session.push(texts(0..3, "card")).expect("pushed");
    assert_eq!(registry.receipt("", "load-1").expect("readable"), None);
    let added = session.commit(Some(receipt())).expect("committed");
    let kept = registry.receipt("", "load-1").expect("readable").expect("kept");
    assert_eq!(serde_json::from_str::<Added>(&kept.outcome).expect("JSON"), added);
}
