//! What versions cost in the store, and what is left of models and runs that are gone.

mod store_fixtures;

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use store_fixtures::{checkpoint, id, kind, label, manifest, open, publication, reopen};
use taxond::{
    dataset::Dataset,
    error::Error,
    model::{Array, Preset},
    registry::{
        AliasName, Epoch, JobRecord, JobState, LostClass, Mode, Origin, Publication, RECEIPT_LIFETIME,
        Receipt, Registry, RejectionPoint, Report, Retention, Selector, Tensors,
    },
    store::{Batch, Store, Tree},
    taxonomy::{Edit, LeafId, Manifest, Provenance, Revision, VersionNumber},
};

fn blobs(store: &Store) -> usize {
    store.scan(Tree::Chunks, &[], None).collect::<Result<Vec<_>, _>>().expect("readable").len()
}

fn files_beside_the_log(path: &Path) -> Vec<String> {
    let blobs = path.join("db/blobs");
    let entries = fs::read_dir(blobs).into_iter().flatten();
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

fn receipt(request_id: &str, created: SystemTime) -> Option<Receipt> {
    Some(Receipt::new("", request_id, [7; 32], created))
}

fn epoch(epoch: u32) -> Epoch {
    Epoch {
        epoch,
        step: u64::from(epoch) * 10,
        train_loss: 0.5,
        learning_rate: 1e-3,
        validation_accuracy: (epoch > 1).then_some(0.75),
        seconds: f64::from(epoch),
        validation_loss: (epoch > 2).then_some(0.0),
    }
}

#[test]
fn manifests_are_the_same_after_a_restart_however_they_are_stored() {
    const REVISIONS: u64 = 150;
    let dir = tempfile::tempdir().expect("a folder");
    let registry = reopen(dir.path());
    let bank = id("bank");
    registry.create_model(&bank, Preset::Default, None).expect("created");
    let first = publication(&bank, Tensors::New(checkpoint(1, 1, 8)), Some(manifest(1, "")));
    registry.publish(first).expect("published");
    for revision in 2..=REVISIONS {
        let now = registry.manifest(&bank, Revision(revision - 1)).expect("stored");
        let provenance = Provenance {
            revision: Revision(revision),
            serving: VersionNumber(revision - 1),
            reason: String::new(),
            author: String::new(),
            created: SystemTime::UNIX_EPOCH,
        };
        let edit = Edit::Rename { class: "#1".to_owned(), new_name: format!("name {revision}") };
        let next = now.edit(&edit, provenance).expect("renamed");
        registry.publish(publication(&bank, Tensors::Same(VersionNumber(1)), Some(next))).expect("published");
    }
    let manifests = |registry: &Registry| registry.manifests(&bank, None, usize::MAX).expect("readable");
    let before: Vec<Manifest> = manifests(&registry);
    assert!(before.iter().map(|manifest| manifest.revision.0).eq((1..=REVISIONS).rev()));
    drop(registry);

    // Nothing of them is in memory any more, whichever is asked for first.
    assert_eq!(manifests(&reopen(dir.path())), before);
    for manifest in before.iter().step_by(37) {
        let registry = reopen(dir.path());
        assert_eq!(registry.manifest(&bank, manifest.revision).expect("stored"), *manifest);
    }
}

#[test]
fn equal_tensors_are_stored_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let registry = Registry::open(store.clone()).expect("it opens");
    let (bank, copy) = (id("bank"), id("copy"));
    registry.create_model(&bank, Preset::Default, None).expect("created");
    registry.create_model(&copy, Preset::Default, None).expect("created");

    let first = publication(&bank, Tensors::New(checkpoint(1, 1, 50_000)), Some(manifest(1, "")));
    let version = registry.publish(first).expect("published");
    assert_eq!((version.parameter_count, version.size_bytes), (50_012, 200_048));
    assert_eq!(blobs(&store), 3, "vocabulary, body, head");

    let new_head = publication(&bank, Tensors::New(checkpoint(1, 2, 50_000)), None);
    registry.publish(new_head).expect("published");
    assert_eq!(blobs(&store), 4, "a new head over a frozen body costs the head");

    registry.publish(publication(&bank, Tensors::Same(version.number), None)).expect("published");
    let other_model = publication(&copy, Tensors::New(checkpoint(1, 2, 50_000)), Some(manifest(1, "")));
    registry.publish(other_model).expect("published");
    assert_eq!(blobs(&store), 4);

    registry.delete_model(&bank, None, None).expect("deleted");
    assert_eq!(blobs(&store), 3, "what the other model shares stays");
    let kept = registry.checkpoint(&copy, VersionNumber(1)).expect("whole");
    assert_eq!(kept, checkpoint(1, 2, 50_000));
    registry.delete_model(&copy, None, None).expect("deleted");
    assert_eq!(blobs(&store), 0);
}

