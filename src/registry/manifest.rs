//! Manifests to and from their records.

use std::collections::BTreeSet;

use super::record::{damaged, time, timestamp};
use crate::{
    error::Result,
    proto::storage::{self, manifest::Change as StoredChange},
    taxonomy::{
        Base, Change, Class, ClassId, ClassName, ClassState, Classes, Delta, LeafId, Manifest, Revision,
        UndoPoint, VersionNumber,
    },
};

/// Differences, one after the other, from which a manifest is made at most: reading one takes so many records.
const MOST_STEPS: u32 = 64;

/// The record of a manifest. Its revision is in the key.
pub(super) fn to_record(manifest: &Manifest) -> storage::Manifest {
    storage::Manifest {
        classes: manifest.classes.iter().map(class_to_record).collect(),
        former_names: manifest.classes.former_names().map(former_name_to_record).collect(),
        change: Some(change_to_record(&manifest.change)),
        ..frame_to_record(manifest)
    }
}

/// The record of a manifest of the model with this uid, and what others may be stored as differences from: what differs from
/// a manifest that is stored already, where that is little, else all of it.
pub(super) fn to_shortest_record(model: u64, manifest: &Manifest) -> (storage::Manifest, Base) {
    let base = |steps| Base { model, revision: manifest.revision, steps };
    let changed = |delta: &&Delta| 2 * (delta.classes.len() + delta.former_names.len());
    let delta = manifest.classes.delta().filter(|delta| {
        let Base { model: of, revision, steps } = delta.base;
        of == model
            && revision < manifest.revision
            && steps < MOST_STEPS
            && changed(delta) < manifest.classes.len()
    });
    let Some(delta) = delta else { return (to_record(manifest), base(0)) };
    let classes = &manifest.classes;
    let (mut former_names, mut forgotten_names) = (Vec::new(), Vec::new());
    for name in &delta.former_names {
        match classes.former(name) {
            Some(id) => former_names.push(former_name_to_record((name, id))),
            None => forgotten_names.push(name.to_string()),
        }
    }
    let steps = delta.base.steps + 1;
    let change = storage::Manifest { change: Some(change_to_record(&manifest.change)), ..Default::default() };
    let record = storage::Manifest {
        classes: delta.classes.iter().filter_map(|id| classes.get(id)).map(class_to_record).collect(),
        former_names,
        delta: Some(Box::new(storage::ManifestDelta {
            base: delta.base.revision.0,
            steps,
            change: Some(Box::new(change)),
            forgotten_names,
        })),
        ..frame_to_record(manifest)
    };
    (record, base(steps))
}

/// The record of a manifest without its classes and its change.
fn frame_to_record(manifest: &Manifest) -> storage::Manifest {
    storage::Manifest {
        parent: manifest.parent.map_or(0, |revision| revision.0),
        next_class: manifest.next_class.0,
        next_leaf: manifest.next_leaf.0,
        undo: manifest
            .undo
            .map(|undo| storage::UndoPoint { revision: undo.revision.0, version: undo.version.0 }),
        reason: manifest.reason.clone(),
        author: manifest.author.clone(),
        created: timestamp(manifest.created),
        ..Default::default()
    }
}

/// The revision that the classes of a record differ from; none where it holds all of them.
pub(super) fn base_of(
    what: &str,
    revision: Revision,
    record: &storage::Manifest,
) -> Result<Option<Revision>> {
    let Some(delta) = &record.delta else { return Ok(None) };
    let base = Revision(delta.base);
    // So whoever follows bases comes to an end.
    if base.0 == 0 || base >= revision {
        return Err(damaged(
            what,
            format!("its classes differ from those of revision {base}, which is no earlier one"),
        ));
    }
    Ok(Some(base))
}

