//! Manifests in memory: those that were read or made last. A revision never changes, so what is here is right for ever. A
//! manifest holds all classes there ever were, so that reading it again takes time that grows with the history.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::taxonomy::{Manifest, Revision};

/// Bytes that they take together.
const BUDGET_BYTES: usize = 32 << 20;
/// Manifests at most: each use looks through them.
const MOST: usize = 64;

/// The uid of a model and a revision of its classes.
type Key = (u64, Revision);

/// The manifests that were used last.
#[derive(Debug, Default)]
pub(super) struct Manifests(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The latest used one at the end.
    manifests: VecDeque<(Key, Arc<Manifest>, usize)>,
    bytes: usize,
}

impl Manifests {
    /// A manifest that is in memory.
    pub(super) fn get(&self, uid: u64, revision: Revision) -> Option<Arc<Manifest>> {
        let mut kept = self.lock();
        let at = kept.manifests.iter().rposition(|(key, ..)| *key == (uid, revision))?;
        let entry = kept.manifests.remove(at)?;
        let found = Arc::clone(&entry.1);
        kept.manifests.push_back(entry);
        Some(found)
    }

    /// Keeps a manifest, in place of those that were not used for longest where they take too much.
    pub(super) fn keep(&self, uid: u64, manifest: &Arc<Manifest>) {
        let (key, bytes) = ((uid, manifest.revision), manifest.memory_bytes());
        let mut kept = self.lock();
        if bytes > BUDGET_BYTES || kept.manifests.iter().any(|(other, ..)| *other == key) {
            return;
        }
        while kept.manifests.len() >= MOST || kept.bytes + bytes > BUDGET_BYTES {
            let Some((_, _, oldest)) = kept.manifests.pop_front() else { break };
            kept.bytes -= oldest;
        }
        kept.manifests.push_back((key, Arc::clone(manifest), bytes));
        kept.bytes += bytes;
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing in here panics between the two changes of an entry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::taxonomy::ClassName;

    fn manifest(revision: u64, classes: usize) -> Arc<Manifest> {
        let names: Vec<ClassName> =
            (0..classes).map(|at| ClassName::new(&format!("{at:0>100}")).unwrap()).collect();
        let first = Manifest::create(&names, SystemTime::UNIX_EPOCH).unwrap();
        Arc::new(Manifest { revision: Revision(revision), ..first })
    }

    #[test]
    fn the_latest_used_stay_within_the_bounds() {
        let kept = Manifests::default();
        for revision in 1..=2 * MOST as u64 {
            kept.keep(7, &manifest(revision, 2));
            assert!(kept.get(7, Revision(1)).is_some());
        }
        assert!(kept.get(7, Revision(2)).is_none() && kept.get(8, Revision(1)).is_none());
        assert_eq!(kept.lock().manifests.len(), MOST);

        let large = manifest(1000, 20_000);
        assert!(large.memory_bytes() > 20_000 * 100);
        for revision in 1000..1020 {
            kept.keep(7, &Arc::new(Manifest { revision: Revision(revision), ..Manifest::clone(&large) }));
            let held = kept.lock();
            let sum: usize = held.manifests.iter().map(|(_, manifest, _)| manifest.memory_bytes()).sum();
            assert!(held.bytes == sum && sum <= BUDGET_BYTES, "{sum}");
        }
        assert!(kept.get(7, Revision(1019)).is_some());
    }
}
