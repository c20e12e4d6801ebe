//! Keeps the memory of the versions within the budget: networks first drop cached tokens, which they read again when a text holds
//! them; then whole versions are evicted, because they take long to load.
//!
//! Tensors are counted when a version is loaded, tokens as they are cached. A request for a version in memory compares two
//! atomics; it looks further only where the tokens exceed what is left of the budget.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{
    Live, LiveVersions,
    live::{Key, Slot, Use, lock},
};

/// Versions in memory that share one network: a change of the classes makes one that has the tensors of the one before. Those
/// that are asked for again are made again in no time.
const SHARING: usize = 16;
/// Where tokens are let go of, the sixteenth part of the budget comes free, so that it need not be done again at once.
const SPARE: u64 = 16;
/// Tokens that come, in bytes, until the budget is looked at again where nothing could be done.
const PATIENCE: u64 = 1 << 20;

/// A version in memory.
struct Held {
    key: Key,
    slot: Arc<Slot>,
    used: Use,
    live: Arc<Live>,
}

/// Memory by its parts, each counted once.
#[derive(Default)]
struct Counted {
    addresses: HashSet<usize>,
    bytes: u64,
}

impl Counted {
    /// Bytes that a version takes beside tokens, and that are not counted yet.
    fn beyond(&self, live: &Live) -> u64 {
        let parts = live.classifier.memory_parts().filter(|part| !self.addresses.contains(&part.address));
        parts.map(|part| part.bytes).sum::<u64>() + live.bytes + live.translations.bytes()
    }

    fn add(&mut self, live: &Live) {
        self.bytes += self.beyond(live);
        self.addresses.extend(live.classifier.memory_parts().map(|part| part.address));
    }
}

impl LiveVersions {
    /// Brings memory within the budget where the tokens that came are too many for it.
    pub(super) fn fit_tokens(&self) {
        if self.tokens.bytes() <= self.token_limit.load(Relaxed) {
            return;
        }
        // Another thread that fits the budget already does the work of this one.
        if let Ok(_fitting) = self.fitting.try_lock() {
            self.fit_alone();
        }
    }

    /// Memory that the versions take now, in bytes, nearly; what several share is counted once.
    pub fn memory_bytes(&self) -> u64 {
        let mut counted = Counted::default();
        self.held().iter().for_each(|of| counted.add(&of.live));
        counted.bytes + self.tokens.bytes()
    }

    /// Brings memory within the budget.
    pub(super) fn fit(&self) {
        let _fitting = lock(&self.fitting);
        self.fit_alone();
    }

    fn fit_alone(&self) {
        let mut held = self.held();
        self.forget_sharing(&mut held);
        let mut counted = Counted::default();
        held.iter().for_each(|of| counted.add(&of.live));
        if counted.bytes + self.tokens.bytes() > self.budget_bytes {
            self.shrink_tokens(&held, counted.bytes);
            counted = self.evict(&held);
        }
        let left = self.budget_bytes.saturating_sub(counted.bytes);
        let patience = PATIENCE.min(self.budget_bytes / SPARE);
        self.token_limit.store(left.max(self.tokens.bytes() + patience), Relaxed);
    }

    /// The versions in memory, the latest used one first. One that is being loaded is none of them yet.
    fn held(&self) -> Vec<Held> {
        let slots: Vec<(Key, Arc<Slot>)> =
            lock(&self.cache).slots.iter().map(|(key, slot)| (*key, Arc::clone(slot))).collect();
        let loaded = slots.into_iter().filter_map(|(key, slot)| {
            let live = slot.live.try_lock().ok()?.clone()?;
            let used = *lock(&slot.used);
            Some(Held { key, slot, used, live })
        });
        let mut held: Vec<Held> = loaded.collect();
        held.sort_unstable_by_key(|of| std::cmp::Reverse(of.used.at));
        held
    }

    /// Forgets the versions beyond those that were used last of the ones that share a network.
    fn forget_sharing(&self, held: &mut Vec<Held>) {
        let (mut sharing, mut pinned) = (HashMap::new(), HashSet::new());
        held.retain(|of| {
            let stays = of.used.pinned && pinned.insert(of.key.0);
            let before = sharing.entry(of.used.checkpoint).or_insert(0_usize);
            *before += 1;
            let fits = stays || *before <= SHARING;
            if !fits {
                self.forget_slot(of);
            }
            fits
        });
    }

    /// Has networks let go of tokens, those that were not used for longest first, until the rest fits beside so many bytes. The
    /// network that was used last keeps those that it used last.
    fn shrink_tokens(&self, held: &[Held], beside: u64) {
        let target = self.budget_bytes - self.budget_bytes / SPARE;
        let mut seen = HashSet::new();
        let mut networks: Vec<&Live> = Vec::new();
        networks
            .extend(held.iter().map(|of| &*of.live).filter(|of| seen.insert(of.classifier.tokens_address())));
        for all in [false, true] {
            for (age, live) in networks.iter().enumerate().rev() {
                if beside + self.tokens.bytes() <= target {
                    return;
                }
                if !all || age > 0 {
                    live.classifier.shrink_tokens(all);
                }
            }
        }
    }

    /// Forgets the versions that were not used for longest, until the rest fits the budget, and tells what that takes.
    fn evict(&self, held: &[Held]) -> Counted {
        let (mut kept, mut tokens, mut pinned) = (Counted::default(), HashMap::new(), HashSet::new());
        for (age, of) in held.iter().enumerate() {
            // The version of a pinned model that was used last is the one that serves.
            let stays = of.used.pinned && pinned.insert(of.key.0);
            let address = of.live.classifier.tokens_address();
            let own_tokens = if tokens.contains_key(&address) { 0 } else { of.live.classifier.token_bytes() };
            let before: u64 = kept.bytes + tokens.values().sum::<u64>();
            if age > 0 && !stays && before + kept.beyond(&of.live) + own_tokens > self.budget_bytes {
                self.forget_slot(of);
                self.stats.evictions.add_one();
            } else {
                kept.add(&of.live);
                tokens.entry(address).or_insert(own_tokens);
            }
        }
        kept
    }

    /// Forgets a version, unless it was loaded anew meanwhile. Requests that hold it keep it to their end.
    fn forget_slot(&self, held: &Held) {
        let mut cache = lock(&self.cache);
        if cache.slots.get(&held.key).is_some_and(|slot| Arc::ptr_eq(slot, &held.slot)) {
            cache.slots.remove(&held.key);
        }
    }
}