/// The manifest of a record; `base` is the manifest that its classes differ from.
///
/// # Errors
/// [`crate::error::Error::Corrupt`] for a record that contradicts itself, or that needs a base and has none.
pub(super) fn from_record(
    what: &str,
    revision: Revision,
    mut record: storage::Manifest,
    base: Option<&Manifest>,
) -> Result<Manifest> {
    let mut classes = Classes::default();
    if let Some(delta) = record.delta.take() {
        let base = base.filter(|base| base.revision.0 == delta.base);
        let base = base.ok_or_else(|| damaged(what, "its classes differ from those of another manifest"))?;
        classes = base.classes.clone();
        for name in delta.forgotten_names {
            classes.forget(&class_name(what, 0, &name)?);
        }
        record.change = delta.change.and_then(|change| change.change);
    }
    for class in record.classes {
        classes.insert(class_from_record(what, class)?);
    }
    for former in record.former_names {
        classes.remember(class_name(what, former.class, &former.name)?, ClassId(former.class));
    }
    Ok(Manifest {
        revision,
        parent: (record.parent != 0).then_some(Revision(record.parent)),
        classes,
        next_class: ClassId(record.next_class),
        next_leaf: LeafId(record.next_leaf),
        change: change_from_record(what, record.change.ok_or_else(|| damaged(what, "it says no change"))?)?,
        undo: record.undo.map(|undo| UndoPoint {
            revision: Revision(undo.revision),
            version: VersionNumber(undo.version),
        }),
        reason: record.reason,
        author: record.author,
        created: time(what, record.created)?,
    })
}

fn former_name_to_record((name, id): (&ClassName, ClassId)) -> storage::FormerName {
    storage::FormerName { name: name.to_string(), class: id.0 }
}

fn class_to_record(class: &Class) -> storage::Class {
    let successors = match &class.state {
        ClassState::Active(_) | ClassState::Group | ClassState::Removed => Vec::new(),
        ClassState::Retired(successors) => successors.iter().map(|id| id.0).collect(),
    };
    storage::Class {
        id: class.id.0,
        name: class.name.to_string(),
        parent: class.parent.map_or(0, |id| id.0),
        leaves: class.leaves().map(|leaf| leaf.0).collect(),
        successors,
        group: class.state == ClassState::Group,
        removed: class.state == ClassState::Removed,
    }
}

fn class_from_record(what: &str, record: storage::Class) -> Result<Class> {
    let name = class_name(what, record.id, &record.name)?;
    let leaves: BTreeSet<LeafId> = record.leaves.into_iter().map(LeafId).collect();
    // An active class always owns a leaf.
    let state = match (leaves.is_empty(), record.group, record.removed) {
        (false, ..) => ClassState::Active(leaves),
        (true, true, _) => ClassState::Group,
        (true, false, true) => ClassState::Removed,
        (true, false, false) => ClassState::Retired(record.successors.into_iter().map(ClassId).collect()),
    };
    let parent = (record.parent != 0).then_some(ClassId(record.parent));
    Ok(Class { id: ClassId(record.id), name, parent, state })
}

fn class_name(what: &str, class: u32, name: &str) -> Result<ClassName> {
    ClassName::new(name).map_err(|fault| damaged(what, format!("the name of class #{class} {fault}")))
}

fn change_to_record(change: &Change) -> StoredChange {
    let ids = |classes: &[ClassId]| classes.iter().map(|id| id.0).collect();
    match change {
        Change::Create => StoredChange::Create(storage::Created {}),
        Change::Add(classes) => StoredChange::Add(storage::ClassesAdded { classes: ids(classes) }),
        Change::Merge { sources, into } => {
            StoredChange::Merge(storage::ClassesMerged { sources: ids(sources), into: into.0 })
        }
        Change::Split { class, into } => {
            StoredChange::Split(storage::ClassSplit { class: class.0, into: ids(into) })
        }
        Change::Several(changes) => StoredChange::Several(storage::Changes {
            changes: changes
                .iter()
                .map(|change| storage::Manifest {
                    change: Some(change_to_record(change)),
                    ..Default::default()
                })
                .collect(),
        }),
        Change::Rename { class, from, to } => StoredChange::Rename(storage::ClassRenamed {
            class: class.0,
            from: from.to_string(),
            to: to.to_string(),
        }),
        Change::Remove(classes) => StoredChange::Remove(storage::ClassesRemoved { classes: ids(classes) }),
        Change::Move { class, parent } => {
            StoredChange::Move(storage::ClassMoved { class: class.0, parent: parent.map_or(0, |id| id.0) })
        }
        Change::Undo(revision) => StoredChange::UndoOf(revision.0),
    }
}

