//! Stored examples are relabelled and removed all at once or not at all, and what the model holds stays exact.

mod store_fixtures;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::SystemTime,
};

use proptest::prelude::*;
use store_fixtures::{id, kind, label, manifest, open};
use taxond::{
    dataset::{Added, Dataset, Deleted, Example, Filter, Meanings, NormalText, Relabelled, Split},
    error::Result,
    model::Preset,
    registry::{Model, Receipt, Registry},
    taxonomy::{ClassId, ClassName},
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

fn pairs(of: &[(&str, &str)]) -> Vec<(String, ClassName)> {
    of.iter().map(|(text, class)| ((*text).to_owned(), label(class))).collect()
}

fn add(dataset: &Dataset, model: &Model, examples: Vec<(String, ClassName)>) -> Added {
    let mut session = dataset.add(model).expect("begun");
    session.push(examples).expect("pushed");
    session.commit(None).expect("committed")
}

fn none() -> Meanings {
    Meanings::new(None)
}

fn ids(of: &[u64]) -> Filter {
    Filter { ids: of.iter().copied().collect(), ..Filter::default() }
}

fn labelled(class: &str) -> Filter {
    Filter { label: Some(label(class)), ..Filter::default() }
}

fn relabel(dataset: &Dataset, model: &Model, filter: &Filter, to: &str) -> Result<Relabelled> {
    dataset.relabel(model, filter, &none(), &label(to))?.commit(None)
}

fn delete(dataset: &Dataset, model: &Model, filter: &Filter) -> Result<Deleted> {
    dataset.delete(model, filter, &none())?.commit(None)
}

/// Ids and labels of all examples.
fn stored(dataset: &Dataset, model: &Model) -> Vec<(u64, String)> {
    let all = dataset.all(model.uid).expect("readable");
    assert_eq!(dataset.count(model.uid).expect("readable"), all.len() as u64);
    all.into_iter().map(|example| (example.id, example.label.to_string())).collect()
}

fn owned(of: &[(u64, &str)]) -> Vec<(u64, String)> {
    of.iter().map(|(id, label)| (*id, (*label).to_owned())).collect()
}

#[test]
fn an_example_that_becomes_the_same_as_another_is_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (registry, dataset, model) = with_model(dir.path());
    let texts = [("lost", "card"), ("LOST ", "cash"), ("lost", "fee"), ("gone", "cash"), ("Gone", "fee")];
    add(&dataset, &model, pairs(&texts));
    let before = dataset.all(model.uid).expect("readable");
    // Of `lost` the one that had the label stays, though it is not the oldest; of `gone` the oldest.
    let told = relabel(&dataset, &model, &ids(&[1, 2, 3, 4, 5]), "cash").expect("relabelled");
    assert_eq!(told, Relabelled { relabelled: 0, duplicates: 3, unchanged: 2, total: 2 });
    assert_eq!(stored(&dataset, &model), owned(&[(2, "cash"), (4, "cash")]));
    let told = relabel(&dataset, &model, &labelled("cash"), "取款").expect("relabelled");
    assert_eq!(told, Relabelled { relabelled: 2, duplicates: 0, unchanged: 0, total: 2 });

    // What went may come again, what came is there.
    let again = [("lost", "cash"), ("lost", "取款"), ("gone", "fee")];
    assert_eq!(
        add(&dataset, &model, pairs(&again)),
        Added { added: 2, duplicates: 1, total: 4, conflicts: 2 }
    );
    let expected = owned(&[(2, "取款"), (4, "取款"), (6, "cash"), (7, "fee")]);
    assert_eq!(stored(&dataset, &model), expected);
    drop((registry, dataset));
    let (_registry, dataset) = reopen(dir.path());
    assert_eq!(stored(&dataset, &model), expected);
    let kept = dataset.all(model.uid).expect("readable").swap_remove(0);
    assert_eq!(kept, Example { label: label("取款"), ..before[1].clone() }, "text, side and time stay");
}

