//! Changes of the classes: each makes the next manifest from the one before and changes nothing else.

mod add;
mod merge;
mod rename;
mod undo;

use std::time::SystemTime;

use super::{Change, ClassId, ClassName, Manifest, Revision, UndoPoint, VersionNumber};
use crate::error::{Result, Violation};

/// What a manifest keeps about how it came to be.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// Number the new manifest gets.
    pub revision: Revision,
    /// The version that answers when the change comes; an undo leads back to it.
    pub serving: VersionNumber,
    /// Why, as the caller put it.
    pub reason: String,
    /// When.
    pub created: SystemTime,
}

/// A change of the classes as asked for. Classes are given by their name, or by `#` and their id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// See [`Manifest::merge`].
    Merge {
        /// The classes to merge.
        classes: Vec<String>,
        /// Name of the merged class.
        into: String,
    },
    /// See [`Manifest::rename`].
    Rename {
        /// The class.
        class: String,
        /// Its new name.
        new_name: String,
    },
}

impl Manifest {
    /// The manifest that a change makes.
    ///
    /// # Errors
    /// Those of the change.
    pub fn edit(&self, edit: &Edit, provenance: Provenance) -> Result<Self> {
        match edit {
            Edit::Merge { classes, into } => self.merge(classes, into, provenance),
            Edit::Rename { class, new_name } => self.rename(class, new_name, provenance),
        }
    }

    /// The next revision with the same classes.
    fn successor(&self, change: Change, provenance: Provenance) -> Self {
        Self {
            revision: provenance.revision,
            parent: Some(self.revision),
            change,
            undo: Some(UndoPoint { revision: self.revision, version: provenance.serving }),
            reason: provenance.reason,
            created: provenance.created,
            ..self.clone()
        }
    }

    /// A name that a class may take: a sound one that stands for nothing but what becomes, or is, that class. So no
    /// stored example changes its class because a name does.
    fn name_for(&self, field: &str, raw: &str, own: &[ClassId]) -> Result<ClassName, Violation> {
        let name = ClassName::new(raw).map_err(|description| violation(field, description))?;
        if let Some(other) = self.active_by_name(&name).filter(|class| !own.contains(&class.id)) {
            return Err(violation(field, format!("'{name}' is the name of another class (#{})", other.id)));
        }
        let others: Vec<String> =
            self.holders(&name).iter().filter(|id| !own.contains(id)).map(|id| self.label(*id)).collect();
        if others.is_empty() {
            return Ok(name);
        }
        let others = others.join(", ");
        Err(violation(
            field,
            format!("'{name}' is a former name of {others}, whose stored examples may carry it"),
        ))
    }

    /// A class by id and name, for messages.
    fn label(&self, id: ClassId) -> String {
        self.classes
            .get(&id)
            .map_or_else(|| format!("class #{id}"), |class| format!("class #{id} '{}'", class.name))
    }
}

fn violation(field: impl Into<String>, description: impl Into<String>) -> Violation {
    Violation { field: field.into(), description: description.into() }
}
