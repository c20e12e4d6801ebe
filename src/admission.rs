//! Admission of calls that are no predictions: by number, and by the memory that they take; in total, and of each identity.
//!
//! A call is admitted before its request is read, and refused rather than queued: so short reads never wait behind work that
//! takes long, and what the daemon holds is bounded by what it admitted. Work that goes on after its client left keeps its place
//! until it ends.
//!
//! An identity that has nothing under way may take all that is left; beside other calls of its own it takes at most half of
//! each limit. Callers whose name is not known share the limits in total alone.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::error::{Error, Result};

/// Calls that only read or write a few records, at once: more than the threads that serve them.
const SHORT_CALLS: usize = 1024;
/// When a client that was refused may try again.
const RETRY: Duration = Duration::from_secs(1);

/// Reason of a refusal by number.
pub const CALLS: &str = "CALLS_UNDER_WAY";
/// Reason of a refusal by memory.
pub const MEMORY: &str = "CALL_MEMORY";

/// What a call is to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// It reads or writes a few records.
    Short,
    /// It changes the classes of a model or starts a job, and is to answer at once; it may read all examples for that.
    Change,
    /// It reads all examples of a model, or computes for long. Changes and these are counted together.
    Heavy,
    /// It takes in or hands out much, and takes as long as its client wants.
    Transfer,
}

/// What calls may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Heavy calls, and as many transfers.
    pub calls: usize,
    /// Bytes of memory.
    pub bytes: u64,
}

/// The calls under way.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    total: Usage,
    /// Of identities that have calls under way.
    of: HashMap<String, Usage>,
}

/// What calls take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    short: usize,
    heavy: usize,
    transfers: usize,
    bytes: u64,
}

/// A call under way. It ends, and its memory is free, when the last clone of this is dropped.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    who: String,
    effort: Effort,
    bytes: AtomicU64,
    refused: AtomicBool,
}

impl Effort {
    /// Whether its work is to give way to predictions. A change is to answer at once.
    pub fn takes_long(self) -> bool {
        matches!(self, Self::Heavy | Self::Transfer)
    }
}

impl Admission {
    /// No calls yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    /// Admits a call of an identity; the empty name is that of callers who are not known.
    ///
    /// # Errors
    /// [`Error::Exhausted`] with reason [`CALLS`] and a time to retry.
    pub fn admit(self: &Arc<Self>, who: &str, effort: Effort) -> Result<Admitted> {
        let most = match effort {
            Effort::Short => SHORT_CALLS,
            Effort::Change | Effort::Heavy | Effort::Transfer => self.limits.calls,
        };
        let mut state = self.lock();
        let own = state.of.get(who).copied().unwrap_or_default();
        let (total, own) = (state.total.calls(effort), own.calls(effort));
        let refuse = |whose: String, most: usize| {
            let what = match effort {
                Effort::Short => "short calls",
                Effort::Change | Effort::Heavy => {
                    "calls that compute or read many examples (max_heavy_calls)"
                }
                Effort::Transfer => "uploads and downloads (max_heavy_calls)",
            };
            Error::Exhausted {
                reason: CALLS,
                description: format!(
                    "{most} {what}{whose} are under way, and there may be no more; retry after a pause"
                ),
                retry_after: Some(RETRY),
            }
        };
        if total >= most {
            return Err(refuse(String::new(), most));
        }
        if !who.is_empty() && own > 0 && own >= most.div_ceil(2) {
            return Err(refuse(format!(" of '{who}'"), most.div_ceil(2)));
        }
        *state.total.calls_mut(effort) += 1;
        *state.of.entry(who.to_owned()).or_default().calls_mut(effort) += 1;
        drop(state);
        let (bytes, refused) = Default::default();
        Ok(Admitted { admission: Arc::clone(self), who: who.to_owned(), effort, bytes, refused })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Numbers that are changed one by one; a panic between two of them is none of theirs.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admitted {
    /// Takes memory until the call ends.
    ///
    /// # Errors
    /// [`Error::Exhausted`] with reason [`MEMORY`], and a time to retry where other calls take what is missing.
    pub fn take(&self, bytes: u64) -> Result<()> {
        let most = self.admission.limits.bytes;
        let mut state = self.admission.lock();
        let mine = self.bytes.load(Ordering::Relaxed);
        let total = state.total.bytes.saturating_add(bytes);
        let own = state.of.entry(self.who.clone()).or_default();
        let alone = self.who.is_empty() || own.bytes == mine;
        if total <= most && (alone || own.bytes.saturating_add(bytes) <= most / 2) {
            own.bytes += bytes;
            state.total.bytes = total;
            self.bytes.store(mine + bytes, Ordering::Relaxed);
            return Ok(());
        }
        self.refused.store(true, Ordering::Relaxed);
        let wanted = mine.saturating_add(bytes);
        Err(Error::Exhausted {
            reason: MEMORY,
            description: format!(
                "the call takes more than {wanted} bytes of memory, and calls may take {most} together (heavy_call_bytes){}",
                if wanted > most { "" } else { "; retry after a pause" }
            ),
            retry_after: (wanted <= most).then_some(RETRY),
        })
    }

    /// What the call is to the daemon.
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// Whether it was refused memory.
    pub fn was_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let mut state = self.admission.lock();
        state.total.give_back(self.effort, bytes);
        if let Some(own) = state.of.get_mut(&self.who) {
            own.give_back(self.effort, bytes);
            if *own == Usage::default() {
                state.of.remove(&self.who);
            }
        }
    }
}

impl Usage {
    fn calls(self, effort: Effort) -> usize {
        match effort {
            Effort::Short => self.short,
            Effort::Change | Effort::Heavy => self.heavy,
            Effort::Transfer => self.transfers,
        }
    }