#[test]
fn of_a_matrix_the_columns_that_changed_are_stored() {
    const ROWS: usize = 4096;
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let registry = Registry::open(store.clone()).expect("it opens");
    let bank = id("bank");
    registry.create_model(&bank, Preset::Default, None).expect("created");
    // A matrix of so many columns, each of its own seed.
    let with = |columns: &[u32]| {
        let numbers =
            (0..ROWS as u32).flat_map(|row| columns.iter().map(move |seed| (row * 7 + seed) as f32));
        let numbers: Vec<f32> = numbers.collect();
        let mut made = checkpoint(1, 1, 1);
        made.tensors.insert("body".to_owned(), Array::new([ROWS, columns.len()], numbers));
        made
    };
    let bytes = || -> usize {
        let values = store.scan(Tree::Chunks, &[], None);
        values.map(|entry| entry.expect("readable").1.len()).sum()
    };
    let column = ROWS * size_of::<f32>();
    let versions = [
        (&[1, 2, 3, 4, 5, 6][..], 6),
        // One differs and one is new, then another one as well: both against the first.
        (&[1, 2, 30, 4, 5, 6, 7], 2),
        (&[1, 2, 30, 40, 5, 6, 7], 3),
        // More than half, or another order of things: all of them.
        (&[10, 20, 30, 40, 5, 6, 7], 7),
        (&[1, 2, 3, 4], 4),
    ];
    let mut held = Vec::new();
    for (parent, (columns, stored)) in (0..).map(VersionNumber).zip(versions) {
        let before = bytes();
        let made = publication(&bank, Tensors::New(with(columns)), (parent.0 == 0).then(|| manifest(1, "")));
        let made = Publication { parent: (parent.0 > 0).then_some(parent), ..made };
        let version = registry.publish(made).expect("published");
        let grown = bytes() - before;
        assert!((stored * column..(stored + 1) * column).contains(&grown), "{columns:?}: {grown}");
        assert_eq!(version.size_bytes as usize, columns.len() * column + 12 * size_of::<f32>());
        // As the versions are that answer.
        held.push(registry.checkpoint(&bank, version.number).expect("whole"));
    }
    drop(held);
    let check = |registry: &Registry, numbers: std::ops::Range<usize>| {
        for at in numbers {
            let read = registry.checkpoint(&bank, VersionNumber(at as u64 + 1)).expect("whole");
            assert_eq!(read, with(versions[at].0), "version {}", at + 1);
        }
    };
    check(&registry, 0..5);
    drop((registry, store));
    let registry = reopen(dir.path());
    check(&registry, 0..5);
    // What another version is stored against stays.
    registry.delete_version(&bank, VersionNumber(1), false, None).expect("deleted");
    check(&registry, 1..5);
    drop(registry);
    check(&reopen(dir.path()), 1..5);
}

#[test]
fn no_version_is_so_large_that_sled_puts_it_beside_its_log() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let registry = Registry::open(store.clone()).expect("it opens");
    let dataset = Dataset::open(store, &registry.uids().expect("readable")).expect("it opens");
    let bank = id("bank");
    let model = registry.create_model(&bank, Preset::Default, None).expect("created");
    for number in 1..=50 {
        let tensors = Tensors::New(checkpoint(number, number, 1_250_000));
        let reason = "r".repeat(300_000);
        registry
            .publish(publication(&bank, tensors, Some(manifest(number.into(), &reason))))
            .expect("published");
    }
    let mut session = dataset.add(&model).expect("begun");
    let long = |number: usize| format!("{number} {}", "long ".repeat(13_000));
    session.push((0..40).map(|number| (long(number), label("card"))).collect()).expect("pushed");
    session.commit(None).expect("committed");

    assert_eq!(files_beside_the_log(dir.path()), Vec::<String>::new());
    drop((registry, dataset));
    let registry = reopen(dir.path());
    assert_eq!(files_beside_the_log(dir.path()), Vec::<String>::new());
    let last = registry.checkpoint(&bank, VersionNumber(50)).expect("whole");
    assert_eq!(last, checkpoint(50, 50, 1_250_000));
    assert_eq!(registry.manifests(&bank, None, 1).expect("whole")[0].reason.len(), 300_000);
}

