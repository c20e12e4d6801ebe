//! Whether a history of calls that overlapped makes sense: whether there is an order of them, in which none comes before one that
//! had ended when it began, and in which each saw what the calls before it left.
//!
//! Wing and Gong, "Testing and verifying concurrent objects", 1993, with the states seen kept, as Lowe, "Testing for
//! linearizability", 2017.

use std::{collections::HashSet, hash::Hash};

/// A call and what it answered.
#[derive(Debug, Clone)]
pub(crate) struct Call<T> {
    /// When it began and ended; all on one clock.
    pub(crate) began: u64,
    pub(crate) ended: u64,
    pub(crate) answer: T,
}

/// Finds an order. `step` is what a call makes of a state; none where its answer could not have been given in it.
///
/// # Errors
/// The index of a call that no order explains, after those that some order does; calls count in the order they began.
pub(crate) fn check<S, T>(
    initial: S,
    calls: &mut [Call<T>],
    step: impl Fn(&S, &T) -> Option<S>,
) -> Result<(), usize>
where
    S: Clone + Eq + Hash,
{
    calls.sort_by_key(|call| call.began);
    // All before `first` are ordered, and so are those in `ahead`.
    let mut seen = HashSet::new();
    let mut open = vec![(0, Vec::new(), initial)];
    let mut furthest = 0;
    while let Some((first, ahead, state)) = open.pop() {
        furthest = furthest.max(first);
        if first == calls.len() {
            return Ok(());
        }
        let waiting = (first..calls.len()).filter(|at| !ahead.contains(at));
        // Only what began before any of the others ended can be next.
        let deadline = waiting.clone().map(|at| calls[at].ended).min().unwrap_or(u64::MAX);
        for at in waiting.take_while(|at| calls[*at].began <= deadline) {
            let Some(next) = step(&state, &calls[at].answer) else { continue };
            let (mut first, mut ahead): (usize, Vec<usize>) = (first, ahead.clone());
            ahead.push(at);
            ahead.sort_unstable();
            while ahead.first() == Some(&first) {
                ahead.remove(0);
                first += 1;
            }
            if seen.insert((first, ahead.clone(), next.clone())) {
                open.push((first, ahead, next));
            }
        }
    }
    Err(furthest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Register {
        Write(u64),
        Read(u64),
    }

    fn step(state: &u64, call: &Register) -> Option<u64> {
        match *call {
            Register::Write(value) => Some(value),
            Register::Read(value) => (value == *state).then_some(value),
        }
    }

    fn makes_sense(calls: &[(u64, u64, Register)]) -> Result<(), usize> {
        let mut calls: Vec<_> =
            calls.iter().map(|&(began, ended, answer)| Call { began, ended, answer }).collect();
        check(0, &mut calls, step)
    }

    use Register::{Read, Write};

    #[test]
    fn a_read_sees_the_last_write_or_one_that_overlaps_it() {
        assert_eq!(makes_sense(&[(0, 1, Write(1)), (2, 3, Read(1))]), Ok(()));
        assert_eq!(makes_sense(&[(0, 5, Write(1)), (1, 2, Read(0)), (3, 4, Read(1))]), Ok(()));
        assert_eq!(makes_sense(&[(0, 5, Write(1)), (0, 6, Write(2)), (7, 8, Read(1))]), Ok(()));
    }

    #[test]
    fn what_cannot_be_is_found() {
        // It had ended, and nobody saw it.
        assert_eq!(makes_sense(&[(0, 1, Write(1)), (2, 3, Read(0))]), Err(1));
        // Seen, and then no more.
        assert_eq!(makes_sense(&[(0, 9, Write(1)), (1, 2, Read(1)), (3, 4, Read(0))]), Err(2));
        // Never written.
        assert_eq!(makes_sense(&[(0, 1, Read(7))]), Err(0));
    }
}
