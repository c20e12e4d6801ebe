//! Which job computes next: a function of the jobs that are there, of the time each computed, and of the
//! memory each takes.
//!
//! One job has the *turn*, and computes. Jobs that were started and do not have it are *parked*: they keep
//! their memory and go on where they were. The others *wait*, and take nothing.
//!
//! ```text
//! class       a job that learns a change of the classes goes before a training, by HEAD_START at a stretch;
//!             after that trainings get a quarter of the time
//! identity    of the jobs of a class, those of the identity that had least time go first (`shares`)
//! model       of an identity, that of the model that had least time; then the job that was accepted first
//! slice       the job that has the turn keeps it for SLICE; but a change need not wait that long for a training
//! places      at most Limits::started jobs are started at once. An identity's trainings leave as many places as
//!             they take, and CHANGES_ONLY places are for changes
//! memory      the jobs that are started fit together into Limits::room, the last quarter of which is for changes
//!             and for identities without a job that is started. A job for which there is no room waits for those
//!             that were started before it was due, and for no others
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    claim::{Claim, Class, Need},
    shares::Shares,
};
use crate::registry::{JobId, ModelId};

/// Jobs that are started and have not ended, at most.
pub(super) const MOST_STARTED: usize = 16;
/// Places among them for jobs of changes alone.
const CHANGES_ONLY: usize = 2;
/// How long a job has the turn before another training gets it: long enough that switching costs nothing
/// noticeable.
const SLICE: Duration = Duration::from_secs(1);
/// How long jobs of changes may compute in a row while a training waits for its turn.
const HEAD_START: Duration = Duration::from_secs(30);
/// By how many times its length the time of a training restores the head start: trainings get 1 / (this + 1)
/// of the time.
const RESTORED: u32 = 3;

/// Bounds for all jobs that are started and have not ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How many there are, at least 1.
    pub(super) started: usize,
    /// What they take together.
    pub(super) room: Need,
}

/// Where jobs stand that do not compute, at a moment.
#[derive(Debug, Default)]
pub struct Positions {
    ahead: BTreeMap<JobId, usize>,
    parked: BTreeSet<JobId>,
}

/// The jobs, which of them has the turn, and how much time each has had.
#[derive(Debug)]
pub(super) struct Schedule {
    limits: Limits,
    waiting: BTreeMap<JobId, Claim>,
    started: BTreeMap<JobId, Started>,
    turn: Option<Turn>,
    /// The time of identities.
    identities: Shares<String>,
    /// The time of the models of each identity.
    models: BTreeMap<String, Shares<ModelId>>,
    /// How long jobs of changes may still go before trainings.
    head_start: Duration,
    /// Jobs started so far.
    starts: u64,
    held_up: Option<HeldUp>,
}

/// A job that was started and has not ended.
#[derive(Debug)]
struct Started {
    claim: Claim,
    /// Which start of all it was.
    start: u64,
    /// Whether it was stopped: it still takes what it took, but computes no more.
    is_ending: bool,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    job: JobId,
    /// How long it has had it.
    held: Duration,
}

/// A job that would be next if there were room for it.
#[derive(Debug, Clone, Copy)]
struct HeldUp {
    job: JobId,
    /// Starts of jobs before it was due.
    since: u64,
}

/// What a job lacks to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    Place,
    Room,
}

impl Positions {
    /// How many jobs would have the turn before one that waits to be started, as things are; none for a job
    /// that does not.
    pub fn ahead_of(&self, id: JobId) -> Option<usize> {
        self.ahead.get(&id).copied()
    }

    /// Whether a job was started and waits for the turn to come again.
    pub fn is_parked(&self, id: JobId) -> bool {
        self.parked.contains(&id)
    }
}

