//! Work for a call ends when nobody waits for it: whatever reads examples asks, and what has reached its commit is finished.

mod store_fixtures;
mod support;

use std::time::Duration;

use store_fixtures::{id, label, open};
use support::{BANK, Daemon};
use taxond::{
    cancel::Cancellation,
    dataset::{Dataset, Filter, Meanings},
    error::{Error, Result},
    model::Preset,
    proto::v1::{self, ClassPart, LabelledText, RenameClassRequest, SplitClassRequest},
    registry::{Model, Registry},
};
use tonic::{Code, Request};

/// Turns a hang into a failure.
const LONG: Duration = Duration::from_secs(120);

fn with_examples(path: &std::path::Path) -> (Dataset, Model) {
    let store = open(path);
    let registry = Registry::open(store.clone()).expect("it opens");
    let model = registry.create_model(&id("bank"), Preset::Default, None).expect("created");
    let dataset = Dataset::open(store, &registry.uids().expect("readable")).expect("it opens");
    let mut session = dataset.add(&model).expect("begun");
    let examples = (0..100).map(|at| (format!("text {at}"), label("card")));
    session.push(examples.chain([("text 7".into(), label("cash"))]).collect()).expect("pushed");
    session.commit(None).expect("committed");
    (dataset, model)
}

#[test]
fn whatever_reads_examples_ends_where_the_call_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let (dataset, model) = with_examples(dir.path());
    let (all, meanings, uid) = (Filter::default(), Meanings::new(None), model.uid);
    let cancel = Cancellation::default();
    let of_call = dataset.until(cancel.clone());
    type Read<'a> = (&'a str, Box<dyn Fn(&Dataset) -> Result<()> + 'a>);
    let conflicting = Filter { conflicting: true, ..Filter::default() };
    let by_id = Filter { ids: [3].into(), ..Filter::default() };
    let reads: [Read<'_>; 8] = [
        ("all", Box::new(|of| of.all(uid).map(drop))),
        ("stats", Box::new(|of| of.stats(uid, &Meanings::new(None)).map(drop))),
        ("conflicts", Box::new(|of| of.conflicts(uid, &meanings, 3).map(drop))),
        ("list", Box::new(|of| of.list(uid, &all, &meanings, 0, 10).map(drop))),
        ("conflicting", Box::new(|of| of.list(uid, &conflicting, &meanings, 0, 10).map(drop))),
        ("by id", Box::new(|of| of.list(uid, &by_id, &meanings, 0, 10).map(drop))),
        ("relabel", Box::new(|of| of.relabel(&model, &all, &meanings, &label("lost")).map(drop))),
        ("delete", Box::new(|of| of.delete(&model, &all, &meanings).map(drop))),
    ];
    for (name, read) in &reads {
        read(&of_call).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    cancel.cancel();
    for (name, read) in &reads {
        assert!(matches!(read(&of_call), Err(Error::Cancelled)), "{name}");
        read(&dataset).unwrap_or_else(|error| panic!("{name} for another call: {error}"));
    }
}

#[test]
fn a_correction_that_is_worked_out_is_committed_whole_although_the_call_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let (dataset, model) = with_examples(dir.path());
    let cancel = Cancellation::default();
    let (filter, meanings) = (Filter::default(), Meanings::new(None));
    let correction =
        dataset.until(cancel.clone()).relabel(&model, &filter, &meanings, &label("lost")).unwrap();
    cancel.cancel();
    let done = correction.commit(None).unwrap();
    assert_eq!((done.relabelled, done.duplicates, done.total), (100, 1, 100));
    assert!(dataset.all(model.uid).unwrap().iter().all(|example| example.label == label("lost")));
}

/// A daemon whose class `balance` holds texts that patterns take minutes to look through.
async fn with_long_texts(path: &std::path::Path) -> Daemon {
    let mut daemon = Daemon::trained(path).await;
    for number in 0..4 {
        let text = |at: usize| format!("{number} {at} {}", "é balance of 12 accounts ".repeat(2300));
        let examples = (0..32).map(|at| LabelledText { text: text(at), label: "balance".into() });
        daemon.add(BANK, examples.collect()).await;
    }
    daemon
}

/// A split by patterns that no text fits, each of which looks at all of it; boundaries of words beyond ASCII keep the regular
/// expressions from their fast ways.
fn long_split() -> SplitClassRequest {
    let pattern = |at: usize| format!(r"(?:\b[a-zé]+\b ){{{}}}\b[0-9]{{5}}\b", 20 + at % 9);
    let part = |name: &str, pattern| ClassPart { name: name.into(), pattern, ..ClassPart::default() };
    let mut parts: Vec<ClassPart> = (0..200).map(|at| part(&format!("part {at}"), pattern(at))).collect();
    parts.push(ClassPart { name: "rest".into(), remaining: true, ..ClassPart::default() });
    SplitClassRequest { model: BANK.into(), class_name: "balance".into(), parts, ..Default::default() }
}

fn rename(to: &str) -> RenameClassRequest {
    RenameClassRequest {
        model: BANK.into(),
        class_name: "card lost".into(),
        new_name: to.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_client_left_or_whose_deadline_passed_makes_way_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = with_long_texts(dir.path()).await;
    // Changes come one after the other: the next one waits until the work for this one has ended.
    let left = tokio::time::timeout(Duration::from_millis(500), daemon.taxonomy.split_class(long_split()));
    assert!(left.await.is_err(), "it takes long");
    tokio::time::timeout(LONG, daemon.taxonomy.rename_class(rename("card gone"))).await.unwrap().unwrap();

    let mut request = Request::new(long_split());
    request.set_timeout(Duration::from_millis(500));
    let code = daemon.taxonomy.split_class(request).await.unwrap_err().code();
    // tonic's client calls what its own clock ends CANCELLED.
    assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code}");
    let back = RenameClassRequest { class_name: "card gone".into(), ..rename("card lost") };
    tokio::time::timeout(LONG, daemon.taxonomy.rename_class(back)).await.unwrap().unwrap();

    // The work of a call that is open when the time to drain is over is cancelled as well.
    let mut taxonomy = daemon.taxonomy.clone();
    let open = tokio::spawn(async move { taxonomy.split_class(long_split()).await.map(drop) });
    let list = v1::ListManifestsRequest { model: BANK.into(), ..Default::default() };
    daemon.taxonomy.list_manifests(list).await.unwrap();
    tokio::time::timeout(LONG, daemon.stop()).await.expect("it stops");
    assert!(open.await.unwrap().is_err());
}