#[test]
fn two_that_become_the_same_are_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_registry, dataset, model) = with_model(dir.path());
    add(&dataset, &model, pairs(&[("lost", "card"), ("Lost", "cash")]));
    let told = relabel(&dataset, &model, &Filter::default(), "fee").expect("relabelled");
    assert_eq!(told, Relabelled { relabelled: 1, duplicates: 1, unchanged: 0, total: 1 });
    assert_eq!(stored(&dataset, &model), owned(&[(1, "fee")]));
}

#[test]
fn ids_are_not_given_out_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (registry, dataset, model) = with_model(dir.path());
    let texts = [("a", "card"), ("b", "card"), ("c", "cash")];
    add(&dataset, &model, pairs(&texts));
    assert_eq!(
        delete(&dataset, &model, &ids(&[1, 3])).expect("deleted"),
        Deleted { deleted: 2, total: 1 },
        "the newest among them"
    );
    assert_eq!(
        add(&dataset, &model, pairs(&texts)),
        Added { added: 2, duplicates: 1, total: 3, conflicts: 0 }
    );
    assert_eq!(stored(&dataset, &model), owned(&[(2, "card"), (4, "card"), (5, "cash")]));
    let gone = delete(&dataset, &model, &Filter::default()).expect("deleted");
    assert_eq!(gone, Deleted { deleted: 3, total: 0 });
    drop((registry, dataset));
    let (_registry, dataset) = reopen(dir.path());
    assert_eq!(
        add(&dataset, &model, pairs(&texts)),
        Added { added: 3, duplicates: 0, total: 3, conflicts: 0 }
    );
    assert_eq!(stored(&dataset, &model)[0].0, 6);
    for missing in [5, 9] {
        let refused = delete(&dataset, &model, &ids(&[6, missing])).expect_err("no example has it");
        assert_eq!(kind(&refused), format!("not found: example models/bank/examples/{missing}"));
    }
    assert_eq!(dataset.count(model.uid).expect("readable"), 3);
}

#[test]
fn filters_take_what_matches_all_of_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_registry, dataset, model) = with_model(dir.path());
    let manifest = manifest(1, "");
    let card = manifest.find("card").expect("there").id;
    let texts = (0..40).flat_map(|n| {
        [
            (format!("Ｌost {n}"), label("card")),
            (format!("lost {n}"), label("取款")),
            (format!("fee {n}"), label("fee")),
        ]
    });
    add(&dataset, &model, texts.collect());
    let meanings = Meanings::new(Some(manifest));
    let count =
        |filter: &Filter| dataset.list(model.uid, filter, &meanings, 0, 1000).expect("readable").len();
    let lost = Filter { contains: NormalText::new(" LOST  3"), ..Filter::default() };
    assert_eq!(count(&lost), 22, "3 and 30 to 39, twice");
    let of_card = Filter { classes: Some(BTreeSet::from([card])), ..lost.clone() };
    assert_eq!(count(&of_card), 11);
    assert_eq!(count(&Filter { classes: Some(BTreeSet::from([ClassId(99)])), ..lost.clone() }), 0);
    assert_eq!(count(&Filter { conflicting: true, ..Filter::default() }), 80);
    assert_eq!(count(&Filter { conflicting: true, ..labelled("fee") }), 0);
    let [train, validation] =
        [Split::Train, Split::Validation].map(|side| count(&Filter { split: Some(side), ..labelled("fee") }));
    assert!(train + validation == 40 && validation > 0);
    assert_eq!(count(&Filter { ids: [1, 2, 3, 900].into(), ..of_card.clone() }), 0);
    assert_eq!(count(&Filter { ids: [1, 10].into(), contains: None, ..of_card.clone() }), 2);
    let told = dataset.delete(&model, &of_card, &meanings).expect("found").commit(None).expect("deleted");
    assert_eq!(told, Deleted { deleted: 11, total: 109 });
    assert_eq!(count(&Filter { conflicting: true, ..Filter::default() }), 58);
}

