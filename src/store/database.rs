//! sled's handles, and letting go of them.

use std::{
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tracing::error;

use super::Tree;

/// An open database and its trees.
#[derive(Debug)]
pub(super) struct Database(Option<Handles>);

#[derive(Debug)]
struct Handles {
    trees: [sled::Tree; Tree::ALL.len()],
    db: sled::Db,
}

impl Database {
    /// Opens the trees of a database, or makes them.
    pub(super) fn new(db: sled::Db) -> Result<Self, sled::Error> {
        let open = |tree: Tree| db.open_tree(tree.name());
        let [catalog, examples, jobs, chunks, receipts] = Tree::ALL.map(open);
        let trees = [catalog?, examples?, jobs?, chunks?, receipts?];
        Ok(Self(Some(Handles { trees, db })))
    }

    /// One of its trees.
    pub(super) fn tree(&self, tree: Tree) -> &sled::Tree {
        &self.handles().trees[tree as usize]
    }

    fn handles(&self) -> &Handles {
        self.0.as_ref().expect("they are there until it is dropped")
    }
}

impl Deref for Database {
    type Target = sled::Db;

    fn deref(&self) -> &sled::Db {
        &self.handles().db
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // sled syncs once more as it closes, and panics where the disk fails. What was acknowledged was synced before.
        let handles = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(handles))).is_err() {
            error!("the disk failed as the database was closed");
        }
    }
}
