//! The schedule by simulated time: every job computes in steps of a tenth of a second.

use super::*;

const STEP: Duration = Duration::from_millis(100);
const GIB: u64 = 1 << 30;

/// Jobs that compute as the schedule says, and how long each did.
struct Machine {
    schedule: Schedule,
    computed: BTreeMap<JobId, Duration>,
    /// How long each job computes until it ends; the others never do.
    lengths: BTreeMap<JobId, Duration>,
    now: Duration,
    switches: u64,
}

fn claim(identity: &str, model: u64, class: Class, gib: u64) -> Claim {
    let model = ModelId::new(&format!("m-{model}")).unwrap();
    Claim { identity: identity.into(), model, class, need: Need { memory: gib * GIB, device: 0 } }
}

impl Machine {
    fn new(gib: u64) -> Self {
        let room = Need { memory: gib * GIB, device: u64::MAX };
        Self {
            schedule: Schedule::new(Limits { started: MOST_STARTED, room }),
            computed: BTreeMap::new(),
            lengths: BTreeMap::new(),
            now: Duration::ZERO,
            switches: 0,
        }
    }

    /// Accepts a job of a model of its own; it computes for so many seconds, or for ever.
    fn accept(&mut self, id: u64, identity: &str, class: Class, seconds: Option<u64>) -> JobId {
        self.accept_as(id, claim(identity, id, class, 1), seconds)
    }

    fn accept_as(&mut self, id: u64, claim: Claim, seconds: Option<u64>) -> JobId {
        let job = JobId(id);
        self.schedule.accept(job, claim);
        self.lengths.extend(seconds.map(|seconds| (job, Duration::from_secs(seconds))));
        job
    }

    /// One step of the job that has the turn.
    fn step(&mut self) -> Option<JobId> {
        let before = self.schedule.holder();
        let job = self.schedule.decide()?;
        self.switches += u64::from(before != Some(job));
        self.schedule.charge(STEP);
        self.now += STEP;
        let computed = self.computed.entry(job).or_default();
        *computed += STEP;
        if self.lengths.get(&job).is_some_and(|length| length <= computed) {
            self.schedule.remove(job);
        }
        self.check();
        Some(job)
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end && self.step().is_some() {}
    }

    /// Runs until a job has ended; how long that took.
    fn run_to_end_of(&mut self, job: JobId) -> f64 {
        let start = self.now;
        while self.is_there(job) {
            assert!((self.now - start).as_secs() < 10_000, "{job} starves");
            self.step().expect("a job is there");
        }
        (self.now - start).as_secs_f64()
    }

    fn is_there(&self, job: JobId) -> bool {
        self.schedule.waiting.contains_key(&job) || self.is_started(job)
    }

    fn is_started(&self, job: JobId) -> bool {
        self.schedule.started.contains_key(&job)
    }

    fn seconds(&self, job: JobId) -> f64 {
        self.computed.get(&job).copied().unwrap_or_default().as_secs_f64()
    }

    /// What holds at every moment.
    fn check(&self) {
        let Schedule { limits, started, .. } = &self.schedule;
        assert!(started.len() <= limits.started);
        let memory: u64 = started.values().map(|job| job.claim.need.memory).sum();
        assert!(memory <= limits.room.memory, "{memory} bytes are taken together");
    }
}

#[test]
fn a_short_training_ends_while_a_long_one_goes_on() {
    let mut machine = Machine::new(64);
    let long = machine.accept(1, "a", Class::Training, None);
    machine.run(1000);
    let short = machine.accept(2, "a", Class::Training, Some(10));
    let took = machine.run_to_end_of(short);
    assert!((19.0..=21.0).contains(&took), "{took} s: half of the time was its own");
    assert!(machine.is_started(long));
    let before = machine.seconds(long);
    machine.run(50);
    assert_eq!(machine.seconds(long) - before, 50.0, "alone again it has all of the time");
}

#[test]
fn identities_share_the_time_however_many_jobs_each_has() {
    let mut machine = Machine::new(64);
    let many: Vec<JobId> = (1..=5).map(|id| machine.accept(id, "a", Class::Training, None)).collect();
    machine.run(100);
    let one = machine.accept(6, "b", Class::Training, None);
    machine.run(100);
    assert!((48.0..=52.0).contains(&machine.seconds(one)), "{}", machine.seconds(one));
    for job in many {
        // A fifth of the first hundred seconds and of a half of the second.
        assert!((28.0..=32.0).contains(&machine.seconds(job)), "{job} had {}", machine.seconds(job));
    }
}

