//! A class gets another place among the groups.

use super::Provenance;
use crate::{
    error::{Error, Result},
    taxonomy::{Change, Class, ClassId, ClassName, ClassState, Manifest},
};

impl Manifest {
    /// Puts a class, or a group with all below it, into a group, or at the top. With `create_parent` a group that does not
    /// exist is made, at the top. A group that nothing is left in ends.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the class, or for the parent without `create_parent`; [`Error::Invalid`] naming `parent`
    /// for a class that owns leaves, for one at or below the class that is moved, for the place where it is already, and
    /// for a bad name of a new group, or one that means another class.
    pub fn place(
        &self,
        class: &str,
        parent: Option<&str>,
        create_parent: bool,
        provenance: Provenance,
    ) -> Result<Self> {
        let moved = self.find(class)?;
        let mut grown = self.clone();
        let parent = match parent {
            None => None,
            Some(parent) => match self.find(parent) {
                Ok(group) => Some(self.checked_parent(group, moved)?),
                Err(Error::NotFound { .. }) if create_parent => {
                    let name =
                        self.name_for_new("parent", parent).map_err(|fault| Error::Invalid(vec![fault]))?;
                    Some(grown.insert_group(name))
                }
                Err(unknown) => return Err(unknown),
            },
        };
        if parent == moved.parent {
            let place = parent.map_or("at the top".into(), |id| format!("in {}", self.label(id)));
            return Err(Error::invalid("parent", format!("'{}' is {place} already", moved.name)));
        }
        let mut next = grown.successor(Change::Move { class: moved.id, parent }, provenance);
        next.classes.update(moved.id, |class| class.parent = parent);
        next.end_empty_groups(None);
        Ok(next)
    }

    fn checked_parent(&self, parent: &Class, moved: &Class) -> Result<ClassId> {
        let refuse = |why: String| Err(Error::invalid("parent", format!("'{}' {why}", parent.name)));
        if parent.id == moved.id {
            return refuse("is the class that is moved".into());
        }
        if parent.is_active() {
            return refuse("is a class with leaves of its own; a parent is a group, which has none".into());
        }
        if self.path(parent.id).contains(&moved.id) {
            return refuse(format!("is below '{}' itself", moved.name));
        }
        Ok(parent.id)
    }

    /// Adds a group at the top.
    fn insert_group(&mut self, name: ClassName) -> ClassId {
        let id = self.next_class;
        self.next_class = ClassId(id.0 + 1);
        self.classes.forget(&name);
        self.classes.insert(Class { id, name, parent: None, state: ClassState::Group });
        id
    }
}
