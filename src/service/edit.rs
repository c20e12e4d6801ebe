//! Changes of the classes as requests say them.

use super::check::Violations;
use crate::{
    error::Result,
    proto::v1::{self, class_change::Change},
    taxonomy::{Edit, Part},
};

/// Most changes of one call.
const MOST: usize = 1000;

/// The changes of a list.
pub(super) fn list(changes: &[v1::ClassChange]) -> Result<Vec<Edit>> {
    let mut violations = Violations::default();
    if !(1..=MOST).contains(&changes.len()) {
        violations.add("changes", format!("must hold 1 to {MOST} changes, got {}", changes.len()));
    }
    let mut edits = Vec::with_capacity(changes.len());
    for (index, change) in changes.iter().enumerate() {
        match &change.change {
            Some(change) => edits.push(edit(change.clone())),
            None => violations.add(
                format!("changes[{index}]"),
                "says no change; set merge, split, add, remove, rename or move",
            ),
        }
    }
    violations.finish().map(|()| edits)
}

fn edit(change: Change) -> Edit {
    match change {
        Change::Merge(v1::MergeChange { classes, into }) => Edit::Merge { classes, into },
        Change::Split(v1::SplitChange { class_name, parts }) => split(class_name, parts),
        Change::Add(v1::AddChange { names }) => Edit::Add { names },
        Change::Remove(v1::RemoveChange { classes }) => Edit::Remove { classes },
        Change::Rename(v1::RenameChange { class_name, new_name }) => {
            Edit::Rename { class: class_name, new_name }
        }
        Change::Move(v1::MoveChange { class_name, parent, create_parent }) => {
            place(class_name, parent, create_parent)
        }
    }
}

/// A split.
pub(super) fn split(class: String, parts: Vec<v1::ClassPart>) -> Edit {
    let part = |part: v1::ClassPart| {
        let v1::ClassPart { name, example_ids, texts, labels, pattern, remaining } = part;
        Part { name, example_ids, texts, labels, pattern, remaining }
    };
    Edit::Split { class, parts: parts.into_iter().map(part).collect() }
}

/// A move; an empty parent is the top.
pub(super) fn place(class: String, parent: String, create_parent: bool) -> Edit {
    Edit::Place { class, parent: Some(parent).filter(|parent| !parent.is_empty()), create_parent }
}