#[test]
fn changes_go_first_and_at_once() {
    let mut machine = Machine::new(64);
    let training = machine.accept(1, "a", Class::Training, None);
    machine.run(7);
    machine.step();
    let change = machine.accept(2, "b", Class::Change, Some(3));
    assert_eq!(machine.step(), Some(change), "it does not wait for the end of a slice");
    assert!((2.8..=3.0).contains(&machine.run_to_end_of(change)), "nothing was between");
    assert_eq!(machine.step(), Some(training));
}

#[test]
fn changes_without_end_leave_trainings_a_quarter() {
    let mut machine = Machine::new(64);
    let training = machine.accept(1, "a", Class::Training, None);
    machine.run(10);
    let mut next = 2;
    let mut change = machine.accept(next, "b", Class::Change, Some(2));
    let (before, start) = (machine.seconds(training), machine.now);
    while (machine.now - start).as_secs() < 400 {
        machine.step();
        if !machine.is_there(change) {
            next += 1;
            change = machine.accept(next, "b", Class::Change, Some(2));
        }
    }
    let had = machine.seconds(training) - before;
    // A quarter of what is left after the head start.
    assert!((85.0..=105.0).contains(&had), "{had} s of 400");
    assert!(machine.switches < 300, "{} switches in 400 s", machine.switches);
}

#[test]
fn slices_are_kept() {
    let mut machine = Machine::new(64);
    for id in 1..=4 {
        machine.accept(id, "a", Class::Training, None);
    }
    machine.run(100);
    assert!(machine.switches <= 101, "{} switches in 100 s", machine.switches);
}

#[test]
fn an_identity_leaves_places_to_others_and_some_are_for_changes() {
    let mut machine = Machine::new(64);
    let count = |machine: &Machine, identity: &str| {
        machine.schedule.started.values().filter(|job| job.claim.identity == identity).count()
    };
    for id in 1..=20 {
        machine.accept(id, "a", Class::Training, None);
    }
    machine.run(100);
    assert_eq!(count(&machine, "a"), 7, "seven of fourteen are left");
    for id in 21..=40 {
        machine.accept(id, ["b", "c", "d"][id as usize % 3], Class::Training, None);
    }
    machine.run(300);
    let counts = ["a", "b", "c", "d"].map(|identity| count(&machine, identity));
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    let late = machine.accept(50, "e", Class::Training, None);
    machine.run(30);
    assert!(machine.is_started(late), "there is a place for one more");
    assert_eq!(machine.schedule.started.len(), MOST_STARTED - CHANGES_ONLY);
    let change = machine.accept(41, "a", Class::Change, Some(1));
    machine.run_to_end_of(change);
    // Whose training waits for a place does not get one before its turn, but is there.
    assert!(machine.schedule.positions().ahead_of(JobId(20)).is_some());
    assert!(machine.schedule.positions().ahead_of(JobId(1)).is_none(), "it was started");
}

#[test]
fn a_large_job_waits_for_those_before_it_and_for_no_others() {
    let mut machine = Machine::new(100);
    let first = machine.accept_as(1, claim("a", 1, Class::Training, 40), Some(500));
    machine.run(1);
    let large = machine.accept_as(2, claim("b", 2, Class::Training, 70), Some(5));
    machine.run(2);
    assert!(!machine.is_started(large), "40 and 70 are more than 100");
    // Others come all the time, of which the small ones may go before it, as they fit beside it.
    let mut small_ended = 0;
    let mut next = 3;
    while machine.is_there(large) {
        for gib in [4, 15] {
            let claims = machine
                .schedule
                .started
                .values()
                .map(|job| &job.claim)
                .chain(machine.schedule.waiting.values());
            if claims.filter(|claim| claim.need.memory == gib * GIB).count() < 4 {
                machine.accept_as(next, claim("c", next, Class::Training, gib), Some(20));
                next += 1;
            }
        }
        let before = machine.lengths.keys().filter(|job| machine.is_there(**job)).count();
        machine.step();
        small_ended += before - machine.lengths.keys().filter(|job| machine.is_there(**job)).count();
        assert!(machine.now.as_secs() < 5000, "the large one starves");
        if !machine.is_there(first) && machine.is_there(large) && !machine.is_started(large) {
            // Nothing that came later is in its way.
            machine.schedule.turn = None;
            machine.schedule.decide();
            assert!(machine.is_started(large), "it waits for a job that came later");
        }
    }
    assert!(small_ended > 3, "those that fit went on: {small_ended}");
}

