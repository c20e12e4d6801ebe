//! The turn to compute, which one job has at a time: threads wait for it here, and offer it to others.
//!
//! Each job that is started has a thread of its own. It offers the turn between steps; where the `schedule`
//! gives it to another job, the thread is parked in [`Turns::offer`] and goes on where it was when it has the
//! turn again. What a job computes does not depend on when that is.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Instant,
};

use super::{
    claim::{Claim, Need},
    schedule::{Limits, Positions, Schedule},
    stop::Stop,
};
use crate::registry::JobId;

/// No other job wants the turn.
const ALONE: u8 = 0;
/// Another job wants it; the slice of the one that has it is heeded.
const WANTED: u8 = 1;
/// Another job came, which may be one that need not wait for the end of the slice.
const CAME: u8 = 2;

/// The jobs that wait, with what their threads start from, and the turn.
#[derive(Debug)]
pub(super) struct Turns<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// Whether the job that has the turn need ask for the state at all: most steps do not.
    contention: AtomicU8,
    /// When the slice of that job ends, in microseconds after `began`.
    slice_end: AtomicU64,
    began: Instant,
}

#[derive(Debug)]
struct State<T> {
    schedule: Schedule,
    /// What waits to be started. It stands here until a thread takes it, also where it has the turn already.
    tasks: BTreeMap<JobId, T>,
    /// Until when the job that has the turn was charged for it.
    charged: Instant,
    is_closed: bool,
}

impl<T> Turns<T> {
    pub(super) fn new(limits: Limits) -> Self {
        let now = Instant::now();
        let (schedule, tasks) = (Schedule::new(limits), BTreeMap::new());
        Self {
            state: Mutex::new(State { schedule, tasks, charged: now, is_closed: false }),
            changed: Condvar::new(),
            contention: AtomicU8::new(ALONE),
            slice_end: AtomicU64::new(0),
            began: now,
        }
    }

