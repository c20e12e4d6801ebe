//! Changes of the classes: each makes the next manifest from the one before and changes nothing else.

mod add;
mod merge;
mod place;
mod remove;
mod rename;
mod split;
mod undo;

use std::time::SystemTime;

pub use split::Part;

use super::{Change, Class, ClassId, ClassName, Manifest, Revision, UndoPoint, VersionNumber};
use crate::error::{Error, Result, Violation};

/// What a manifest keeps about how it came to be.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// Number the new manifest gets.
    pub revision: Revision,
    /// The version that answers when the change comes; an undo leads back to it.
    pub serving: VersionNumber,
    /// Why, as the caller put it.
    pub reason: String,
    /// Who, as the caller claimed.
    pub author: String,
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
    /// See [`Manifest::split`].
    Split {
        /// The class to split.
        class: String,
        /// What becomes of it.
        parts: Vec<Part>,
    },
    /// See [`Manifest::add_named`].
    Add {
        /// Names of the new classes.
        names: Vec<String>,
    },
    /// See [`Manifest::rename`].
    Rename {
        /// The class.
        class: String,
        /// Its new name.
        new_name: String,
    },
    /// See [`Manifest::remove`].
    Remove {
        /// The classes.
        classes: Vec<String>,
    },
    /// See [`Manifest::place`].
    Place {
        /// The class.
        class: String,
        /// The group it shall be in; none is the top.
        parent: Option<String>,
        /// Whether the group is made if there is none of the name.
        create_parent: bool,
    },
}

impl Edit {
    /// The kind of the change, as the API names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Merge { .. } => "merge",
            Self::Split { .. } => "split",
            Self::Add { .. } => "add",
            Self::Rename { .. } => "rename",
            Self::Remove { .. } => "remove",
            Self::Place { .. } => "move",
        }
    }
}

impl Manifest {
    /// The manifest that a list of changes makes, as one revision: each is a change of what those before it made, and all
    /// are undone together.
    ///
    /// # Errors
    /// Those of the changes and of `visit`, which is shown each change with the manifests before and after it; their
    /// fields are named behind `changes[i].` and the kind of the change. [`Error::Invalid`] naming `changes` for none.
    pub fn edit_all(
        &self,
        edits: &[Edit],
        provenance: &Provenance,
        visit: &mut dyn FnMut(&Edit, &Self, &Self) -> Result<()>,
    ) -> Result<Self> {
        let mut now = self.clone();
        let mut changes = Vec::with_capacity(edits.len());
        for (index, edit) in edits.iter().enumerate() {
            let step = now.edit(edit, provenance.clone()).and_then(|next| {
                visit(edit, &now, &next)?;
                Ok(next)
            });
            now = step.map_err(|error| error.within(&format!("changes[{index}].{}", edit.kind())))?;
            changes.push(now.change.clone());
        }
        let change = match changes.len() {
            0 => return Err(Error::invalid("changes", "at least one is needed, got 0")),
            1 => changes.remove(0),
            _ => Change::Several(changes),
        };
        let undo = Some(UndoPoint { revision: self.revision, version: provenance.serving });
        Ok(Self { parent: Some(self.revision), change, undo, ..now })
    }

    /// The manifest that a change makes.
    ///
    /// # Errors
    /// Those of the change.
    pub fn edit(&self, edit: &Edit, provenance: Provenance) -> Result<Self> {
        let mut next = match edit {
            Edit::Merge { classes, into } => self.merge(classes, into, provenance),
            Edit::Split { class, parts } => self.split(class, parts, provenance),
            Edit::Add { names } => self.add_named(names, provenance),
            Edit::Rename { class, new_name } => self.rename(class, new_name, provenance),
            Edit::Remove { classes } => self.remove(classes, provenance),
            Edit::Place { class, parent, create_parent } => {
                self.place(class, parent.as_deref(), *create_parent, provenance)
            }
        }?;
        next.keep_names(self);
        Ok(next)
    }

    /// Has names of classes that end with a change go on meaning these. A class of a later id may have had the name
    /// before them: one that ended when an undo brought them back.
    fn keep_names(&mut self, before: &Self) {
        for Class { id, name, .. } in before.living() {
            let ended = !self.is_living(*id) && self.living_by_name(name).is_none();
            if ended && self.bearers(name) != self.lives_on(*id) {
                self.classes.remember(name.clone(), *id);
            }
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
            author: provenance.author,
            created: provenance.created,
            ..self.clone()
        }
    }

    /// A name that a class may take: a sound one that stands for nothing but what becomes, or is, that class. So no
    /// stored example changes its class because a name does.
    fn name_for(&self, field: &str, raw: &str, own: &[ClassId]) -> Result<ClassName, Violation> {
        let name = self.name_but_for_removed(field, raw, own)?;
        if self.bearers(&name).removed {
            let description = format!(
                "'{name}' is the name of a class that was removed, whose stored examples may carry it; \
                 add that class again, or choose another name"
            );
            return Err(violation(field, description));
        }
        Ok(name)
    }

    /// A name for a new class or group. It may be that of a class that was removed.
    fn name_for_new(&self, field: &str, raw: &str) -> Result<ClassName, Violation> {
        self.name_but_for_removed(field, raw, &[])
    }

    fn name_but_for_removed(&self, field: &str, raw: &str, own: &[ClassId]) -> Result<ClassName, Violation> {
        let name = ClassName::new(raw).map_err(|description| violation(field, description))?;
        if let Some(other) = self.living_by_name(&name).filter(|class| !own.contains(&class.id)) {
            return Err(violation(field, format!("'{name}' is the name of another class (#{})", other.id)));
        }
        let living = self.bearers(&name).living;
        let others: Vec<String> =
            living.iter().filter(|id| !own.contains(id)).map(|id| self.label(*id)).collect();
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