#[test]
fn a_job_that_waited_long_for_room_does_not_hold_up_the_others_for_as_long() {
    let mut machine = Machine::new(100);
    let first = machine.accept_as(1, claim("a", 1, Class::Training, 40), None);
    let second = machine.accept_as(2, claim("b", 2, Class::Training, 20), None);
    machine.run(2);
    let large = machine.accept_as(3, claim("c", 3, Class::Training, 70), None);
    machine.run(1000);
    machine.schedule.remove(first);
    let before = machine.seconds(second);
    machine.run(100);
    assert!((45.0..=55.0).contains(&machine.seconds(large)), "{}", machine.seconds(large));
    assert!((45.0..=55.0).contains(&(machine.seconds(second) - before)));
}

#[test]
fn the_last_quarter_of_the_memory_is_for_others() {
    let mut machine = Machine::new(100);
    let jobs = [30, 30, 30].map(|gib| {
        let id = machine.computed.len() as u64 + machine.schedule.waiting.len() as u64 + 1;
        machine.accept_as(id, claim("a", id, Class::Training, gib), None)
    });
    machine.run(30);
    assert_eq!(jobs.map(|job| machine.is_started(job)), [true, true, false]);
    let other = machine.accept_as(4, claim("b", 4, Class::Training, 40), None);
    machine.run(30);
    assert!(machine.is_started(other), "60 and 40 are 100");
    // One that is larger than the share of an identity gets all that there is.
    let mut machine = Machine::new(100);
    let small = machine.accept_as(1, claim("a", 1, Class::Training, 10), Some(3));
    let large = machine.accept_as(2, claim("a", 2, Class::Training, 90), None);
    machine.run_to_end_of(small);
    assert!(machine.is_started(large));
}

#[test]
fn what_a_job_takes_may_show_only_when_it_was_started() {
    let mut machine = Machine::new(100);
    let first = machine.accept_as(1, claim("a", 1, Class::Training, 60), None);
    machine.run(2);
    let other = machine.accept_as(2, claim("b", 2, Class::Training, 0), None);
    assert_eq!(machine.step(), Some(other));
    let need = Need { memory: 50 * GIB, device: 0 };
    let claim = machine.schedule.reserve(other, need).unwrap_err();
    assert_eq!(claim.need, need);
    assert!(!machine.is_there(other) && machine.schedule.holder().is_none(), "it gave up the turn");
    machine.schedule.accept(other, claim);
    machine.run(5);
    assert!(!machine.is_started(other));
    assert_eq!(machine.schedule.positions().ahead_of(other), Some(0), "it is next when there is room");
    machine.schedule.remove(first);
    machine.run(1);
    assert!(machine.is_started(other));
    machine.schedule.reserve(other, need).unwrap();
}

#[test]
fn a_device_holds_one_job_however_large_and_more_if_they_fit() {
    let mut machine = Machine::new(100);
    machine.schedule.limits.room.device = 8 * GIB;
    let on_device = |id, gib| Claim {
        need: Need { memory: GIB, device: gib * GIB },
        ..claim("a", id, Class::Training, 0)
    };
    let large = machine.accept_as(1, on_device(1, 20), Some(5));
    let [small, other, third] = [2, 3, 4].map(|id| machine.accept_as(id, on_device(id, 4), None));
    machine.run(3);
    assert!(machine.is_started(large), "alone it may try");
    assert!(!machine.is_started(small) && !machine.is_started(other));
    machine.run_to_end_of(large);
    machine.run(10);
    assert_eq!([small, other, third].map(|job| machine.is_started(job)), [true, true, false]);
}

#[test]
fn a_job_that_was_stopped_computes_no_more_and_takes_what_it_took_until_it_ended() {
    let mut machine = Machine::new(100);
    let stopped = machine.accept_as(1, claim("a", 1, Class::Training, 60), None);
    machine.run(1);
    let other = machine.accept_as(2, claim("b", 2, Class::Training, 30), None);
    let third = machine.accept_as(3, claim("c", 3, Class::Training, 30), None);
    assert_eq!(machine.step(), Some(other));
    machine.schedule.end(stopped);
    let before = machine.seconds(stopped);
    machine.run(10);
    assert_eq!(machine.seconds(stopped), before);
    assert!(!machine.is_started(third), "60, 30 and 30 are more than 100");
    machine.schedule.remove(stopped);
    machine.run(2);
    assert!(machine.is_started(third));
}

#[test]
fn who_comes_first_starts_first_of_those_that_had_as_much() {
    let mut machine = Machine::new(64);
    let jobs = [1, 2, 3].map(|id| machine.accept(id, "a", Class::Training, Some(1)));
    assert_eq!(jobs.map(|job| machine.schedule.positions().ahead_of(job)), [Some(0), Some(1), Some(2)]);
    let mut order = Vec::new();
    while let Some(job) = machine.step() {
        order.push(job);
    }
    order.dedup();
    assert_eq!(order, jobs);
    assert!(machine.schedule.models.is_empty(), "nothing is remembered of those that went");
}
