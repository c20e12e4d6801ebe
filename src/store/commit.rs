//! Writing: transactions that are durable when they return, bulk loads that become so with the next one.

use std::sync::{
    Condvar, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use sled::transaction::{
    TransactionError, Transactional as _, TransactionalTree, UnabortableTransactionError,
};

use super::{
    Batch, Store, Tree,
    batch::Write,
    cell::{cell_key, seal},
    high_water,
    open::storage_error,
    read_only::WRITE_FAILED,
    space::{self, COMPACT_ELSEWHERE, OPENING_BYTES},
};
use crate::error::{Error, Result};

/// Bytes that go to sled in one of its batches when atomicity is not asked for: long batches hold up readers.
const BULK_BYTES: usize = 1024 * 1024;

/// Keys that are removed in one batch, for the same reason.
const BULK_KEYS: usize = 1024;

/// Lets writers that wait at the same time share one fsync: the first leads and syncs for all that have written by
/// then; those who came later wait and elect the next.
#[derive(Debug, Default)]
pub(super) struct GroupSync {
    /// Writes applied so far; a writer's ticket is the count after its own.
    written: AtomicU64,
    state: Mutex<SyncState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SyncState {
    /// Highest ticket that is durable.
    synced: u64,
    leading: bool,
}

/// Steps down from leading even when the sync panics, so that nobody waits for ever.
struct Lead<'a>(&'a GroupSync);

impl Store {
    /// Applies a batch, all or nothing, and returns once it is durable, together with everything written before it.
    ///
    /// Others can read it a moment before.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store is read-only; [`Error::Io`] when this write failed and made it so;
    /// [`Error::Exhausted`] with reason `DISK_SPACE` where little room is left: then nothing was written.
    pub fn commit(&self, batch: Batch) -> Result<()> {
        self.apply(batch)?;
        self.sync()
    }

    /// Applies a batch, all or nothing. Others can read it on return; it is durable with the next [`sync`](Self::sync), which
    /// several writers may share.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn apply(&self, batch: Batch) -> Result<()> {
        self.check_writable()?;
        self.check_room_for(&batch)?;
        if batch.is_empty() { Ok(()) } else { self.transact(&batch).map_err(|error| self.fail(error)) }
    }

    /// Applies a batch value by value: a crash may leave a part of it. Nothing is durable before the next
    /// [`commit`](Self::commit) or [`sync`](Self::sync). Nobody else may write these keys meanwhile.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn append(&self, batch: Batch) -> Result<()> {
        self.append_until(batch, |bulk| bulk.finish())
    }

    /// As [`append`](Self::append), and makes it durable.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn append_durably(&self, batch: Batch) -> Result<()> {
        // The sync waits for the last piece.
        self.append_until(batch, |bulk| bulk.apply())?;
        self.sync()
    }

    fn append_until(&self, batch: Batch, end: fn(&mut Bulk<'_>) -> Result<(), sled::Error>) -> Result<()> {
        self.check_writable()?;
        if !batch.frees {
            self.check_room_for_bulk()?;
        }
        let _writing = self.inner.gate.enter();
        let mut bulk = Bulk::new(self);
        let outcome = batch
            .writes
            .iter()
            .try_for_each(|Write { tree, key, payload }| bulk.write(*tree, key, payload.as_deref()))
            .and_then(|()| end(&mut bulk));
        self.inner.gate.touch(batch.keys());
        outcome.map_err(|error| self.fail(error))
    }

    /// Makes everything durable that was written before.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn sync(&self) -> Result<()> {
        let group = &self.inner.group;
        let ticket = group.written.fetch_add(1, Ordering::AcqRel) + 1;
        group.wait(ticket, || {
            self.check_writable()?;
            let _pending = self.inner.pending.begin();
            let mark = self.inner.high_water.next();
            // Behind everything that this sync makes durable, so that where it is found nothing before is missing.
            let marked = self.inner.db.insert(high_water::KEY, &mark.to_be_bytes());
            marked.and_then(|_| self.inner.db.flush()).map_err(|error| self.fail(error))?;
            self.inner.log.sync_data().map_err(|error| self.fail(error.into()))?;
            self.inner.high_water.record(mark).inspect_err(|_| self.inner.read_only.begin(WRITE_FAILED))?;
            // Last, so that whatever was lost before is noticed before anybody is told that it is kept.
            self.check_files()
        })
    }

    /// Removes all keys that begin with a prefix, bit by bit as [`append`](Self::append) does. Returns how many values
    /// there were.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn delete_prefix(&self, tree: Tree, prefix: &[u8]) -> Result<u64> {
        self.delete_from(tree, prefix, prefix)
    }

    /// As [`delete_prefix`](Self::delete_prefix), of the keys behind `after`, which begins with the prefix
    /// too.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn delete_after(&self, tree: Tree, prefix: &[u8], after: &[u8]) -> Result<u64> {
        debug_assert!(after.starts_with(prefix), "the removal would leave its prefix");
        self.delete_from(tree, prefix, &cell_key(after, u32::MAX))
    }

    /// Removes the cells whose keys begin with a prefix, from the cell key `from` on.
    fn delete_from(&self, tree: Tree, prefix: &[u8], from: &[u8]) -> Result<u64> {
        self.check_writable()?;
        let sled = self.sled(tree);
        // Held to the end: a part of a value is damage to whoever checks.
        let _writing = self.inner.gate.enter();
        let mut removed = 0;
        loop {
            let mut batch = sled::Batch::default();
            let mut keys = 0;
            for key in sled.range(from..).keys().take(BULK_KEYS) {
                let key = key.map_err(|error| self.read_error(error))?;
                if !key.starts_with(prefix) {
                    break;
                }
                removed += u64::from(key.ends_with(&0u32.to_be_bytes()));
                batch.remove(key);
                keys += 1;
            }
            if keys == 0 {
                return Ok(removed);
            }
            let outcome = self.apply_bulk(sled, batch);
            self.inner.gate.touch_prefix(tree, prefix);
            outcome.map_err(|error| self.fail(error))?;
        }
    }

    fn transact(&self, batch: &Batch) -> Result<(), sled::Error> {
        let used: Vec<Tree> = Tree::ALL
            .into_iter()
            .filter(|tree| batch.writes.iter().any(|write| write.tree == *tree))
            .collect();
        let trees: Vec<&sled::Tree> = used.iter().map(|tree| self.sled(*tree)).collect();
        let _writing = self.inner.gate.enter();
        let _pending = self.inner.pending.begin();
        let outcome = trees.as_slice().transaction(|views| {
            for Write { tree, key, payload } in &batch.writes {
                let view = used.iter().position(|other| other == tree).map(|at| &views[at]);
                let view = view.expect("every tree of the batch was collected above");
                write_cells(view, *tree, key, payload.as_deref())?;
            }
            Ok(())
        });
        self.inner.gate.touch(batch.keys());
        outcome.map_err(|error| match error {
            TransactionError::Storage(error) | TransactionError::Abort(error) => error,
        })
    }

    /// Applies a batch and waits until it is written, if not durable: of what waits for the disk sled then has no more than
    /// its threads can do at once ([`super::pending`]).
    fn apply_bulk(&self, tree: &sled::Tree, batch: sled::Batch) -> Result<(), sled::Error> {
        let _pending = self.inner.pending.begin();
        tree.apply_batch(batch)?;
        self.inner.db.flush().map(|_| ())
    }

    /// Refuses where the store takes no writes.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the reason, and what to do.
    pub fn check_writable(&self) -> Result<()> {
        self.inner.read_only.check()
    }

    /// Ends writing: sled's handle stays poisoned after a failed write.
    fn fail(&self, error: sled::Error) -> Error {
        self.inner.read_only.begin(WRITE_FAILED);
        match storage_error("writing to the store", error) {
            error if space::is_full(&error) => {
                let path = self.inner.directory.path();
                space::full(path, OPENING_BYTES, "to write to the store", COMPACT_ELSEWHERE)
            }
            error => error,
        }
    }
}