    fn calls_mut(&mut self, effort: Effort) -> &mut usize {
        match effort {
            Effort::Short => &mut self.short,
            Effort::Change | Effort::Heavy => &mut self.heavy,
            Effort::Transfer => &mut self.transfers,
        }
    }

    fn give_back(&mut self, effort: Effort, bytes: u64) {
        *self.calls_mut(effort) -= 1;
        self.bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(calls: usize, bytes: u64) -> Arc<Admission> {
        Arc::new(Admission::new(Limits { calls, bytes }))
    }

    fn refusal<T>(outcome: Result<T>) -> (&'static str, Option<Duration>) {
        match outcome {
            Err(Error::Exhausted { reason, retry_after, .. }) => (reason, retry_after),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("admitted"),
        }
    }

    #[test]
    fn an_identity_leaves_room_for_others_and_each_kind_has_its_own() {
        let admission = admission(4, 0);
        let admit = |who, effort| admission.admit(who, effort);
        let ada: Vec<_> = (0..2).map(|_| admit("ada", Effort::Heavy).unwrap()).collect();
        assert_eq!(refusal(admit("ada", Effort::Heavy)), (CALLS, Some(RETRY)));
        let grace = [admit("grace", Effort::Heavy).unwrap(), admit("grace", Effort::Heavy).unwrap()];
        assert_eq!(refusal(admit("linus", Effort::Heavy)), (CALLS, Some(RETRY)));
        // Short reads and transfers are not behind them.
        let others = [admit("ada", Effort::Short).unwrap(), admit("ada", Effort::Transfer).unwrap()];
        drop(ada);
        let linus = admit("linus", Effort::Heavy).unwrap();
        drop((grace, others, linus));
        assert_eq!(*admission.lock().of.keys().collect::<Vec<_>>(), Vec::<&String>::new());
        assert_eq!(admission.lock().total, Usage::default());
        // Callers without a name share the limits in total.
        let unknown: Vec<_> = (0..4).map(|_| admit("", Effort::Heavy).unwrap()).collect();
        assert_eq!(refusal(admit("", Effort::Heavy)), (CALLS, Some(RETRY)));
        drop(unknown);
    }

    #[test]
    fn memory_is_bounded_in_total_and_beside_other_calls_of_an_identity() {
        let admission = admission(8, 100);
        let call = |who| admission.admit(who, Effort::Heavy).unwrap();
        let (one, two, other) = (call("ada"), call("ada"), call("grace"));
        one.take(40).unwrap();
        one.take(30).unwrap();
        assert_eq!(refusal(two.take(1)), (MEMORY, Some(RETRY)));
        assert!(two.was_refused() && !one.was_refused());
        assert_eq!(refusal(other.take(31)), (MEMORY, Some(RETRY)));
        assert_eq!(refusal(other.take(101)), (MEMORY, None), "no pause makes room for that");
        other.take(30).unwrap();
        drop(one);
        two.take(70).unwrap();
        drop((two, other));
        assert_eq!(admission.lock().total, Usage::default());
        call("ada").take(100).unwrap();
    }
}
