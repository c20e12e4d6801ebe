//! Answers in the classes of a revision that the client names: how a version translates, kept for the revisions asked for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    error::Result,
    taxonomy::{Class, ClassId, LeafId, Manifest, Revision, Translation},
};

/// Revisions that a version in memory keeps the translation to.
const KEPT: usize = 16;

/// How a version answers in the classes of a revision.
#[derive(Debug)]
pub struct InRevision {
    /// The classes of the revision.
    pub manifest: Manifest,
    classes: Translation,
    /// From the top down, as far as there are groups.
    levels: Vec<Translation>,
    /// Memory that all of it takes, nearly.
    bytes: u64,
}

impl InRevision {
    /// Translates rows that stand for these leaves and answer in `own`.
    ///
    /// # Errors
    /// As [`Translation::new`].
    pub(super) fn new(own: &Manifest, manifest: Manifest, rows: &[LeafId]) -> Result<Self> {
        let translation = |level| Translation::new(own, &manifest, rows, level);
        let levels = (0..manifest.depth()).map(|level| translation(Some(level)));
        let levels = levels.collect::<Result<Vec<_>>>()?;
        let rows = (levels.len() + 1) * rows.len() * size_of::<Option<u32>>();
        let bytes = (manifest.memory_bytes() + rows) as u64;
        Ok(Self { classes: translation(None)?, levels, manifest, bytes })
    }

    /// The translation at a level: 0 is the top; into the classes themselves without one.
    pub fn at(&self, level: Option<u32>) -> &Translation {
        level.and_then(|level| self.levels.get(level as usize)).unwrap_or(&self.classes)
    }

    /// The class of the revision with an id; none for one that is newer, or is gone there.
    pub fn class(&self, id: ClassId) -> Option<&Class> {
        self.manifest.classes.get(&id).filter(|class| class.is_living())
    }
}

/// The translations of a version that were used last; the latest at the end.
#[derive(Debug, Default)]
pub(super) struct Translations(Mutex<Vec<Arc<InRevision>>>);

impl Translations {
    /// The translation to a revision, if it is kept.
    pub(super) fn get(&self, revision: Revision) -> Option<Arc<InRevision>> {
        let mut kept = self.lock();
        let position = kept.iter().position(|of| of.manifest.revision == revision)?;
        let found = kept.remove(position);
        kept.push(Arc::clone(&found));
        Some(found)
    }

    /// Keeps a translation, in place of the one that was not used for longest where there are many.
    pub(super) fn keep(&self, translation: InRevision) -> Arc<InRevision> {
        if let Some(found) = self.get(translation.manifest.revision) {
            return found;
        }
        let (mut kept, translation) = (self.lock(), Arc::new(translation));
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(Arc::clone(&translation));
        translation
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().iter().map(|translation| translation.bytes).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<InRevision>>> {
        // A panic elsewhere leaves a list of whole translations.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::taxonomy::ClassName;

    #[test]
    fn the_latest_used_translations_are_kept() {
        let names = ["a", "b"].map(|name| ClassName::new(name).unwrap());
        let own = Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap();
        let rows: Vec<LeafId> = own.leaves().into_iter().collect();
        let kept = Translations::default();
        let translation = |revision| {
            let manifest = Manifest { revision: Revision(revision), ..own.clone() };
            InRevision::new(&own, manifest, &rows).unwrap()
        };
        let first = kept.keep(translation(1));
        assert!(Arc::ptr_eq(&first, &kept.keep(translation(1))));
        for revision in 2..=KEPT as u64 + 1 {
            kept.keep(translation(revision));
            assert!(kept.get(Revision(1)).is_some_and(|found| Arc::ptr_eq(&first, &found)));
        }
        assert!(kept.get(Revision(2)).is_none());
        assert_eq!(kept.lock().len(), KEPT);
    }
}