/// Replaces a value in a transaction: new cells, and no old ones after them.
fn write_cells(
    view: &TransactionalTree,
    tree: Tree,
    key: &[u8],
    payload: Option<&[u8]>,
) -> Result<(), UnabortableTransactionError> {
    let mut next = 0;
    for (key, sealed) in payload.into_iter().flat_map(|payload| seal(tree, key, payload)) {
        view.insert(key, sealed)?;
        next += 1;
    }
    while view.remove(cell_key(key, next))?.is_some() {
        next += 1;
    }
    Ok(())
}

/// Collects cells into batches of a moderate size.
struct Bulk<'a> {
    store: &'a Store,
    tree: Tree,
    batch: sled::Batch,
    is_empty: bool,
    bytes: usize,
}

impl<'a> Bulk<'a> {
    fn new(store: &'a Store) -> Self {
        Self { store, tree: Tree::Catalog, batch: sled::Batch::default(), is_empty: true, bytes: 0 }
    }

    fn write(&mut self, tree: Tree, key: &[u8], payload: Option<&[u8]>) -> Result<(), sled::Error> {
        if tree != self.tree {
            self.finish()?;
            self.tree = tree;
        }
        let mut next = 0;
        for (key, sealed) in payload.into_iter().flat_map(|payload| seal(tree, key, payload)) {
            self.bytes += key.len() + sealed.len();
            self.batch.insert(key, sealed);
            self.is_empty = false;
            if self.bytes >= BULK_BYTES {
                self.finish()?;
            }
            next += 1;
        }
        while self.store.sled(tree).contains_key(cell_key(key, next))? {
            self.batch.remove(cell_key(key, next));
            self.is_empty = false;
            next += 1;
        }
        Ok(())
    }

