//! What answers now, and what changes make of its classes.

use std::time::SystemTime;

use super::{
    ChangeOrder, Division, Edits,
    divide::{Grouped, divide},
};
use crate::{
    cancel::Cancellation,
    dataset::Example,
    error::Result,
    registry::Model,
    taxonomy::{Change, Edit, LeafId, Manifest, Provenance, Revision, VersionNumber},
};

/// What answers now.
pub(super) struct Serving {
    pub(super) model: Model,
    pub(super) number: VersionNumber,
    pub(super) manifest: Manifest,
}

/// What changes make of the classes.
pub(super) struct Edited {
    pub(super) manifest: Manifest,
    /// How splits divide the examples.
    pub(super) divisions: Vec<Division>,
    /// The examples, each told where it went; none where nothing is split.
    pub(super) examples: Option<Vec<Example>>,
}

impl Serving {
    /// The leaves that a manifest has beyond today's.
    pub(super) fn newcomers(&self, manifest: &Manifest) -> Vec<LeafId> {
        manifest.leaves().difference(&self.manifest.leaves()).copied().collect()
    }

    /// What the next manifest keeps of how it comes to be.
    pub(super) fn provenance(&self, reason: &str, author: &str) -> Provenance {
        Provenance {
            revision: Revision(self.model.latest_revision + 1),
            serving: self.number,
            reason: reason.to_owned(),
            author: author.to_owned(),
            created: SystemTime::now(),
        }
    }

    /// The manifest that changes make. The examples are read only where something is split.
    ///
    /// # Errors
    /// Those of the changes, and of the reading.
    pub(super) fn edited(
        &self,
        order: &ChangeOrder,
        mut read: impl FnMut() -> Result<Vec<Example>>,
        cancel: &Cancellation,
    ) -> Result<Edited> {
        let provenance = self.provenance(&order.reason, &order.author);
        let (mut divisions, mut grouped) = (Vec::new(), None);
        let mut visit = |edit: &Edit, before: &Manifest, after: &Manifest| {
            let (Edit::Split { parts, .. }, Change::Split { class, .. }) = (edit, &after.change) else {
                return Ok(());
            };
            let all = match grouped.take() {
                Some(all) => all,
                None => Grouped::new(read()?, cancel)?,
            };
            let (division, all) = divide(all, *class, parts, (before, after), cancel)?;
            divisions.push(division);
            grouped = Some(all);
            Ok(())
        };
        let manifest = match &order.edits {
            Edits::One(edit) => {
                let manifest = self.manifest.edit(edit, provenance)?;
                visit(edit, &self.manifest, &manifest)?;
                manifest
            }
            Edits::Several(edits) => self.manifest.edit_all(edits, &provenance, &mut visit)?,
        };
        Ok(Edited { manifest, divisions, examples: grouped.map(Grouped::into_examples) })
    }
}