fn change_from_record(what: &str, record: StoredChange) -> Result<Change> {
    let ids = |classes: Vec<u32>| classes.into_iter().map(ClassId).collect();
    Ok(match record {
        StoredChange::Create(storage::Created {}) => Change::Create,
        StoredChange::Add(added) => Change::Add(ids(added.classes)),
        StoredChange::Merge(merged) => {
            Change::Merge { sources: ids(merged.sources), into: ClassId(merged.into) }
        }
        StoredChange::Split(split) => Change::Split { class: ClassId(split.class), into: ids(split.into) },
        StoredChange::Several(several) => {
            let changes = several.changes.into_iter().map(|step| {
                let change = step.change.ok_or_else(|| damaged(what, "one of its changes is missing"))?;
                change_from_record(what, change)
            });
            Change::Several(changes.collect::<Result<_>>()?)
        }
        StoredChange::Rename(renamed) => Change::Rename {
            class: ClassId(renamed.class),
            from: class_name(what, renamed.class, &renamed.from)?,
            to: class_name(what, renamed.class, &renamed.to)?,
        },
        StoredChange::Remove(removed) => Change::Remove(ids(removed.classes)),
        StoredChange::Move(moved) => Change::Move {
            class: ClassId(moved.class),
            parent: (moved.parent != 0).then_some(ClassId(moved.parent)),
        },
        StoredChange::UndoOf(revision) => Change::Undo(Revision(revision)),
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::taxonomy::{Edit, Provenance};

    #[test]
    fn every_kind_of_manifest_comes_back_as_it_was() {
        let name = |raw| ClassName::new(raw).unwrap();
        let created = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        let first = Manifest::create(&[name("取款两万以下"), name("取款两万以上")], created).unwrap();
        let mut merged = first.clone();
        merged.revision = Revision(2);
        merged.parent = Some(Revision(1));
        merged.reason = "one counter".to_owned();
        merged.author = "ada".to_owned();
        merged.undo = Some(UndoPoint { revision: Revision(1), version: VersionNumber(7) });
        let heir = ClassId(3);
        merged.next_class = ClassId(4);
        for id in [1, 2].map(ClassId) {
            merged.classes.update(id, |class| class.state = ClassState::Retired(BTreeSet::from([heir])));
        }
        merged.classes.remember(name("cash"), heir);
        for (id, state) in [(8, ClassState::Group), (9, ClassState::Removed)] {
            merged.classes.insert(Class { id: ClassId(id), name: name("more"), parent: None, state });
        }
        let state = ClassState::Active(BTreeSet::from([LeafId(1), LeafId(2)]));
        merged.classes.insert(Class { id: heir, name: name("取款"), parent: Some(ClassId(1)), state });
        for change in [
            Change::Merge { sources: vec![ClassId(1), ClassId(2)], into: heir },
            Change::Add(vec![heir]),
            Change::Rename { class: heir, from: name("cash"), to: name("取款") },
            Change::Remove(vec![heir]),
            Change::Move { class: heir, parent: Some(ClassId(1)) },
            Change::Move { class: heir, parent: None },
            Change::Undo(Revision(5)),
            Change::Split { class: ClassId(1), into: vec![ClassId(2), heir] },
            Change::Several(vec![Change::Remove(vec![heir]), Change::Add(vec![heir])]),
        ] {
            let manifest = Manifest { change, ..merged.clone() };
            assert_eq!(from_record("m", Revision(2), to_record(&manifest), None).unwrap(), manifest);
        }
        assert_eq!(from_record("m", Revision(1), to_record(&first), None).unwrap(), first);
    }

    /// The next manifest behind a history: changes of every kind, some undone, of classes that earlier ones made.
    fn next(history: &[Manifest]) -> Manifest {
        let (now, at) = (history.last().unwrap(), history.len());
        let provenance = Provenance {
            revision: Revision(at as u64 + 1),
            serving: VersionNumber(at as u64),
            reason: format!("change {at}"),
            author: "ada".to_owned(),
            created: SystemTime::UNIX_EPOCH,
        };
        let active: Vec<String> = now.active().map(|class| class.name.to_string()).collect();
        let [first, second] = [0, 1].map(|more| active[at % (active.len() - 1) + more].clone());
        let edit = match at % 7 {
            0 | 3 => return now.undo(&history[now.undo.unwrap().revision.0 as usize - 1], provenance),
            1 => Edit::Merge { classes: vec![first.clone(), second], into: first },
            2 => Edit::Rename { class: first, new_name: format!("renamed {at}") },
            4 => Edit::Add { names: vec![format!("added {at}"), format!("more {at}")] },
            5 => Edit::Place { class: second, parent: Some(format!("group {at}")), create_parent: true },
            _ => Edit::Remove { classes: vec![second] },
        };
        now.edit(&edit, provenance).unwrap()
    }

    #[test]
    fn manifests_that_are_stored_as_differences_come_back_as_they_were() {
        const MODEL: u64 = 7;
        let names: Vec<ClassName> =
            (0..12).map(|at| ClassName::new(&format!("class {at}")).unwrap()).collect();
        // The same history twice: as it is in memory alone, and each manifest made of those that were stored and read.
        let mut in_memory = vec![Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap()];
        let (mut stored, mut steps) = (Vec::new(), Vec::new());
        while stored.len() < 300 {
            let made = if stored.is_empty() { in_memory[0].clone() } else { next(&stored) };
            let (record, base) = to_shortest_record(MODEL, &made);
            let on = base_of("m", made.revision, &record).unwrap();
            let on = on.map(|revision| &stored[revision.0 as usize - 1]);
            let read = from_record("m", made.revision, record.clone(), on).unwrap();
            assert_eq!(&read, in_memory.last().unwrap());
            assert_eq!((on.is_some(), record.change.is_none()), (base.steps > 0, base.steps > 0));
            if on.is_some() {
                assert!(record.classes.len() < 6, "{:?}", record.classes);
                assert!(from_record("m", made.revision, record, None).is_err());
            }
            stored.push(Manifest { classes: read.classes.clone().stored_as(base), ..read });
            steps.push(base.steps);
            in_memory.push(next(&in_memory));
        }
        assert_eq!(*steps.iter().max().unwrap(), MOST_STEPS);
        assert!(steps.iter().filter(|steps| **steps == 0).count() < 10, "{steps:?}");

        // Nothing is stored as the difference from a manifest of another model, or from a later one.
        let (record, base) = to_shortest_record(MODEL + 1, &next(&stored));
        assert!(record.delta.is_none() && base.steps == 0);
        let earlier = Manifest { revision: Revision(100), ..next(&stored) };
        assert!(to_shortest_record(MODEL, &earlier).0.delta.is_none());
    }

    #[test]
    fn a_difference_from_what_is_no_earlier_manifest_is_damaged() {
        for base in [0, 5, 6] {
            let delta = storage::ManifestDelta { base, steps: 1, ..Default::default() };
            let record = storage::Manifest { delta: Some(Box::new(delta)), ..Default::default() };
            assert!(base_of("m", Revision(5), &record).is_err(), "{base}");
        }
    }
}
