//! What the models hold, by fingerprints, kept for the next call that writes to them.
//!
//! To know it a call reads all examples of its model, so it is kept; but only of the models that were written last, so that
//! memory does not grow with the number of models.

use std::collections::{BTreeSet, VecDeque};

use super::{MAX_EXAMPLES, example::Fingerprint};

/// Most fingerprints that are kept, of all models together: those of the largest model there can be, and as many of others. A
/// fingerprint takes about 35 bytes.
const MOST: usize = 2 * MAX_EXAMPLES as usize;

/// The fingerprints of some models, those of the one that was written last at the end.
#[derive(Debug)]
pub(super) struct Seen {
    models: VecDeque<(u64, BTreeSet<Fingerprint>)>,
    most: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Self { models: VecDeque::new(), most: MOST }
    }
}

impl Seen {
    /// Takes out what a model holds, if it is known.
    pub(super) fn take(&mut self, uid: u64) -> Option<BTreeSet<Fingerprint>> {
        let at = self.models.iter().position(|(other, _)| *other == uid)?;
        self.models.remove(at).map(|(_, seen)| seen)
    }

    /// Keeps what a model holds, and forgets the models that were written longest ago until all of it is within the bound.
    pub(super) fn keep(&mut self, uid: u64, seen: BTreeSet<Fingerprint>) {
        self.models.push_back((uid, seen));
        let mut count: usize = self.models.iter().map(|(_, seen)| seen.len()).sum();
        while count > self.most
            && let Some((_, forgotten)) = self.models.pop_front()
        {
            count -= forgotten.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::taxonomy::ClassName;

    fn fingerprints(count: usize) -> BTreeSet<Fingerprint> {
        let label = ClassName::new("card").unwrap();
        (0..count).map(|number| Fingerprint::and_split(&format!("text {number}"), &label).0).collect()
    }

    #[test]
    fn what_was_written_longest_ago_is_forgotten_first() {
        let mut seen = Seen { most: 10, ..Seen::default() };
        for uid in 1..=3 {
            seen.keep(uid, fingerprints(4));
        }
        assert_eq!(seen.take(1), None);
        assert_eq!(seen.take(2), Some(fingerprints(4)));
        seen.keep(2, fingerprints(5));
        seen.keep(4, fingerprints(2));
        assert_eq!(seen.take(3), None);
        assert_eq!([2, 4].map(|uid| seen.take(uid).map(|seen| seen.len())), [Some(5), Some(2)]);
        seen.keep(5, fingerprints(11));
        assert_eq!(seen.take(5), None, "more than the bound is not kept");
        assert!(seen.models.is_empty());
    }
}
