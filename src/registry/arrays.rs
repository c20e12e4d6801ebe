//! Arrays of checkpoints that somebody holds, by the blob that each is stored as: what versions share is in memory once,
//! and is neither read nor hashed again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    model::{Numbers, WeakNumbers},
    store::BlobId,
};

/// The arrays. Holds none of them.
#[derive(Debug, Default)]
pub(super) struct Arrays(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_blob: HashMap<BlobId, WeakNumbers>,
    by_address: HashMap<usize, BlobId>,
}

impl Arrays {
    /// The array that a blob is.
    pub(super) fn get(&self, blob: BlobId) -> Option<Numbers> {
        self.lock().by_blob.get(&blob).and_then(WeakNumbers::upgrade)
    }

    /// The blob that an array was read from or stored as.
    pub(super) fn blob_of(&self, array: &Numbers) -> Option<BlobId> {
        self.lock().by_address.get(&array.address()).copied()
    }

    /// Remembers that an array is a blob.
    pub(super) fn remember(&self, blob: BlobId, array: &Numbers) {
        let mut known = self.lock();
        let Known { by_blob, by_address } = &mut *known;
        by_blob.retain(|_, array| {
            let held = array.is_held();
            if !held {
                by_address.remove(&array.address());
            }
            held
        });
        // Of two equal arrays the first is found by the blob.
        let first = by_blob.entry(blob).or_insert_with(|| array.downgrade());
        if first.address() == array.address() {
            by_address.insert(array.address(), blob);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // An entry that is missing is read or hashed again.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_found_as_long_as_it_is_held() {
        let arrays = Arrays::default();
        let (one, two) = (Numbers::from([1.0]), Numbers::from([2.0]));
        let [first, second] = [1, 2].map(|byte| BlobId([byte; 32]));
        arrays.remember(first, &one);
        arrays.remember(second, &two);
        assert!(arrays.get(first).is_some_and(|found| found.is_shared_with(&one)));
        assert_eq!((arrays.blob_of(&one), arrays.blob_of(&two)), (Some(first), Some(second)));
        assert_eq!(arrays.blob_of(&Numbers::from([1.0])), None, "an equal one is another");
        drop(one);
        assert_eq!(arrays.get(first), None);
        let again = Numbers::from([1.0]);
        arrays.remember(first, &again);
        assert_eq!(arrays.blob_of(&again), Some(first));
        assert_eq!(arrays.lock().by_address.len(), 2);
    }

    #[test]
    fn of_equal_arrays_one_stands_for_the_blob() {
        let arrays = Arrays::default();
        let (one, twin) = (Numbers::from([1.0]), Numbers::from([1.0]));
        let blob = BlobId([1; 32]);
        arrays.remember(blob, &one);
        arrays.remember(blob, &twin);
        assert!(arrays.get(blob).is_some_and(|found| found.is_shared_with(&one)));
        assert_eq!((arrays.blob_of(&one), arrays.blob_of(&twin)), (Some(blob), None));
    }
}
