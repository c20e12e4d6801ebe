//! Reading values in the order of their keys.

use std::ops::Bound;

use super::{
    Store, Tree,
    cell::{self, Checksum, cell_key, split_key},
};
use crate::error::Result;

/// Keys and values in order. Writes that happen meanwhile may show or not, value by value.
pub struct Scan {
    store: Store,
    tree: Tree,
    cells: sled::Iter,
    backwards: bool,
}

impl Store {
    /// The values whose keys begin with a prefix, ascending, from behind the key `after` on, which begins with it too.
    pub fn scan(&self, tree: Tree, prefix: &[u8], after: Option<&[u8]>) -> Scan {
        debug_assert!(after.is_none_or(|after| after.starts_with(prefix)), "the scan would leave its prefix");
        let from = match after {
            Some(after) => Bound::Excluded(cell_key(after, u32::MAX)),
            None => Bound::Included(prefix.to_vec()),
        };
        self.range(tree, from, end_of(prefix), false)
    }

    /// The values whose keys begin with a prefix, descending, from before the key `before` on, which begins with it too.
    pub fn scan_back(&self, tree: Tree, prefix: &[u8], before: Option<&[u8]>) -> Scan {
        debug_assert!(
            before.is_none_or(|before| before.starts_with(prefix)),
            "the scan would leave its prefix"
        );
        let to = match before {
            Some(before) => Bound::Excluded(cell_key(before, 0)),
            None => end_of(prefix),
        };
        self.range(tree, Bound::Included(prefix.to_vec()), to, true)
    }

    fn range(&self, tree: Tree, from: Bound<Vec<u8>>, to: Bound<Vec<u8>>, backwards: bool) -> Scan {
        Scan { store: self.clone(), tree, cells: self.sled(tree).range((from, to)), backwards }
    }
}

impl Scan {
    /// The value that begins with this cell; none where the cell goes on another one, or the value was removed.
    fn value(&self, cell: (sled::IVec, sled::IVec)) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let (cell_key, sealed) = cell;
        let (key, number) = split_key(self.tree, &cell_key)?;
        if number != 0 {
            return Ok(None);
        }
        let value = match cell::open(self.tree, &cell_key, Checksum::default(), &sealed)? {
            cell if cell.more => self.store.get(self.tree, key)?,
            cell => Some(cell.piece.to_vec()),
        };
        Ok(value.map(|value| (key.to_vec(), value)))
    }
}

impl Iterator for Scan {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let cell = if self.backwards { self.cells.next_back() } else { self.cells.next() };
            let value = match cell? {
                Ok(cell) => self.value(cell).transpose(),
                Err(error) => Some(Err(self.store.read_error(error))),
            };
            if value.is_some() {
                return value;
            }
        }
    }
}

/// Just behind the keys that begin with a prefix.
fn end_of(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_follows_all_its_keys() {
        assert_eq!(end_of(b"ab"), Bound::Excluded(b"ac".to_vec()));
        assert_eq!(end_of(&[1, 255, 255]), Bound::Excluded(vec![2]));
        assert_eq!(end_of(&[255]), Bound::Unbounded);
        assert_eq!(end_of(&[]), Bound::Unbounded);
    }
}
