//! Manifests to and from their records.

use std::collections::BTreeSet;

use super::record::{damaged, time, timestamp};
use crate::{
    error::Result,
    proto::storage::{self, manifest::Change as StoredChange},
    taxonomy::{
        Change, Class, ClassId, ClassName, ClassState, LeafId, Manifest, Revision, UndoPoint, VersionNumber,
    },
};

/// The record of a manifest. Its revision is in the key.
pub(super) fn to_record(manifest: &Manifest) -> storage::Manifest {
    storage::Manifest {
        parent: manifest.parent.map_or(0, |revision| revision.0),
        classes: manifest.classes.values().map(class_to_record).collect(),
        former_names: manifest
            .former_names
            .iter()
            .map(|(name, id)| storage::FormerName { name: name.to_string(), class: id.0 })
            .collect(),
        next_class: manifest.next_class.0,
        next_leaf: manifest.next_leaf.0,
        change: Some(change_to_record(&manifest.change)),
        undo: manifest
            .undo
            .map(|undo| storage::UndoPoint { revision: undo.revision.0, version: undo.version.0 }),
        reason: manifest.reason.clone(),
        author: manifest.author.clone(),
        created: timestamp(manifest.created),
    }
}

/// The manifest of a record.
pub(super) fn from_record(what: &str, revision: Revision, record: storage::Manifest) -> Result<Manifest> {
    let classes = record
        .classes
        .into_iter()
        .map(|class| class_from_record(what, class).map(|class| (class.id, class)))
        .collect::<Result<_>>()?;
    let former_names = record
        .former_names
        .into_iter()
        .map(|former| class_name(what, former.class, &former.name).map(|name| (name, ClassId(former.class))));
    Ok(Manifest {
        former_names: former_names.collect::<Result<_>>()?,
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
        for class in merged.classes.values_mut() {
            class.state = ClassState::Retired(BTreeSet::from([heir]));
        }
        merged.former_names.insert(name("cash"), heir);
        for (id, state) in [(8, ClassState::Group), (9, ClassState::Removed)] {
            let class = Class { id: ClassId(id), name: name("more"), parent: None, state };
            merged.classes.insert(class.id, class);
        }
        let leaves = ClassState::Active(BTreeSet::from([LeafId(1), LeafId(2)]));
        merged
            .classes
            .insert(heir, Class { id: heir, name: name("取款"), parent: Some(ClassId(1)), state: leaves });
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
            assert_eq!(from_record("m", Revision(2), to_record(&manifest)).unwrap(), manifest);
        }
        assert_eq!(from_record("m", Revision(1), to_record(&first)).unwrap(), first);
    }
}
