//! What a network makes of tokens before it reads texts, kept for the texts that hold the same tokens.
//!
//! Most tokens of a text are among the few thousand that all texts share (Zipf's law), and half of what it takes to read
//! one, its embedding and its product with the weights of the gates, does not depend on its neighbours. A token is told by
//! the rows of the embedding that it is the mean of.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::{error::Result, text::Bags};

/// A token is kept as these numbers.
pub(super) type Numbers = Arc<[f32]>;

/// Bytes of an entry beside its numbers and its key: their headers, and its place in a table that is seldom full.
const ENTRY_BYTES: usize = 80;

/// Bytes that the tokens of several networks take together.
#[derive(Debug, Default)]
pub struct TokenMemory(AtomicU64);

impl TokenMemory {
    /// The bytes.
    pub fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn change(&self, before: usize, now: usize) {
        // In two's complement this subtracts as well.
        self.0.fetch_add((now as u64).wrapping_sub(before as u64), Relaxed);
    }
}

/// Numbers of the tokens that were used last, within a bound.
#[derive(Debug)]
pub(super) struct Tokens {
    /// Numbers of a token.
    width: usize,
    /// Tokens of a generation.
    capacity: usize,
    generations: RwLock<Generations>,
    /// Where its bytes are counted.
    memory: Arc<TokenMemory>,
}

/// A token is looked for in both. One that is found in the old generation, or nowhere, goes into the young one; when that
/// is full it becomes the old one. So what is used stays, and no use needs to be written down.
#[derive(Debug, Default)]
struct Generations {
    young: Kept,
    old: Kept,
}

/// Tokens of a generation.
#[derive(Debug, Default)]
struct Kept {
    tokens: HashMap<Box<[u32]>, Numbers>,
    bytes: usize,
}

impl Tokens {
    /// Keeps tokens of so many numbers each, whose numbers take at most so many bytes, and counts what it takes in all.
    pub(super) fn new(width: usize, bytes: usize, memory: Arc<TokenMemory>) -> Self {
        let capacity = bytes / 2 / (width * size_of::<f32>());
        Self { width, capacity: capacity.max(1), generations: RwLock::default(), memory }
    }

    /// Where its bytes are counted.
    pub(super) fn memory(&self) -> &Arc<TokenMemory> {
        &self.memory
    }

    /// Bytes that it takes now.
    pub(super) fn bytes(&self) -> usize {
        self.read().bytes()
    }

    /// Lets go of the tokens that were not used for longest, of about half of those there are or, with `all`, of every one.
    pub(super) fn shrink(&self, all: bool) {
        let gone = {
            let mut generations = self.write();
            let before = generations.bytes();
            let mut gone = vec![std::mem::take(&mut generations.old)];
            if all {
                gone.push(std::mem::take(&mut generations.young));
            } else {
                // They are the next to go.
                generations.old = std::mem::take(&mut generations.young);
            }
            self.memory.change(before, generations.bytes());
            gone
        };
        // Outside of the lock: whoever reads need not wait for it.
        drop(gone);
    }

    /// The numbers of each bag; `make` makes those of the bags that are not kept, one after the other.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn get(
        &self,
        bags: &Bags,
        make: impl FnOnce(&Bags) -> Result<Vec<f32>>,
    ) -> Result<Vec<Numbers>> {
        let count = bags.offsets.len() - 1;
        let mut numbers: Vec<Option<Numbers>> = Vec::with_capacity(count);
        // What is to be put into the young generation: from the old one, or made now; each once.
        let (mut old, mut new): (Vec<usize>, HashMap<&[u32], usize>) = (Vec::new(), HashMap::new());
        let mut made = Bags { rows: Vec::new(), offsets: vec![0] };
        {
            let generations = self.read();
            for token in 0..count {
                let bag = bags.bag(token);
                let young = generations.young.tokens.get(bag);
                let found = young.or_else(|| {
                    let found = generations.old.tokens.get(bag)?;
                    old.push(token);
                    Some(found)
                });
                if found.is_none() && !new.contains_key(bag) {
                    new.insert(bag, new.len());
                    made.rows.extend_from_slice(bag);
                    made.offsets.push(made.rows.len() as u32);
                }
                numbers.push(found.cloned());
            }
        }
        let made: Vec<Numbers> = if new.is_empty() {
            Vec::new()
        } else {
            make(&made)?.chunks_exact(self.width).map(Arc::from).collect()
        };
        let all = numbers.into_iter().enumerate();
        let all: Vec<Numbers> = all
            .map(|(token, found)| found.unwrap_or_else(|| Arc::clone(&made[new[bags.bag(token)]])))
            .collect();
        if !(old.is_empty() && new.is_empty()) {
            let mut generations = self.write();
            let before = generations.bytes();
            let old = old.into_iter().map(|token| (bags.bag(token), &all[token]));
            let new = new.into_iter().map(|(bag, at)| (bag, &made[at]));
            old.chain(new).for_each(|(bag, numbers)| generations.keep(bag, numbers, self.capacity));
            self.memory.change(before, generations.bytes());
        }
        Ok(all)
    }

    // A panic elsewhere leaves whole entries.

    fn read(&self) -> RwLockReadGuard<'_, Generations> {
        self.generations.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Generations> {
        self.generations.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.memory.change(self.bytes(), 0);
    }
}

