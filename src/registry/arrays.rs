//! Arrays of checkpoints that somebody holds, by where each is stored: what versions share is in memory once, and is neither
//! read nor hashed again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    model::{Numbers, WeakNumbers},
    store::BlobId,
};

/// Bytes stored under their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Blob {
    pub(super) id: BlobId,
    pub(super) length: u64,
}

/// Where the numbers of an array are stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// All of them, or those of a matrix from which it differs.
    pub(super) data: Blob,
    /// The columns in which it does, and their numbers.
    pub(super) columns: Option<(Vec<u32>, Blob)>,
}

impl Place {
    /// That of an array that is stored whole.
    pub(super) fn whole(data: Blob) -> Self {
        Self { data, columns: None }
    }

    /// What is stored there.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Blob> {
        [self.data].into_iter().chain(self.columns.as_ref().map(|(_, data)| *data))
    }
}

/// The arrays. Holds none of them.
#[derive(Debug, Default)]
pub(super) struct Arrays(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_place: HashMap<Place, WeakNumbers>,
    by_address: HashMap<usize, Place>,
}

impl Arrays {
    /// The array that is stored there.
    pub(super) fn get(&self, place: &Place) -> Option<Numbers> {
        self.lock().by_place.get(place).and_then(WeakNumbers::upgrade)
    }

    /// Where an array was read from or stored.
    pub(super) fn place_of(&self, array: &Numbers) -> Option<Place> {
        self.lock().by_address.get(&array.address()).cloned()
    }

    /// Remembers where an array is stored.
    pub(super) fn remember(&self, place: Place, array: &Numbers) {
        let mut known = self.lock();
        let Known { by_place, by_address } = &mut *known;
        by_place.retain(|_, array| {
            let held = array.is_held();
            if !held {
                by_address.remove(&array.address());
            }
            held
        });
        // Of two equal arrays the first is found by the place.
        let first = by_place.entry(place.clone()).or_insert_with(|| array.downgrade());
        if first.address() == array.address() {
            by_address.insert(array.address(), place);
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
        let whole = |byte| Place::whole(Blob { id: BlobId([byte; 32]), length: 4 });
        let (first, second) = (
            whole(1),
            Place { columns: Some((vec![0], Blob { id: BlobId([2; 32]), length: 4 })), ..whole(1) },
        );
        arrays.remember(first.clone(), &one);
        arrays.remember(second.clone(), &two);
        assert!(arrays.get(&first).is_some_and(|found| found.is_shared_with(&one)));
        assert_eq!((arrays.place_of(&one), arrays.place_of(&two)), (Some(first.clone()), Some(second)));
        assert_eq!(arrays.place_of(&Numbers::from([1.0])), None, "an equal one is another");
        drop(one);
        assert_eq!(arrays.get(&first), None);
        let again = Numbers::from([1.0]);
        arrays.remember(first.clone(), &again);
        assert_eq!(arrays.place_of(&again), Some(first));
        assert_eq!(arrays.lock().by_address.len(), 2);
    }

    #[test]
    fn of_equal_arrays_one_stands_for_the_place() {
        let arrays = Arrays::default();
        let (one, twin) = (Numbers::from([1.0]), Numbers::from([1.0]));
        let place = Place::whole(Blob { id: BlobId([1; 32]), length: 4 });
        arrays.remember(place.clone(), &one);
        arrays.remember(place.clone(), &twin);
        assert!(arrays.get(&place).is_some_and(|found| found.is_shared_with(&one)));
        assert_eq!((arrays.place_of(&one), arrays.place_of(&twin)), (Some(place), None));
    }
}