#[test]
fn a_version_comes_back_with_all_that_is_known_of_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let registry = reopen(dir.path());
    let bank = id("bank");
    registry.create_model(&bank, Preset::Seed, None).expect("created");
    let job = registry.new_job(&bank, "", None).expect("accepted");
    let mut all = publication(&bank, Tensors::New(checkpoint(1, 1, 10)), Some(manifest(1, "first")));
    all.parent = Some(VersionNumber(4));
    all.origin = Origin::Instant;
    all.mode = Some(Mode::Transfer);
    all.job = Some(job.id);
    all.report = Some(Report {
        train_examples: 1,
        validation_examples: 2,
        validation_accuracy: Some(0.0),
        validation_macro_f1: None,
        replaced_validation_accuracy: Some(0.25),
        train_loss: 1.5,
        epochs: 3,
        best_epoch: 2,
        device: "cuda:1 (a device)".into(),
        seed: u64::MAX,
        seconds: 0.125,
        gate: "promoted".to_owned(),
        curve: (1..=3).map(epoch).collect(),
        calibration_error: Some(0.0),
        rejection: vec![RejectionPoint { min_confidence: 0.5, precision: 0.75, coverage: 1.0 }],
        unlearnt: vec![LeafId(2)],
        stage: "refit".into(),
        lost: vec![LostClass { name: "取款".into(), f1_before: 0.9, f1_after: 0.5 }],
    });
    let published = registry.publish(all).expect("published");
    drop(registry);

    let registry = reopen(dir.path());
    assert_eq!(registry.version(&bank, published.number).expect("kept"), published);
    assert_eq!(registry.resolve(&bank, &Selector::Serving).expect("promoted"), published.number);
    assert_eq!(published.report.expect("kept").validation_accuracy, Some(0.0), "zero is not absent");
}

#[test]
fn a_version_that_cannot_answer_in_its_manifest_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let registry = reopen(dir.path());
    let bank = id("bank");
    registry.create_model(&bank, Preset::Default, None).expect("created");
    let mut tensors = checkpoint(1, 1, 10);
    tensors.leaves = vec![LeafId(1), LeafId(9)];
    let before = registry.model(&bank).expect("there");
    let refused = registry.publish(publication(&bank, Tensors::New(tensors), Some(manifest(1, ""))));
    assert!(matches!(refused.expect_err("leaf 2 has no row"), Error::Internal(_)));
    let skipped =
        registry.publish(publication(&bank, Tensors::New(checkpoint(1, 1, 10)), Some(manifest(2, ""))));
    assert_eq!(kind(&skipped.expect_err("revision 1 comes first")), "REVISION_TAKEN");
    assert_eq!(registry.model(&bank).expect("there"), before);
    assert!(registry.manifests(&bank, None, 10).expect("readable").is_empty());
}

#[test]
fn a_model_made_again_sees_nothing_of_the_old_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let registry = Registry::open(store.clone()).expect("it opens");
    let dataset = Dataset::open(store, &registry.uids().expect("readable")).expect("it opens");
    let bank = id("bank");
    let old = registry.create_model(&bank, Preset::Default, None).expect("created");
    let job = registry.new_job(&bank, "", None).expect("accepted");
    registry
        .publish(publication(&bank, Tensors::New(checkpoint(1, 1, 10)), Some(manifest(1, ""))))
        .expect("published");
    let mut session = dataset.add(&old).expect("begun");
    session.push(vec![("lost card".to_owned(), label("card"))]).expect("pushed");
    session.commit(None).expect("committed");
    registry.delete_model(&bank, Some(2), None).expect("deleted");
    dataset.delete_all(old.uid).expect("deleted");

    let new = registry.create_model(&bank, Preset::Default, None).expect("created");
    assert_ne!(new.uid, old.uid);
    assert_eq!(kind(&registry.resolve(&bank, &Selector::Serving).expect_err("untrained")), "NO_VERSION");
    assert_eq!(dataset.count(new.uid).expect("readable"), 0);
    assert!(registry.jobs(Some(&bank), None, 10).expect("readable").is_empty());
    let mut late = publication(&bank, Tensors::New(checkpoint(1, 1, 10)), Some(manifest(1, "")));
    late.job_record = Some(job);
    let refused = registry.publish(late).expect_err("its job went with the old model");
    assert_eq!(kind(&refused), "not found: job jobs/1");
}

