//! The classes of a model at one revision.

use std::{collections::BTreeSet, time::SystemTime};

use super::{ClassId, ClassName, Classes, LeafId, Revision, VersionNumber};
use crate::error::Result;

/// Classes of a change that its description names at most.
const MAX_NAMED: usize = 100;
/// Bytes of a description at most.
const MAX_DESCRIPTION_BYTES: usize = 16 << 10;
const ELLIPSIS: &str = " ...";

/// A category: a stable id, a name, and the leaves whose probabilities it sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Stable id.
    pub id: ClassId,
    /// Name; unique among the active classes and the groups.
    pub name: ClassName,
    /// The group it is in; none at the top.
    pub parent: Option<ClassId>,
    /// Whether it can be predicted.
    pub state: ClassState,
}

/// Whether a class takes part in predictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassState {
    /// It owns these leaves; never empty.
    Active(BTreeSet<LeafId>),
    /// It owns no leaves and stands for the classes below it, of which there is always one.
    Group,
    /// It is gone; its leaves went to these classes.
    Retired(BTreeSet<ClassId>),
    /// It was taken out, and its leaves with it.
    Removed,
}

/// What led to a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The first training made the first classes.
    Create,
    /// A training met labels that were no classes yet.
    Add(Vec<ClassId>),
    /// Several classes became one.
    Merge {
        /// The classes that went.
        sources: Vec<ClassId>,
        /// The class that came.
        into: ClassId,
    },
    /// One class became several.
    Split {
        /// The class that went.
        class: ClassId,
        /// The classes that came.
        into: Vec<ClassId>,
    },
    /// A class got another name.
    Rename {
        /// The class.
        class: ClassId,
        /// Its name before.
        from: ClassName,
        /// Its name since.
        to: ClassName,
    },
    /// Classes were taken out.
    Remove(Vec<ClassId>),
    /// A class got another place.
    Move {
        /// The class.
        class: ClassId,
        /// The group it is in since; none at the top.
        parent: Option<ClassId>,
    },
    /// Several of these, one after the other, as one.
    Several(Vec<Change>),
    /// The change that made this revision was undone.
    Undo(Revision),
}

/// Where an undo leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UndoPoint {
    /// The manifest to restore.
    pub revision: Revision,
    /// The version that answered in it when the change came.
    pub version: VersionNumber,
}

/// One immutable revision of a model's classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Number of this revision.
    pub revision: Revision,
    /// The revision it was made from.
    pub parent: Option<Revision>,
    /// All classes ever, active and retired, and the names that they had.
    pub classes: Classes,
    /// The id that the next class gets.
    pub next_class: ClassId,
    /// The id that the next leaf gets.
    pub next_leaf: LeafId,
    /// What made this revision.
    pub change: Change,
    /// Where an undo leads; none where there is nothing to undo.
    pub undo: Option<UndoPoint>,
    /// Why it was made, as the caller put it.
    pub reason: String,
    /// Who made it, as the caller claimed; empty where it is not known.
    pub author: String,
    /// When it was made.
    pub created: SystemTime,
}

impl Change {
    /// Whether it brought classes and did nothing else.
    pub fn only_adds(&self) -> bool {
        match self {
            Self::Add(_) => true,
            Self::Several(changes) => changes.iter().all(Self::only_adds),
            _ => false,
        }
    }

    /// Whether it took classes out.
    pub fn removes(&self) -> bool {
        match self {
            Self::Remove(_) => true,
            Self::Several(changes) => changes.iter().any(Self::removes),
            _ => false,
        }
    }
}

impl Class {
    /// Its leaves; empty for a retired class.
    pub fn leaves(&self) -> impl Iterator<Item = LeafId> + '_ {
        match &self.state {
            ClassState::Active(leaves) => Some(leaves.iter().copied()),
            ClassState::Group | ClassState::Retired(_) | ClassState::Removed => None,
        }
        .into_iter()
        .flatten()
    }

    /// Whether it can be predicted for itself.
    pub fn is_active(&self) -> bool {
        matches!(self.state, ClassState::Active(_))
    }

    /// Whether it is active, or a group of such classes.
    pub fn is_living(&self) -> bool {
        matches!(self.state, ClassState::Active(_) | ClassState::Group)
    }
}