impl Generations {
    fn bytes(&self) -> usize {
        self.young.bytes + self.old.bytes
    }

    fn keep(&mut self, bag: &[u32], numbers: &Numbers, capacity: usize) {
        // Another thread may have been faster.
        if self.young.tokens.contains_key(bag) {
            return;
        }
        if self.young.tokens.len() >= capacity {
            self.old = std::mem::take(&mut self.young);
        }
        let bytes = size_of_val(&**numbers) + size_of_val(bag) + ENTRY_BYTES;
        // It moves, so that it is counted once.
        let (key, numbers) = match self.old.tokens.remove_entry(bag) {
            Some(entry) => {
                self.old.bytes -= bytes;
                entry
            }
            None => (bag.into(), Arc::clone(numbers)),
        };
        self.young.tokens.insert(key, numbers);
        self.young.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bags(of: &[&[u32]]) -> Bags {
        let mut offsets = vec![0];
        for bag in of {
            offsets.push(offsets[offsets.len() - 1] + bag.len() as u32);
        }
        Bags { rows: of.concat(), offsets }
    }

    /// The numbers of bags, and the bags that had to be made.
    fn get(tokens: &Tokens, of: &[&[u32]]) -> (Vec<f32>, Vec<Vec<u32>>) {
        let mut made = Vec::new();
        let numbers = tokens
            .get(&bags(of), |missing| {
                made = (0..missing.offsets.len() - 1).map(|token| missing.bag(token).to_vec()).collect();
                Ok(made.iter().flat_map(|bag| [bag[0] as f32, bag.len() as f32]).collect())
            })
            .unwrap();
        (numbers.iter().flat_map(|numbers| numbers.to_vec()).collect(), made)
    }

    fn tokens(bytes: usize) -> Tokens {
        Tokens::new(2, bytes, Arc::default())
    }

    /// The bytes that the entries take, counted one by one.
    fn counted(tokens: &Tokens) -> u64 {
        let generations = tokens.read();
        let entries = generations.young.tokens.iter().chain(&generations.old.tokens);
        let bytes = entries.map(|(bag, numbers)| size_of_val(&**numbers) + size_of_val(&**bag) + ENTRY_BYTES);
        bytes.sum::<usize>() as u64
    }

    #[test]
    fn what_is_taken_is_counted_as_it_comes_and_goes() {
        let (tokens, others) = (tokens(64), Tokens::new(2, 64, Arc::default()));
        let memory = Arc::clone(tokens.memory());
        assert_eq!((memory.bytes(), tokens.bytes()), (0, 0));
        get(&others, &[&[1]]);
        for token in 0..50 {
            get(&tokens, &[&[1, 2, 3], &[token], &[token / 2]]);
            assert_eq!(memory.bytes(), counted(&tokens));
            assert_eq!(memory.bytes(), tokens.bytes() as u64);
        }
        let full = memory.bytes();
        get(&tokens, &[&[7_000]]);
        tokens.shrink(false);
        let left = memory.bytes();
        assert!(left < full && left == counted(&tokens), "{left} of {full}");
        assert!(get(&tokens, &[&[7_000]]).1.is_empty(), "what was used last stays");
        tokens.shrink(true);
        assert_eq!((memory.bytes(), counted(&tokens)), (0, 0));
        get(&tokens, &[&[1], &[2]]);
        drop(tokens);
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn what_is_kept_is_not_made_again() {
        let tokens = tokens(1 << 10);
        let (numbers, made) = get(&tokens, &[&[5, 1], &[7], &[5, 1]]);
        assert_eq!(numbers, [5.0, 2.0, 7.0, 1.0, 5.0, 2.0]);
        assert_eq!(made, [vec![5, 1], vec![7]]);
        let (numbers, made) = get(&tokens, &[&[7], &[9], &[5]]);
        assert_eq!(numbers, [7.0, 1.0, 9.0, 1.0, 5.0, 1.0]);
        assert_eq!(made, [vec![9], vec![5]]);
        assert!(get(&tokens, &[&[9], &[5, 1]]).1.is_empty());
    }

    #[test]
    fn what_is_used_stays_within_the_bound() {
        // Four tokens in each of two generations.
        let tokens = tokens(64);
        for token in 0..100 {
            get(&tokens, &[&[1_000_000], &[token]]);
            let kept = tokens.read();
            assert!(kept.young.tokens.len() <= 4 && kept.old.tokens.len() <= 4);
        }
        assert!(get(&tokens, &[&[1_000_000], &[99]]).1.is_empty());
        assert_eq!(get(&tokens, &[&[0]]).1, [vec![0]]);
    }

    #[test]
    fn what_cannot_be_made_is_not_kept() {
        let tokens = tokens(64);
        let gone = || crate::error::Error::Internal("gone".into());
        assert!(tokens.get(&bags(&[&[1]]), |_| Err(gone())).is_err());
        assert_eq!(get(&tokens, &[&[1]]).1, [vec![1]]);
    }
}