    /// Adds a job that waits to be started.
    ///
    /// # Errors
    /// The task, where the turns are closed.
    pub(super) fn accept(&self, id: JobId, claim: Claim, task: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(task);
        }
        state.schedule.accept(id, claim);
        state.tasks.insert(id, task);
        self.pass_on(&mut state);
        self.contention.store(CAME, Ordering::Relaxed);
        Ok(())
    }

    /// Takes back a job that no thread has taken.
    pub(super) fn withdraw(&self, id: JobId) -> Option<(Claim, T)> {
        let mut state = self.lock();
        let task = state.tasks.remove(&id)?;
        let claim = state.schedule.remove(id)?;
        self.pass_on(&mut state);
        Some((claim, task))
    }

    /// The next job to start; none once the turns are closed. Blocks until then.
    pub(super) fn next(&self) -> Option<(JobId, T)> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(id) = state.schedule.holder()
                && let Some(task) = state.tasks.remove(&id)
            {
                return Some((id, task));
            }
            state = self.wait(state);
        }
    }

    /// Lets other jobs compute, if it is their turn, until that of this one comes again. For the job that has
    /// the turn. Breaks where the job was stopped; if it was parked, it must not compute any more.
    pub(super) fn offer(&self, id: JobId, stop: &Stop) -> ControlFlow<()> {
        if stop.is_set() {
            return ControlFlow::Break(());
        }
        match self.contention.load(Ordering::Relaxed) {
            ALONE => return ControlFlow::Continue(()),
            WANTED if self.micros() < self.slice_end.load(Ordering::Relaxed) => {
                return ControlFlow::Continue(());
            }
            _ => {}
        }
        let mut state = self.lock();
        state.charge();
        if state.schedule.decide() != Some(id) {
            self.changed.notify_all();
        }
        self.note(&state);
        while state.schedule.holder() != Some(id) {
            if stop.is_set() {
                state.schedule.end(id);
                return ControlFlow::Break(());
            }
            state = self.wait(state);
        }
        ControlFlow::Continue(())
    }

    /// Notes what a job that was started takes. For the job that has the turn.
    ///
    /// # Errors
    /// The job, where there is no room for it beside the others: it has given up the turn, and is to be
    /// accepted again.
    pub(super) fn reserve(&self, id: JobId, need: Need) -> Result<(), Claim> {
        let mut state = self.lock();
        state.charge();
        let reserved = state.schedule.reserve(id, need);
        self.pass_on(&mut state);
        reserved
    }

    /// Ends a job, which gives up the turn and what it took.
    pub(super) fn end(&self, id: JobId) {
        let mut state = self.lock();
        state.charge();
        state.schedule.remove(id);
        self.pass_on(&mut state);
    }

    /// Has jobs that are parked see that they were stopped.
    pub(super) fn wake(&self) {
        // Who looked at its stop before that was set is waiting by the time that the lock is free.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Starts no more jobs, and returns those that wait.
    pub(super) fn close(&self) -> BTreeMap<JobId, T> {
        let mut state = self.lock();
        state.is_closed = true;
        self.changed.notify_all();
        let tasks = std::mem::take(&mut state.tasks);
        state.schedule.remove_all(tasks.keys().copied());
        self.pass_on(&mut state);
        tasks
    }

    /// Where the jobs stand that do not compute.
    pub(super) fn positions(&self) -> Positions {
        self.lock().schedule.positions()
    }

    /// Gives the turn to the next job if none has it, and wakes the threads.
    fn pass_on(&self, state: &mut State<T>) {
        if state.schedule.holder().is_none() {
            state.charged = Instant::now();
            state.schedule.decide();
            self.changed.notify_all();
        }
        self.note(state);
    }

    /// Writes down what [`Turns::offer`] looks at without the lock.
    fn note(&self, state: &State<T>) {
        let contention = if state.schedule.is_contended() { WANTED } else { ALONE };
        let slice_end = self.micros() + state.schedule.left_of_slice().as_micros() as u64;
        self.slice_end.store(slice_end, Ordering::Relaxed);
        self.contention.store(contention, Ordering::Relaxed);
    }

    /// Microseconds since the turns began.
    fn micros(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The state is whole between statements, so a panic elsewhere does not make it unusable.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    /// Charges the job that has the turn for the time since it was charged last.
    fn charge(&mut self) {
        let now = Instant::now();
        self.schedule.charge(now.saturating_duration_since(self.charged));
        self.charged = now;
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;
    use crate::{registry::ModelId, train::claim::Class};

    fn claim(model: &str, class: Class) -> Claim {
        let model = ModelId::new(model).unwrap();
        Claim { identity: String::new(), model, class, need: Need::default() }
    }

    fn turns() -> Turns<&'static str> {
        Turns::new(Limits { started: 4, room: Need { memory: 100, device: 100 } })
    }

    #[test]
    fn a_job_that_is_parked_goes_on_when_the_other_ends_and_sees_when_it_is_stopped() {
        let (turns, stop) = (turns(), Stop::default());
        let (long, first, second) = (JobId(1), JobId(2), JobId(3));
        turns.accept(long, claim("a", Class::Training), "long").unwrap();
        assert_eq!(turns.next(), Some((long, "long")));
        assert!(turns.offer(long, &stop).is_continue(), "it is alone");
        thread::scope(|scope| {
            let (sender, events) = mpsc::channel();
            let (turns, stop) = (&turns, &stop);
            scope.spawn({
                let sender = sender.clone();
                move || {
                    while turns.offer(long, stop).is_continue() {
                        thread::sleep(Duration::from_millis(1));
                    }
                    sender.send("the long one was stopped").unwrap();
                }
            });
            // The change takes the turn although the slice of the training has not ended.
            turns.accept(first, claim("b", Class::Change), "first").unwrap();
            assert_eq!(turns.next(), Some((first, "first")));
            assert!(turns.positions().is_parked(long));
            turns.end(first);
            turns.accept(second, claim("b", Class::Change), "second").unwrap();
            assert_eq!(turns.next(), Some((second, "second")), "the training went on and was parked again");
            assert!(turns.positions().is_parked(long) && events.try_recv().is_err());
            // The second keeps the turn, and the other ends all the same.
            stop.set(Stop::CANCELLED);
            turns.wake();
            assert_eq!(events.recv().unwrap(), "the long one was stopped");
            assert!(!turns.positions().is_parked(long));
            turns.end(long);
            assert!(turns.offer(second, &Stop::default()).is_continue());
        });
    }

    #[test]
    fn one_job_computes_at_a_time() {
        let turns = turns();
        let computing = AtomicU8::new(0);
        let ids: Vec<JobId> = (1..=3).map(JobId).collect();
        thread::scope(|scope| {
            for _ in &ids {
                scope.spawn(|| {
                    while let Some((id, task)) = turns.next() {
                        assert_eq!(task, "job");
                        for _ in 0..200 {
                            assert_eq!(computing.fetch_add(1, Ordering::SeqCst), 0, "two compute at once");
                            thread::yield_now();
                            computing.fetch_sub(1, Ordering::SeqCst);
                            assert!(turns.offer(id, &Stop::default()).is_continue());
                        }
                        turns.end(id);
                    }
                });
            }
            for round in 0..50 {
                for id in &ids {
                    let class =
                        if (id.0 + round).is_multiple_of(2) { Class::Change } else { Class::Training };
                    let id = JobId(10 * round + id.0);
                    turns.accept(id, claim(&format!("m-{id}"), class), "job").unwrap();
                }
            }
            while turns.lock().schedule.is_contended() || turns.lock().schedule.holder().is_some() {
                thread::yield_now();
            }
            assert!(turns.close().is_empty());
        });
    }

    #[test]
    fn a_job_that_no_thread_took_can_be_taken_back_also_where_it_has_the_turn() {
        let turns = turns();
        let [first, second] = [1, 2].map(JobId);
        turns.accept(first, claim("a", Class::Training), "first").unwrap();
        turns.accept(second, claim("b", Class::Training), "second").unwrap();
        assert_eq!(turns.positions().ahead_of(second), Some(1));
        assert_eq!(turns.withdraw(first).unwrap().1, "first");
        assert_eq!(turns.next(), Some((second, "second")));
        assert!(turns.withdraw(second).is_none(), "a thread has it");
        assert!(turns.withdraw(first).is_none());
    }

    #[test]
    fn what_finds_no_room_gives_up_the_turn() {
        let turns = turns();
        let [first, second] = [1, 2].map(JobId);
        let need = |memory| Need { memory, device: 0 };
        turns.accept(first, claim("a", Class::Training), "first").unwrap();
        assert_eq!(turns.next(), Some((first, "first")));
        turns.reserve(first, need(60)).unwrap();
        turns.accept(second, claim("b", Class::Change), "second").unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                while turns.offer(first, &Stop::default()).is_continue()
                    && turns.positions().ahead_of(second).is_none()
                {}
            });
            assert_eq!(turns.next(), Some((second, "second")));
            let claim = turns.reserve(second, need(60)).unwrap_err();
            turns.accept(second, claim, "again").unwrap();
        });
        assert_eq!(turns.positions().ahead_of(second), Some(0));
        turns.end(first);
        assert_eq!(turns.next(), Some((second, "again")));
    }

    #[test]
    fn once_closed_nothing_starts() {
        let turns = turns();
        let [first, second] = [1, 2].map(JobId);
        turns.accept(first, claim("a", Class::Training), "first").unwrap();
        assert_eq!(turns.next(), Some((first, "first")));
        turns.accept(second, claim("b", Class::Training), "second").unwrap();
        assert_eq!(turns.close().into_iter().collect::<Vec<_>>(), [(second, "second")]);
        assert_eq!(turns.next(), None);
        assert_eq!(turns.accept(second, claim("b", Class::Training), "late"), Err("late"));
        assert!(turns.offer(first, &Stop::default()).is_continue(), "what runs goes on until it is stopped");
    }
}
