//! What a network makes of tokens before it reads texts, kept for the texts that hold the same tokens.
//!
//! Most tokens of a text are among the few thousand that all texts share (Zipf's law), and half of what it takes to read
//! one, its embedding and its product with the weights of the gates, does not depend on its neighbours. A token is told by
//! the rows of the embedding that it is the mean of.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::{error::Result, text::Bags};

/// A token is kept as these numbers.
pub(super) type Numbers = Arc<[f32]>;

type Kept = HashMap<Box<[u32]>, Numbers>;

/// Numbers of the tokens that were used last, within a bound.
#[derive(Debug)]
pub(super) struct Tokens {
    /// Numbers of a token.
    width: usize,
    /// Tokens of a generation.
    capacity: usize,
    generations: RwLock<Generations>,
}

/// A token is looked for in both. One that is found in the old generation, or nowhere, goes into the young one; when that
/// is full it becomes the old one. So what is used stays, and no use needs to be written down.
#[derive(Debug, Default)]
struct Generations {
    young: Kept,
    old: Kept,
}

impl Tokens {
    /// Keeps tokens of so many numbers each, within so many bytes.
    pub(super) fn new(width: usize, bytes: usize) -> Self {
        let capacity = bytes / 2 / (width * size_of::<f32>());
        Self { width, capacity: capacity.max(1), generations: RwLock::default() }
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
                let young = generations.young.get(bag);
                let found = young.or_else(|| {
                    let found = generations.old.get(bag)?;
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
            let old = old.into_iter().map(|token| (bags.bag(token), &all[token]));
            let new = new.into_iter().map(|(bag, at)| (bag, &made[at]));
            old.chain(new).for_each(|(bag, numbers)| generations.keep(bag, numbers, self.capacity));
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

impl Generations {
    fn keep(&mut self, bag: &[u32], numbers: &Numbers, capacity: usize) {
        if self.young.len() >= capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(bag.into(), Arc::clone(numbers));
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

    #[test]
    fn what_is_kept_is_not_made_again() {
        let tokens = Tokens::new(2, 1 << 10);
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
        let tokens = Tokens::new(2, 64);
        for token in 0..100 {
            get(&tokens, &[&[1_000_000], &[token]]);
            let kept = tokens.read();
            assert!(kept.young.len() <= 4 && kept.old.len() <= 4);
        }
        assert!(get(&tokens, &[&[1_000_000], &[99]]).1.is_empty());
        assert_eq!(get(&tokens, &[&[0]]).1, [vec![0]]);
    }

    #[test]
    fn what_cannot_be_made_is_not_kept() {
        let tokens = Tokens::new(2, 64);
        let gone = || crate::error::Error::Internal("gone".into());
        assert!(tokens.get(&bags(&[&[1]]), |_| Err(gone())).is_err());
        assert_eq!(get(&tokens, &[&[1]]).1, [vec![1]]);
    }
}