#[test]
fn what_a_crash_leaves_of_a_deletion_goes_at_the_next_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let registry = Registry::open(store.clone()).expect("it opens");
    let dataset = Dataset::open(store.clone(), &registry.uids().expect("readable")).expect("it opens");
    for name in ["bank", "weather"] {
        let model = registry.create_model(&id(name), Preset::Default, None).expect("created");
        let body = u32::from(name == "bank");
        registry
            .publish(publication(&model.id, Tensors::New(checkpoint(body, body, 10)), Some(manifest(1, ""))))
            .expect("published");
        let mut session = dataset.add(&model).expect("begun");
        session.push(vec![(format!("a text for {name}"), label("card"))]).expect("pushed");
        session.commit(None).expect("committed");
    }
    let records = |store: &Store| {
        [Tree::Catalog, Tree::Examples, Tree::Chunks].map(|tree| store.scan(tree, &[], None).count())
    };
    // The counters and the service time; then of each model its record, version, checkpoint, manifest, and the version in the
    // index; extent and example; three blobs.
    assert_eq!(records(&store), [2 + 2 * 5, 2 * 2, 2 * 3]);
    // The crash came right after the commit that removed the record.
    let mut batch = Batch::new();
    batch.delete(Tree::Catalog, *b"mbank");
    store.commit(batch).expect("committed");
    drop((registry, dataset, store));

    let store = open(dir.path());
    let registry = Registry::open(store.clone()).expect("it opens");
    let dataset = Dataset::open(store.clone(), &registry.uids().expect("readable")).expect("it opens");
    assert_eq!(records(&store), [2 + 5, 2, 3]);
    let weather = registry.model(&id("weather")).expect("untouched");
    assert_eq!(dataset.all(weather.uid).expect("readable").len(), 1);
    assert_eq!(registry.checkpoint(&weather.id, VersionNumber(1)).expect("whole"), checkpoint(0, 0, 10));
}

#[test]
fn a_job_that_ran_when_the_daemon_stopped_is_interrupted() {
    let dir = tempfile::tempdir().expect("a folder");
    let registry = reopen(dir.path());
    let bank = id("bank");
    registry.create_model(&bank, Preset::Default, None).expect("created");
    let mut running = registry.new_job(&bank, "", None).expect("accepted");
    running.state = JobState::Running;
    let mut first = publication(&bank, Tensors::New(checkpoint(1, 1, 10)), Some(manifest(1, "")));
    first.job_record = Some(running.clone());
    registry.publish(first).expect("published");
    let mut done = registry.new_job(&bank, "", None).expect("accepted");
    done.state = JobState::Succeeded;
    done.ended = Some(SystemTime::now());
    registry.put_job(&done).expect("stored");
    drop(registry);

    let registry = reopen(dir.path());
    let job = registry.job(running.id).expect("kept");
    assert_eq!((job.state, job.versions.clone()), (JobState::Interrupted, vec![VersionNumber(1)]));
    assert!(job.message.contains("start it again") && job.ended.is_some(), "{job:?}");
    assert_eq!(registry.job(done.id).expect("kept"), done);
    drop(registry);
    assert_eq!(reopen(dir.path()).job(running.id).expect("kept"), job, "once is enough");
    assert_eq!(
        reopen(dir.path()).jobs_to_continue().expect("readable"),
        [],
        "nobody said how to do it again"
    );
}

#[test]
fn work_over_which_the_daemon_ended_twice_is_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let bank = id("bank");
    let registry = reopen(dir.path());
    registry.create_model(&bank, Preset::Default, None).expect("created");
    registry.new_job(&bank, "the order", None).expect("accepted");
    drop(registry);
    // At the first end it had not begun, so it cannot be the cause; then it had, twice.
    for crashes in 0..2 {
        let registry = reopen(dir.path());
        let [left] = &registry.jobs_to_continue().expect("readable")[..] else { panic!("one job") };
        assert_eq!((left.crashes, left.order.as_str()), (crashes, "the order"));
        assert!(left.message.contains("done again when the daemon starts"), "{}", left.message);
        let job = registry.continue_job(left.clone()).expect("accepted");
        assert_eq!((job.continues, job.crashes), (Some(left.id), crashes));
        assert_eq!(registry.job(left.id).expect("kept").continued_by, Some(job.id));
        assert_eq!(registry.jobs_to_continue().expect("readable"), []);
        registry.put_job(&JobRecord { state: JobState::Running, ..job }).expect("stored");
    }
    let registry = reopen(dir.path());
    assert_eq!(registry.jobs_to_continue().expect("readable"), []);
    let last = registry.jobs(None, None, 1).expect("readable").remove(0);
    assert!(last.crashes == 2 && last.message.contains("not done again by itself"), "{last:?}");
}

