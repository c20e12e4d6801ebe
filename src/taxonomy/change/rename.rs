//! A class gets another name.

use super::Provenance;
use crate::{
    error::{Error, Result},
    taxonomy::{Change, Manifest},
};

impl Manifest {
    /// Gives a class another name. The old one goes on meaning the class, so that examples stored under it, and those
    /// that still come with it, are the class's.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a class that is not active; [`Error::Invalid`] naming `new_name` for a bad name, the name
    /// that the class has, or one that means another class.
    pub fn rename(&self, class: &str, new_name: &str, provenance: Provenance) -> Result<Self> {
        let class = self.find(class)?;
        let to =
            self.name_for("new_name", new_name, &[class.id]).map_err(|fault| Error::Invalid(vec![fault]))?;
        if to == class.name {
            return Err(Error::invalid(
                "new_name",
                format!("'{to}' is the name of class #{} already", class.id),
            ));
        }
        let (id, from) = (class.id, class.name.clone());
        let change = Change::Rename { class: id, from: from.clone(), to: to.clone() };
        let mut next = self.successor(change, provenance);
        next.classes.forget(&to);
        next.classes.remember(from, id);
        next.classes.update(id, |class| class.name = to);
        Ok(next)
    }
}