#[test]
fn texts_of_several_classes_are_found_however_they_are_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_registry, dataset, model) = with_model(dir.path());
    let texts = [
        ("fine", "card"),
        ("Lost", "取款"),
        ("gone", "new"),
        ("lost", "card"),
        ("GONE", "newer"),
        ("lost", "new"),
        ("fine", "loan"),
    ];
    add(&dataset, &model, pairs(&texts));
    let found = |meanings: &Meanings, shown| {
        let found = dataset.conflicts(model.uid, meanings, shown).expect("readable");
        let ids = |examples: Vec<Example>| examples.into_iter().map(|e| e.id).collect::<Vec<_>>();
        (found.texts, found.shown.into_iter().map(ids).collect::<Vec<_>>())
    };
    let all = vec![vec![1, 7], vec![2, 4, 6], vec![3, 5]];
    assert_eq!(found(&none(), 20), (3, all.clone()), "without a manifest each label is a class to be");
    assert_eq!(found(&none(), 1), (3, all[..1].to_vec()));

    // Two labels of one class are no conflict, nor is the label of a class that was taken out.
    let mut manifest = manifest(1, "");
    manifest.classes.remember(label("loan"), ClassId(1));
    assert_eq!(found(&Meanings::new(Some(manifest.clone())), 20), (2, all[1..].to_vec()));
    let mut removed = manifest.classes[&ClassId(1)].clone();
    removed.id = ClassId(3);
    (removed.name, removed.state) = (label("newer"), taxond::taxonomy::ClassState::Removed);
    manifest.classes.insert(removed);
    assert_eq!(found(&Meanings::new(Some(manifest)), 20), (1, vec![vec![2, 4, 6]]));
}

#[test]
fn one_call_writes_at_a_time_and_a_dropped_one_leaves_no_trace() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_registry, dataset, model) = with_model(dir.path());
    add(&dataset, &model, pairs(&[("a", "card"), ("b", "cash")]));
    let before = stored(&dataset, &model);
    let session = dataset.add(&model).expect("begun");
    assert_eq!(kind(&relabel(&dataset, &model, &ids(&[1]), "cash").expect_err("one adds")), "ADDING");
    assert_eq!(kind(&delete(&dataset, &model, &ids(&[1])).expect_err("one adds")), "ADDING");
    drop(session);
    let correction = dataset.delete(&model, &Filter::default(), &none()).expect("found");
    assert_eq!(correction.outcome, Deleted { deleted: 2, total: 0 });
    assert_eq!(kind(&dataset.add(&model).expect_err("one corrects")), "CORRECTING");
    assert_eq!(kind(&delete(&dataset, &model, &ids(&[1])).expect_err("one corrects")), "CORRECTING");
    assert_eq!(stored(&dataset, &model), before);
    drop(correction);
    assert_eq!(stored(&dataset, &model), before);
    assert_eq!(
        add(&dataset, &model, pairs(&[("a", "card")])),
        Added { added: 0, duplicates: 1, total: 2, conflicts: 0 }
    );
    relabel(&dataset, &model, &ids(&[1]), "cash").expect("nobody else writes");
}

#[test]
fn a_correction_cannot_outlive_its_model() {
    let dir = tempfile::tempdir().expect("a folder");
    let (registry, dataset, model) = with_model(dir.path());
    add(&dataset, &model, pairs(&[("a", "card")]));
    let correction = dataset.relabel(&model, &ids(&[1]), &none(), &label("cash")).expect("found");
    registry.delete_model(&model.id, None, None).expect("deleted");
    dataset.delete_all(model.uid).expect("deleted");
    let gone = "not found: model models/bank";
    assert_eq!(kind(&correction.commit(None).expect_err("deleted")), gone);
    assert_eq!(kind(&delete(&dataset, &model, &Filter::default()).expect_err("deleted")), gone);
    assert!(dataset.all(model.uid).expect("readable").is_empty());
}