impl Manifest {
    /// The first manifest: one leaf a class, ids in the order of the names.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is given twice.
    pub fn create(names: &[ClassName], created: SystemTime) -> Result<Self> {
        let empty = Self {
            revision: Revision(0),
            parent: None,
            classes: Classes::default(),
            next_class: ClassId(1),
            next_leaf: LeafId(1),
            change: Change::Create,
            undo: None,
            reason: String::new(),
            author: String::new(),
            created,
        };
        let (manifest, _) = empty.with_new_classes(names)?;
        Ok(Self { revision: Revision(1), parent: None, created, ..manifest })
    }

    /// The same classes, whose next ids come after all that another revision gave out.
    ///
    /// A change starts from the revision that serves, which need not be the newest: an alias may have been moved back, or
    /// a version not promoted.
    #[must_use]
    pub fn numbered_after(self, newest: &Self) -> Self {
        Self {
            next_class: self.next_class.max(newest.next_class),
            next_leaf: self.next_leaf.max(newest.next_leaf),
            ..self
        }
    }

    /// The same without what leads to other revisions and versions, which another model does not have.
    #[must_use]
    pub fn portable(self) -> Self {
        Self { parent: None, undo: None, ..self }
    }

    /// The active classes by id.
    pub fn active(&self) -> impl Iterator<Item = &Class> + '_ {
        self.living().filter(|class| class.is_active())
    }

    /// The active classes and the groups, by id.
    pub fn living(&self) -> impl Iterator<Item = &Class> + '_ {
        self.classes.living()
    }

    /// The leaves of all active classes.
    pub fn leaves(&self) -> BTreeSet<LeafId> {
        self.active().flat_map(Class::leaves).collect()
    }

    /// Memory that it takes, in bytes, nearly.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.classes.memory_bytes() + self.reason.len() + self.author.len()
    }

    /// Whether the active classes are those of another manifest and own the same leaves, whatever their names.
    pub fn has_leaves_of(&self, other: &Self) -> bool {
        self.active()
            .map(|class| (class.id, &class.state))
            .eq(other.active().map(|class| (class.id, &class.state)))
    }

    /// The change in words: at most 100 classes of each change by name, and at most 16 KiB.
    pub fn describe(&self) -> String {
        let mut words = self.describe_change(&self.change);
        if words.len() > MAX_DESCRIPTION_BYTES {
            words.truncate(words.floor_char_boundary(MAX_DESCRIPTION_BYTES - ELLIPSIS.len()));
            words.push_str(ELLIPSIS);
        }
        words
    }

    fn describe_change(&self, change: &Change) -> String {
        let name =
            |id: &ClassId| self.classes.get(id).map_or_else(|| format!("#{id}"), |c| c.name.to_string());
        let list = |ids: &[ClassId]| {
            let named = ids.iter().take(MAX_NAMED).map(name).collect::<Vec<_>>().join(", ");
            match ids.len().saturating_sub(MAX_NAMED) {
                0 => named,
                more => format!("{named} and {more} more"),
            }
        };
        match change {
            Change::Create => format!("create {} classes", self.classes.len()),
            Change::Add(ids) => format!("add {}", list(ids)),
            Change::Merge { sources, into } => format!("merge {} into {}", list(sources), name(into)),
            Change::Split { class, into } => format!("split {} into {}", name(class), list(into)),
            Change::Several(changes) => {
                changes.iter().map(|change| self.describe_change(change)).collect::<Vec<_>>().join("; ")
            }
            Change::Rename { from, to, .. } => format!("rename {from} to {to}"),
            Change::Remove(ids) => format!("remove {}", list(ids)),
            Change::Move { class, parent: Some(parent) } => {
                format!("move {} under {}", name(class), name(parent))
            }
            Change::Move { class, parent: None } => format!("move {} to the top", name(class)),
            Change::Undo(revision) => format!("undo revision {revision}"),
        }
    }
}
