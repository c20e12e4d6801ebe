//! Writes that belong together.

use super::Tree;

/// Puts and deletes over several trees. Where a key occurs twice, the later write counts.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(super) writes: Vec<Write>,
    /// Whether it is written also where the disk has little room left.
    pub(super) frees: bool,
}

/// One put, or one delete where there is no payload.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) tree: Tree,
    pub(super) key: Vec<u8>,
    pub(super) payload: Option<Vec<u8>>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch that is written also where the disk has little room left: it gives room back, or ends something in
    /// a few bytes.
    pub fn freeing() -> Self {
        Self { frees: true, ..Self::default() }
    }

    /// Stores a value under a key.
    pub fn put(&mut self, tree: Tree, key: impl Into<Vec<u8>>, payload: Vec<u8>) {
        self.writes.push(Write { tree, key: key.into(), payload: Some(payload) });
    }

    /// Removes a key, if it is there.
    pub fn delete(&mut self, tree: Tree, key: impl Into<Vec<u8>>) {
        self.writes.push(Write { tree, key: key.into(), payload: None });
    }

    /// What it writes or removes.
    pub(super) fn keys(&self) -> impl Iterator<Item = (Tree, &[u8])> {
        self.writes.iter().map(|write| (write.tree, write.key.as_slice()))
    }

    /// Puts and deletes so far.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}