#[test]
fn the_receipt_comes_with_the_commit_and_holds_its_answer() {
    let dir = tempfile::tempdir().expect("a folder");
    let (registry, dataset, model) = with_model(dir.path());
    add(&dataset, &model, pairs(&[("a", "card")]));
    let receipt = Receipt::new("", "mend-1", [1; 32], SystemTime::now());
    let correction = dataset.relabel(&model, &ids(&[1]), &none(), &label("cash")).expect("found");
    assert_eq!(registry.receipt("", "mend-1").expect("readable"), None);
    let told = correction.commit(Some(receipt)).expect("committed");
    let kept = registry.receipt("", "mend-1").expect("readable").expect("kept");
    assert_eq!(serde_json::from_str::<Relabelled>(&kept.outcome).expect("JSON"), told);
}

#[test]
fn who_reads_sees_all_of_a_correction_or_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_registry, dataset, model) = with_model(dir.path());
    let texts: Vec<_> = (0..2000).map(|n| (format!("text {n}"), label("card"))).collect();
    add(&dataset, &model, texts);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Ordering::Acquire) || reads == 0 {
                let stats = dataset.stats(model.uid, &Meanings::new(None)).expect("readable");
                assert_eq!((stats.train + stats.validation, stats.labels.len()), (2000, 1), "{stats:?}");
                reads += 1;
            }
        });
        for round in 0..20 {
            let to = if round % 2 == 0 { "cash" } else { "card" };
            let told = relabel(&dataset, &model, &Filter::default(), to).expect("relabelled");
            assert_eq!(told.relabelled, 2000);
        }
        done.store(true, Ordering::Release);
        reader.join().expect("every read was whole");
    });
}

/// What may happen to the examples of a model. Texts and labels are numbers; of a text there are two ways to write it.
#[derive(Debug, Clone)]
enum Step {
    Add { examples: Vec<(u8, bool, u8)>, kept: bool },
    Relabel { from: Choice, to: u8, kept: bool },
    Delete { from: Choice, kept: bool },
    Reopen,
}

#[derive(Debug, Clone)]
enum Choice {
    /// Every so many-th of the examples there are.
    Ids(usize),
    Label(u8),
    All,
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![(1..5usize).prop_map(Choice::Ids), (0..4u8).prop_map(Choice::Label), Just(Choice::All)]
}

fn step() -> impl Strategy<Value = Step> {
    let examples = prop::collection::vec((0..6u8, any::<bool>(), 0..4u8), 0..8);
    prop_oneof![
        3 => (examples, prop::bool::weighted(0.8)).prop_map(|(examples, kept)| Step::Add { examples, kept }),
        3 => (choice(), 0..4u8, prop::bool::weighted(0.8))
            .prop_map(|(from, to, kept)| Step::Relabel { from, to, kept }),
        1 => (choice(), prop::bool::weighted(0.8)).prop_map(|(from, kept)| Step::Delete { from, kept }),
        1 => Just(Step::Reopen),
    ]
}

/// What a model should hold: id, text and label of each example, and the newest id ever.
#[derive(Debug, Clone, Default)]
struct Expected {
    examples: Vec<(u64, u8, u8)>,
    newest: u64,
}

impl Expected {
    fn has(&self, text: u8, label: u8) -> bool {
        self.examples.iter().any(|(_, t, l)| (*t, *l) == (text, label))
    }

    fn add(&mut self, examples: &[(u8, bool, u8)]) -> Added {
        let before = self.examples.len();
        let mut conflicts = 0;
        for (text, _, label) in examples {
            if !self.has(*text, *label) {
                conflicts += u64::from(self.examples.iter().any(|(_, of, _)| of == text));
                self.newest += 1;
                self.examples.push((self.newest, *text, *label));
            }
        }
        let added = self.examples.len() - before;
        let (added, duplicates) = (added as u64, (examples.len() - added) as u64);
        Added { added, duplicates, total: self.examples.len() as u64, conflicts }
    }