impl Schedule {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: BTreeMap::new(),
            started: BTreeMap::new(),
            turn: None,
            identities: Shares::default(),
            models: BTreeMap::new(),
            head_start: HEAD_START,
            starts: 0,
            held_up: None,
        }
    }

    /// Adds a job that waits.
    pub(super) fn accept(&mut self, id: JobId, claim: Claim) {
        self.join(&claim);
        self.waiting.insert(id, claim);
    }

    /// Takes out a job: one that ended, or one that shall not be started. What it was, if it was there.
    pub(super) fn remove(&mut self, id: JobId) -> Option<Claim> {
        let claim = self.take(id)?;
        self.settle();
        Some(claim)
    }

    /// Takes out all jobs that no thread has taken.
    pub(super) fn remove_all(&mut self, ids: impl Iterator<Item = JobId>) {
        for id in ids {
            self.take(id);
        }
        self.settle();
    }

    fn take(&mut self, id: JobId) -> Option<Claim> {
        let claim =
            self.waiting.remove(&id).or_else(|| self.started.remove(&id).map(|started| started.claim))?;
        self.turn = self.turn.filter(|turn| turn.job != id);
        self.held_up = self.held_up.filter(|held_up| held_up.job != id);
        Some(claim)
    }

    /// A job was stopped: it does not get the turn any more. Where it has it, it keeps it until it is
    /// removed.
    pub(super) fn end(&mut self, id: JobId) {
        if let Some(started) = self.started.get_mut(&id) {
            started.is_ending = true;
        }
    }

    /// The job that has the turn.
    pub(super) fn holder(&self) -> Option<JobId> {
        self.turn.map(|turn| turn.job)
    }

    /// How long the job that has the turn keeps it at least.
    pub(super) fn left_of_slice(&self) -> Duration {
        self.turn.map_or(Duration::ZERO, |turn| SLICE.saturating_sub(turn.held))
    }

    /// Where the jobs stand that do not compute.
    pub(super) fn positions(&self) -> Positions {
        let holder = self.holder();
        let parked = self.started.iter().filter(|(id, job)| Some(**id) != holder && !job.is_ending);
        let ahead = self.in_order().into_iter().enumerate().map(|(ahead, id)| (id, ahead));
        Positions {
            ahead: ahead.filter(|(id, _)| self.waiting.contains_key(id)).collect(),
            parked: parked.map(|(id, _)| *id).collect(),
        }
    }

    /// Whether another job than the one that has the turn would like to have it.
    pub(super) fn is_contended(&self) -> bool {
        let holder = self.holder();
        let parked = self.started.iter().any(|(id, job)| Some(*id) != holder && !job.is_ending);
        parked || !self.waiting.is_empty()
    }

    /// The job that has the turn computed for so long.
    pub(super) fn charge(&mut self, time: Duration) {
        let Some(turn) = &mut self.turn else { return };
        turn.held += time;
        let Some(Started { claim, .. }) = self.started.get(&turn.job) else { return };
        self.identities.charge(&claim.identity, time);
        self.models.entry(claim.identity.clone()).or_default().charge(&claim.model, time);
        match claim.class {
            Class::Training => self.head_start = HEAD_START.min(self.head_start + time * RESTORED),
            Class::Change => {
                let claims = self.waiting.values().chain(self.started.values().map(|job| &job.claim));
                if claims.into_iter().any(|claim| claim.class == Class::Training) {
                    self.head_start = self.head_start.saturating_sub(time);
                }
            }
        }
        self.settle();
    }

    /// Gives the turn to the job that computes from now on, and starts it if it waited. Often the job that
    /// has it keeps it.
    pub(super) fn decide(&mut self) -> Option<JobId> {
        if let Some(Turn { job, held }) = self.turn
            && held < SLICE
            && !self.is_preempted(job)
        {
            return Some(job);
        }
        let next = self.next();
        if let Some(id) = next {
            self.start(id);
        }
        self.turn = next.map(|job| Turn { job, held: Duration::ZERO });
        next
    }

    /// Notes what a job that was started takes.
    ///
    /// # Errors
    /// The job, which is taken out, where there is no room for it: it has to wait again.
    pub(super) fn reserve(&mut self, id: JobId, need: Need) -> Result<(), Claim> {
        let Some(started) = self.started.get_mut(&id) else { return Ok(()) };
        started.claim.need = need;
        let claim = started.claim.clone();
        if self.has_room(id, &claim) {
            return Ok(());
        }
        self.remove(id);
        Err(claim)
    }

    /// The first in order of the jobs that can compute.
    fn next(&mut self) -> Option<JobId> {
        for id in self.in_order() {
            let Some(claim) = self.waiting.get(&id) else { return Some(id) };
            match self.lacks(id, claim) {
                None => return Some(id),
                Some(Lack::Place) => {}
                Some(Lack::Room) => {
                    let held_up = HeldUp { job: id, since: self.starts };
                    self.held_up.get_or_insert(held_up);
                }
            }
        }
        None
    }

    fn start(&mut self, id: JobId) {
        let Some(claim) = self.waiting.remove(&id) else { return };
        // In the meantime those that compute may have got far ahead.
        self.join(&claim);
        self.started.insert(id, Started { claim, start: self.starts, is_ending: false });
        self.starts += 1;
        self.held_up = self.held_up.filter(|held_up| held_up.job != id);
    }

    /// Whether a change is there for which a training gives up the turn at once; not where it would get it
    /// back as soon.
    fn is_preempted(&self, holder: JobId) -> bool {
        let is_training = self.started.get(&holder).is_some_and(|job| job.claim.class == Class::Training);
        if !is_training || self.head_start <= SLICE * RESTORED {
            return false;
        }
        self.started.values().any(|job| job.claim.class == Class::Change && !job.is_ending)
            || self
                .waiting
                .iter()
                .any(|(id, claim)| claim.class == Class::Change && self.lacks(*id, claim).is_none())
    }

    /// All jobs but those that end; the one that is due first stands first.
    fn in_order(&self) -> Vec<JobId> {
        let first = if self.head_start.is_zero() { Class::Training } else { Class::Change };
        let started = self.started.iter().filter(|(_, job)| !job.is_ending).map(|(id, job)| (id, &job.claim));
        let mut order: Vec<_> = started
            .chain(&self.waiting)
            .map(|(id, Claim { identity, model, class, .. })| {
                let of_model =
                    self.models.get(identity).map(|models| models.clock(model)).unwrap_or_default();
                (*class != first, self.identities.clock(identity), of_model, *id)
            })
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(.., id)| id).collect()
    }

    /// What a job that waits lacks to be started.
    fn lacks(&self, id: JobId, claim: &Claim) -> Option<Lack> {
        let all = self.started.len();
        let own = self.started.values().filter(|job| job.claim.identity == claim.identity).count();
        let has_place = match claim.class {
            Class::Change => all < self.limits.started,
            Class::Training => {
                let left = self.limits.started.saturating_sub(CHANGES_ONLY).max(1).saturating_sub(all);
                left > 0 && (own == 0 || own < left)
            }
        };
        match has_place {
            false => Some(Lack::Place),
            true => (!self.has_room(id, claim)).then_some(Lack::Room),
        }
    }

    /// Whether what a job takes fits beside what the others take.
    fn has_room(&self, id: JobId, claim: &Claim) -> bool {
        let others = || self.started.iter().filter(|(of, _)| **of != id).map(|(_, job)| job);
        let sum = |jobs: &mut dyn Iterator<Item = &Started>| {
            jobs.fold(Need::default(), |sum, job| sum.plus(job.claim.need))
        };
        // Whether it is too large for this daemon at all is said where its need is estimated.
        if others().next().is_none() {
            return true;
        }
        let is_first = others().all(|job| job.claim.identity != claim.identity);
        let room =
            if is_first || claim.class == Class::Change { self.limits.room } else { self.share(claim.need) };
        let passes = self.held_up.filter(|held_up| held_up.job != id).is_none_or(|held_up| {
            // A job that was not estimated yet is looked at again when it was.
            let Some(due) = self.waiting.get(&held_up.job) else { return true };
            let later = sum(&mut others().filter(|job| job.start >= held_up.since));
            claim.need == Need::default()
                || claim.need.fits_beside(later.plus(due.need), self.share(due.need))
        });
        passes && claim.need.fits_beside(sum(&mut others()), room)
    }

    /// What an identity may take of the memory with more than one job; all of it with one that is larger.
    fn share(&self, need: Need) -> Need {
        let Need { memory, device } = self.limits.room;
        let most = memory / 4 * 3;
        Need { memory: if need.memory > most { memory } else { most }, device }
    }

    /// The shares of a job's identity and model take part.
    fn join(&mut self, claim: &Claim) {
        self.identities.join(&claim.identity);
        self.models.entry(claim.identity.clone()).or_default().join(&claim.model);
    }

    /// Brings the shares up to date with the jobs.
    fn settle(&mut self) {
        let Self { waiting, started, identities, models, .. } = self;
        let computing = || started.values().filter(|job| !job.is_ending).map(|job| &job.claim);
        let all = || started.values().map(|job| &job.claim).chain(waiting.values());
        if all().next().is_none() {
            (*identities, *models, self.head_start) = (Shares::default(), BTreeMap::new(), HEAD_START);
            return;
        }
        let (active, known) = (by_identity(computing()), by_identity(all()));
        identities.settle(|identity| active.contains_key(identity), |identity| known.contains_key(identity));
        models.retain(|identity, _| known.contains_key(identity));
        for (identity, models) in models {
            let holds = |of: &BTreeMap<&String, BTreeSet<&ModelId>>, model: &ModelId| {
                of.get(identity).is_some_and(|models| models.contains(model))
            };
            models.settle(|model| holds(&active, model), |model| holds(&known, model));
        }
    }
}

/// The models of jobs, by identity.
fn by_identity<'a>(claims: impl Iterator<Item = &'a Claim>) -> BTreeMap<&'a String, BTreeSet<&'a ModelId>> {
    let mut models: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for Claim { identity, model, .. } in claims {
        models.entry(identity).or_default().insert(model);
    }
    models
}

#[cfg(test)]
mod tests;