    /// Writes what there is, and waits until it is written.
    fn finish(&mut self) -> Result<(), sled::Error> {
        match self.take() {
            Some(batch) => self.store.apply_bulk(self.store.sled(self.tree), batch),
            None => Ok(()),
        }
    }

    /// Writes what there is.
    fn apply(&mut self) -> Result<(), sled::Error> {
        let _pending = self.store.inner.pending.begin();
        match self.take() {
            Some(batch) => self.store.sled(self.tree).apply_batch(batch),
            None => Ok(()),
        }
    }

    /// What there is, if anything.
    fn take(&mut self) -> Option<sled::Batch> {
        self.bytes = 0;
        (!std::mem::replace(&mut self.is_empty, true)).then(|| std::mem::take(&mut self.batch))
    }
}

impl GroupSync {
    /// Returns once everything up to a ticket is durable, by own work or another's.
    fn wait(&self, ticket: u64, sync: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.leading && state.synced < ticket {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.synced >= ticket {
            return Ok(());
        }
        state.leading = true;
        drop(state);
        let lead = Lead(self);
        // Whoever took a ticket up to here has written already.
        let reached = self.written.load(Ordering::Acquire);
        sync()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.synced = state.synced.max(reached);
        drop(state);
        drop(lead);
        Ok(())
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.leading = false;
        drop(state);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Barrier},
        thread,
    };

    use super::*;

    #[test]
    fn waiting_writers_share_a_sync_and_each_is_covered() {
        const WRITERS: usize = 8;
        let group = Arc::new(GroupSync::default());
        let syncs = Arc::new(AtomicU64::new(0));
        let first_syncs = Arc::new(Barrier::new(2));
        let release = Arc::new(Barrier::new(2));
        // The first sync is held until all others have their tickets.
        let leader = {
            let (group, syncs) = (group.clone(), syncs.clone());
            let (first_syncs, release) = (first_syncs.clone(), release.clone());
            thread::spawn(move || {
                let ticket = group.written.fetch_add(1, Ordering::AcqRel) + 1;
                group.wait(ticket, || {
                    syncs.fetch_add(1, Ordering::AcqRel);
                    first_syncs.wait();
                    release.wait();
                    Ok(())
                })
            })
        };
        first_syncs.wait();
        let tickets: Vec<u64> =
            (0..WRITERS).map(|_| group.written.fetch_add(1, Ordering::AcqRel) + 1).collect();
        let writers: Vec<_> = tickets
            .into_iter()
            .map(|ticket| {
                let (group, syncs) = (group.clone(), syncs.clone());
                thread::spawn(move || {
                    group.wait(ticket, || {
                        syncs.fetch_add(1, Ordering::AcqRel);
                        Ok(())
                    })
                })
            })
            .collect();
        release.wait();
        leader.join().unwrap().unwrap();
        writers.into_iter().for_each(|writer| writer.join().unwrap().unwrap());
        assert_eq!(syncs.load(Ordering::Acquire), 2, "one for the first, one for all who came during it");
    }

    #[test]
    fn a_failed_or_panicking_sync_does_not_hold_up_the_next() {
        let group = GroupSync::default();
        let failed = group.wait(1, || Err(Error::Cancelled));
        assert!(matches!(failed, Err(Error::Cancelled)));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            group.wait(1, || panic!("the sync panics"))
        }));
        assert!(panicked.is_err());
        group.written.store(1, Ordering::Release);
        group.wait(1, || Ok(())).unwrap();
        group.wait(1, || panic!("it is durable already")).unwrap();
    }
}