    /// Takes out those that are chosen.
    fn take(&mut self, choice: &Choice) -> Vec<(u64, u8, u8)> {
        let mut at = 0;
        let chosen = |(_, _, label): &mut (u64, u8, u8)| {
            at += 1;
            match choice {
                Choice::Ids(every) => (at - 1) % every == 0,
                Choice::Label(of) => label == of,
                Choice::All => true,
            }
        };
        self.examples.extract_if(.., chosen).collect()
    }

    fn relabel(&mut self, choice: &Choice, to: u8) -> Relabelled {
        let (kept, moved): (Vec<_>, Vec<_>) =
            self.take(choice).into_iter().partition(|(.., label)| *label == to);
        let mut told = Relabelled { unchanged: kept.len() as u64, ..Relabelled::default() };
        self.examples.extend(kept);
        for (id, text, _) in moved {
            if self.has(text, to) {
                told.duplicates += 1;
            } else {
                told.relabelled += 1;
                self.examples.push((id, text, to));
            }
        }
        self.examples.sort_unstable();
        Relabelled { total: self.examples.len() as u64, ..told }
    }

    fn filter(&self, choice: &Choice) -> Filter {
        match choice {
            Choice::Ids(every) => {
                let ids = self.examples.iter().step_by(*every).map(|(id, ..)| *id).collect();
                Filter { ids, ..Filter::default() }
            }
            Choice::Label(of) => labelled(&format!("label {of}")),
            Choice::All => Filter::default(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_happens_the_model_holds_what_it_should(steps in prop::collection::vec(step(), 1..14)) {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut registry, mut dataset, model) = with_model(dir.path());
        let mut expected = Expected::default();
        for step in steps {
            let mut after = expected.clone();
            match step {
                Step::Add { examples, kept } => {
                    let told = after.add(&examples);
                    let write = |text: u8, loud| if loud { format!(" TEXT  {text}") } else { format!("text {text}") };
                    let examples = examples.into_iter().map(|(text, loud, of)| (write(text, loud), label(&format!("label {of}"))));
                    let mut session = dataset.add(&model).expect("begun");
                    session.push(examples.collect()).expect("pushed");
                    if kept {
                        prop_assert_eq!(session.commit(None).expect("committed"), told);
                        expected = after;
                    }
                }
                Step::Relabel { from, to, kept } => {
                    let told = after.relabel(&from, to);
                    let correction = dataset
                        .relabel(&model, &expected.filter(&from), &none(), &label(&format!("label {to}")))
                        .expect("found");
                    prop_assert_eq!(correction.outcome, told);
                    if kept {
                        correction.commit(None).expect("committed");
                        expected = after;
                    }
                }
                Step::Delete { from, kept } => {
                    let deleted = after.take(&from).len() as u64;
                    let correction = dataset.delete(&model, &expected.filter(&from), &none()).expect("found");
                    prop_assert_eq!(correction.outcome, Deleted { deleted, total: after.examples.len() as u64 });
                    if kept {
                        correction.commit(None).expect("committed");
                        expected = after;
                    }
                }
                Step::Reopen => {
                    drop((registry, dataset));
                    (registry, dataset) = reopen(dir.path());
                }
            }
            let all = dataset.all(model.uid).expect("readable");
            let number = |word: &str| word.rsplit(' ').next().and_then(|digit| digit.parse::<u8>().ok());
            let held: Vec<_> = all
                .iter()
                .map(|e| (e.id, number(&e.text).expect("a number"), number(e.label.as_str()).expect("a number")))
                .collect();
            prop_assert_eq!(held, expected.examples.clone());
            prop_assert_eq!(dataset.count(model.uid).expect("readable"), expected.examples.len() as u64);
        }
        drop(registry);
    }
}