#[test]
fn receipts_are_kept_for_a_day_and_come_with_their_change() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let registry = Registry::open(store.clone()).expect("it opens");
    let now = SystemTime::now();
    let bank = id("bank");
    registry.create_model(&bank, Preset::Default, receipt("one", now)).expect("created");
    let failed = registry.create_model(&bank, Preset::Default, receipt("two", now));
    assert!(failed.is_err());
    registry.new_job(&bank, "", receipt("three", now - RECEIPT_LIFETIME)).expect("accepted");
    registry
        .new_job(&bank, "", receipt("four", now - RECEIPT_LIFETIME + Duration::from_secs(600)))
        .expect("accepted");
    let mut version = publication(&bank, Tensors::New(checkpoint(1, 1, 10)), Some(manifest(1, "")));
    version.receipt = receipt(&"five".repeat(1000), now);
    registry.publish(version).expect("published");

    let outcome = |registry: &Registry, request_id: &str| {
        registry.receipt("", request_id).expect("readable").map(|receipt| receipt.outcome)
    };
    assert_eq!(registry.receipt("", "one").expect("readable").expect("kept").fingerprint, [7; 32]);
    let check = |registry: &Registry| {
        assert_eq!(outcome(registry, "one").as_deref(), Some("models/bank"));
        assert_eq!(outcome(registry, "two"), None, "a call that failed left nothing to repeat");
        assert_eq!(outcome(registry, "three"), None, "expired");
        assert_eq!(outcome(registry, "four").as_deref(), Some("jobs/2"));
        assert_eq!(outcome(registry, &"five".repeat(1000)).as_deref(), Some("models/bank/versions/1"));
    };
    check(&registry);
    assert_eq!(store.scan(Tree::Receipts, &[], None).count(), 4);
    drop((registry, store));

    let store = open(dir.path());
    check(&Registry::open(store.clone()).expect("it opens"));
    assert_eq!(store.scan(Tree::Receipts, &[], None).count(), 3, "the expired one is gone");
}

#[test]
fn the_files_stay_small_however_many_versions_come_and_go() {
    const KEPT: u64 = 3;
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path());
    let registry = Registry::open(store.clone()).expect("it opens");
    let bank = id("bank");
    registry.create_model(&bank, Preset::Default, None).expect("created");
    let retention = Retention { versions: Some(KEPT as usize), age: None, bytes: None };
    for round in 1..=500 {
        let mut next = publication(
            &bank,
            Tensors::New(checkpoint(round as u32, 1, 100_000)),
            (round == 1).then(|| manifest(1, "")),
        );
        next.parent = None;
        registry.publish(next).expect("published");
        registry.retire(&bank, retention).expect("retired");
    }
    let kept: Vec<u64> =
        registry.versions(&bank, None, 9).expect("readable").iter().map(|version| version.number.0).collect();
    assert_eq!(kept, [500, 499, 498]);
    let (live, file) = (store.check().bytes, store.file_bytes().expect("readable"));
    assert!(live >= KEPT * 400_000 && file <= 3 * live + (128 << 20), "{file} bytes for {live}");
    let blobs = std::fs::read_dir(dir.path().join("db/blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0, "sled neither syncs nor reclaims those");
}

#[test]
fn a_model_has_so_many_aliases_that_its_record_stays_small() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let registry = reopen(dir.path());
    let bank = id("bank");
    registry.create_model(&bank, Preset::Default, None).expect("created");
    registry
        .publish(publication(&bank, Tensors::New(checkpoint(1, 1, 10)), Some(manifest(1, ""))))
        .expect("published");
    let alias = |number: u32| AliasName::new(&format!("alias-{number}")).expect("a valid name");
    // One more is `serving`.
    for number in 1..1000 {
        registry.set_alias(&bank, alias(number), VersionNumber(1), None, None).expect("set");
    }
    let refused = registry.set_alias(&bank, alias(1000), VersionNumber(1), None, None).expect_err("too many");
    assert_eq!(kind(&refused), "ALIASES");
    registry.set_alias(&bank, alias(7), VersionNumber(1), None, None).expect("it is there already");
}
