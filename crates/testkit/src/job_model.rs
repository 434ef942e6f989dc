//! Jobs as they must behave, as plain as can be, beside a store that is taken through the same acts in any order:
//! enqueued, leased, extended, taken back, completed, stopped, with workers that are suspended or forget what they hold
//! and servers that start again. No job is lost, none is leased twice at a time, and each ends once.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "it is a test: it fails by panicking, and says at which act"
)]

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use airunner_core::{
    AttemptOutcome, Cancellation, Completion, EventKind, Exit, Fencing, Job, JobId, JobState, Label, Labels,
    LeaseExtension, LeaseRequest, PrincipalId, PrincipalStatus, QueueOrder, Sequence, StatusChange, Stores,
    Timestamp, holds_all,
};

use crate::{
    clock::FakeClock,
    random::SeededRandom,
    records::{self, JobExt as _, audit, id, queue},
};

const OWNERS: [&str; 3] = ["alice", "bob", "carol"];
/// The last has what some jobs require.
const WORKERS: [&str; 3] = ["w0", "w1", "w2"];
/// How long a lease lasts.
const LEASE: Duration = Duration::from_mins(1);
/// How long after its end a lease is taken back.
const GRACE: Duration = Duration::from_secs(2);

/// What is done next. The numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Act {
    Enqueue {
        owner: u8,
        shape: u8,
        delay: u8,
    },
    Lease {
        worker: u8,
        max: u8,
        strict: bool,
    },
    Extend {
        lease: u8,
    },
    Complete {
        lease: u8,
        outcome: u8,
    },
    /// Completed by a worker that does not hold it, or of another attempt.
    Meddle {
        lease: u8,
        other: u8,
    },
    Forget {
        worker: u8,
    },
    Cancel {
        job: u8,
    },
    Suspend {
        worker: u8,
    },
    Activate {
        worker: u8,
    },
    Expire,
    Pass {
        seconds: u8,
    },
    Reopen,
}

impl Act {
    fn of([kind, a, b, c]: [u8; 4]) -> Self {
        match kind % 20 {
            0..=4 => Self::Enqueue { owner: a, shape: b, delay: c },
            5..=8 => Self::Lease { worker: a, max: b % 4 + 1, strict: c % 2 == 0 },
            9 => Self::Extend { lease: a },
            10..=12 => Self::Complete { lease: a, outcome: b },
            13 => Self::Meddle { lease: a, other: b },
            14 => Self::Forget { worker: a },
            15 => Self::Cancel { job: a },
            16 if a % 2 == 0 => Self::Suspend { worker: b },
            16 => Self::Activate { worker: b },
            17 => Self::Expire,
            18 => Self::Pass { seconds: a },
            _ => Self::Reopen,
        }
    }
}

/// A lease as a worker remembers it, whether it still counts or not.
#[derive(Clone, Debug)]
struct Known {
    worker: usize,
    job: JobId,
    attempt: u32,
}

/// A job as it must be.
#[derive(Debug)]
struct Expected {
    job: Job,
    accepted_ends: u32,
}

struct Run {
    stores: Stores,
    now: Timestamp,
    jobs: BTreeMap<JobId, Expected>,
    known: Vec<Known>,
    suspended: HashSet<usize>,
    random: SeededRandom,
    turn: usize,
}

/// Takes an empty store through `acts`, and then lets everything come to its end. `reopen` gives the store as a server
/// that starts again has it.
pub async fn check(acts: &[[u8; 4]], stores: Stores, mut reopen: impl AsyncFnMut() -> Stores) {
    for name in OWNERS.iter().chain(&WORKERS) {
        let entry = audit("principal.create", name, FakeClock::START);
        stores.principals.create_principal(records::principal(name), entry).await.unwrap();
    }
    let mut run = Run {
        stores,
        now: FakeClock::START,
        jobs: BTreeMap::new(),
        known: Vec::new(),
        suspended: HashSet::new(),
        random: SeededRandom::new(5),
        turn: 0,
    };
    for act in acts.iter().copied().map(Act::of) {
        match act {
            Act::Reopen => run.stores = reopen().await,
            act => run.act(act).await,
        }
        run.compare(&format!("{act:?}")).await;
    }
    run.finish().await;
}

impl Run {
    async fn act(&mut self, act: Act) {
        match act {
            Act::Enqueue { owner, shape, delay } => self.enqueue(owner, shape, delay).await,
            Act::Lease { worker, max, strict } => {
                self.lease(usize::from(worker) % WORKERS.len(), max.into(), strict).await;
            }
            Act::Extend { lease } => self.extend(lease).await,
            Act::Complete { lease, outcome } => {
                if let Some(known) = self.pick(lease) {
                    self.complete(&known, outcome).await;
                }
            }
            Act::Meddle { lease, other } => self.meddle(lease, other).await,
            Act::Forget { worker } => {
                self.known.retain(|known| known.worker != usize::from(worker) % WORKERS.len());
            }
            Act::Cancel { job } => self.cancel(job).await,
            Act::Suspend { worker } => self.suspend(usize::from(worker) % WORKERS.len()).await,
            Act::Activate { worker } => {
                self.set_status(usize::from(worker) % WORKERS.len(), PrincipalStatus::Active).await;
            }
            Act::Expire => self.expire().await,
            Act::Pass { seconds } => self.now = self.now.plus(Duration::from_secs(u64::from(seconds) / 2)),
            Act::Reopen => {}
        }
        // Nothing happens at the very time of something else.
        self.now = self.now.plus(Duration::from_millis(1));
    }

    async fn enqueue(&mut self, owner: u8, shape: u8, delay: u8) {
        let owner = id(OWNERS[usize::from(owner) % OWNERS.len()]);
        let mut job = records::job(owner.as_str(), self.now, &self.random).with(|spec| {
            spec.max_attempts = u32::from(shape % 3) + 1;
            spec.priority = if shape & 4 == 0 { 0 } else { 10 };
            spec.retry_on_exit = shape & 8 != 0;
            spec.retry_delay = Duration::from_secs(if shape & 16 == 0 { 0 } else { 7 });
            if shape & 32 != 0 {
                spec.requires = gpu();
            }
        });
        job.queue = queue(if shape & 64 == 0 { "one" } else { "two" });
        if delay > 127 {
            job.visible_at = self.now.plus(Duration::from_secs(u64::from(delay) - 127));
        }
        let entry = audit("job.enqueue", "x", self.now);
        self.stores.jobs.enqueue_jobs(vec![job.clone()], None, entry).await.unwrap();
        self.jobs.insert(job.id, Expected { job, accepted_ends: 0 });
    }

    async fn lease(&mut self, worker: usize, max: u32, strict: bool) -> usize {
        self.turn += 1;
        let labels = if worker == 2 { gpu() } else { Labels::new() };
        let request = LeaseRequest {
            queues: vec![queue("one"), queue("two")],
            order: if strict { QueueOrder::Strict } else { QueueOrder::InTurn },
            turn: self.turn,
            labels: labels.clone(),
            holder: id(WORKERS[worker]),
            worker: None,
            max,
            now: self.now,
            deadline: self.now.plus(LEASE),
        };
        let leased = self.stores.jobs.lease_jobs(&request).await;
        if self.suspended.contains(&worker) {
            assert_eq!(leased.unwrap_err().label(), Label::PrincipalNotActive);
            return 0;
        }
        let leased = leased.unwrap();
        for got in &leased {
            let expected = &mut self.jobs.get_mut(&got.id).unwrap().job;
            assert_eq!(expected.state, JobState::Scheduled, "leased though it does not wait: {got:?}");
            assert!(expected.visible_at <= self.now, "leased before its time: {got:?}");
            assert!(holds_all(&labels, &expected.spec.requires), "leased to who lacks something: {got:?}");
            assert_eq!(got.attempt, expected.attempt + 1);
            *expected = got.clone();
            self.known.push(Known { worker, job: got.id, attempt: got.attempt });
        }
        let left: Vec<&Job> = self
            .jobs
            .values()
            .map(|expected| &expected.job)
            .filter(|job| job.state == JobState::Scheduled && job.visible_at <= self.now)
            .filter(|job| holds_all(&labels, &job.spec.requires))
            .collect();
        assert!(leased.len() == max as usize || left.is_empty(), "nobody is given {left:?}");
        let overtaken = leased.iter().any(|got| {
            left.iter().any(|job| job.queue == got.queue && job.spec.priority > got.spec.priority)
        });
        assert!(!overtaken, "{leased:?} went before {left:?}");
        leased.len()
    }

    fn pick(&self, at: u8) -> Option<Known> {
        let count = self.known.len().max(1);
        self.known.get(usize::from(at) % count).cloned()
    }

    fn is_held(&self, known: &Known) -> bool {
        self.jobs[&known.job].job.is_held(&id(WORKERS[known.worker]), known.attempt, self.now)
    }

    async fn extend(&mut self, at: u8) {
        let Some(known) = self.pick(at) else { return };
        let lease = LeaseExtension { job_id: known.job, attempt: known.attempt };
        let deadline = self.now.plus(LEASE);
        let holder = id(WORKERS[known.worker]);
        let jobs = &self.stores.jobs;
        let extended = jobs.extend_leases(&holder, &[lease], self.now, deadline).await.unwrap().remove(0);
        assert_eq!(extended.is_ok(), self.is_held(&known), "{known:?}: {extended:?}");
        if extended.is_ok()
            && let Some(lease) = &mut self.jobs.get_mut(&known.job).unwrap().job.lease
        {
            lease.deadline = deadline;
        }
    }

    async fn complete(&mut self, known: &Known, outcome: u8) {
        let outcome = match outcome % 6 {
            0 | 1 => AttemptOutcome::Exited(Exit::Code(0)),
            2 => AttemptOutcome::Exited(Exit::Code(3)),
            3 => AttemptOutcome::Failed("no".to_owned()),
            4 => AttemptOutcome::HandedBack,
            _ => AttemptOutcome::TimedOut(None),
        };
        let is_held = self.is_held(known);
        let holder = id(WORKERS[known.worker]);
        let completion =
            Completion { job_id: known.job, attempt: known.attempt, outcome: outcome.clone(), usage: None };
        let done = self.stores.jobs.complete_jobs(&holder, &[completion], self.now).await.unwrap().remove(0);
        assert_eq!(done.is_ok(), is_held, "{known:?}: {done:?}");
        if let Ok(job) = done {
            self.ended(&job, &outcome);
        }
    }

    async fn meddle(&mut self, at: u8, other: u8) {
        let Some(known) = self.pick(at) else { return };
        let stranger = (known.worker + 1) % WORKERS.len();
        let (worker, attempt) = match other % 3 {
            0 => (stranger, known.attempt),
            1 => (known.worker, known.attempt + 1),
            _ => (known.worker, known.attempt.wrapping_sub(1)),
        };
        // The other attempt may be one that this worker does hold.
        let other = Known { worker, job: known.job, attempt };
        if self.is_held(&other) {
            return;
        }
        let outcome = AttemptOutcome::Exited(Exit::Code(0));
        let completion = Completion { job_id: known.job, attempt, outcome, usage: None };
        let holder = id(WORKERS[worker]);
        let done = self.stores.jobs.complete_jobs(&holder, &[completion], self.now).await.unwrap().remove(0);
        assert_eq!(done.unwrap_err().label(), Label::LeaseLost);
    }

    async fn cancel(&mut self, at: u8) {
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        let Some(job_id) = ids.get(usize::from(at) % ids.len().max(1)) else { return };
        let cancellation =
            Cancellation { at: self.now, signal: 15, grace: Duration::ZERO, by: "alice".to_owned() };
        let entry = audit("job.cancel", "x", self.now);
        let cancelled = self.stores.jobs.cancel_job(job_id, cancellation.clone(), entry).await;
        let expected = self.jobs.get_mut(job_id).unwrap();
        match expected.job.state {
            JobState::Scheduled => {
                expected.job = cancelled.unwrap();
                assert_eq!(expected.job.state, JobState::Cancelled);
                expected.accepted_ends += 1;
            }
            JobState::Running => {
                cancelled.unwrap();
                expected.job.cancellation = Some(cancellation);
            }
            _ => assert_eq!(cancelled.unwrap_err().label(), Label::JobEnded),
        }
    }

    async fn suspend(&mut self, worker: usize) {
        self.set_status(worker, PrincipalStatus::Suspended).await;
        let holder = id(WORKERS[worker]);
        let taken = self.stores.jobs.end_leases_of(&holder, self.now, 1_000).await.unwrap();
        self.taken_back(&taken, &AttemptOutcome::HolderDenied, |job| holds(job, &holder));
    }

    async fn set_status(&mut self, worker: usize, status: PrincipalStatus) {
        let change = StatusChange { status, reason: "a test".to_owned(), revoke: None, keep_an_admin: false };
        let entry = audit("principal.status", WORKERS[worker], self.now);
        self.stores.principals.set_status(&id(WORKERS[worker]), change, entry).await.unwrap();
        if status == PrincipalStatus::Active {
            self.suspended.remove(&worker);
        } else {
            self.suspended.insert(worker);
        }
    }

    async fn expire(&mut self) {
        let taken = self.stores.jobs.expire_leases(self.now, 1_000, Fencing(0)).await.unwrap();
        let before = self.now.minus(GRACE);
        self.taken_back(&taken, &AttemptOutcome::LeaseExpired, |job| {
            job.lease.as_ref().is_some_and(|lease| lease.deadline < before)
        });
    }

    /// Checks that those were taken back that had to be, and no others.
    fn taken_back(&mut self, taken: &[Job], outcome: &AttemptOutcome, is_due: impl Fn(&Job) -> bool) {
        let expected = self.jobs.values().map(|expected| &expected.job);
        let due: HashSet<JobId> = expected.filter(|job| is_due(job)).map(|job| job.id).collect();
        assert_eq!(taken.iter().map(|job| job.id).collect::<HashSet<_>>(), due, "{outcome:?}");
        for job in taken {
            self.ended(job, outcome);
        }
    }

    /// An attempt ended: the job is over, or waits again where it may.
    fn ended(&mut self, after: &Job, outcome: &AttemptOutcome) {
        let expected = self.jobs.get_mut(&after.id).unwrap();
        let before = &expected.job;
        let used = before.attempt - before.handed_back;
        let fails = match outcome {
            AttemptOutcome::Exited(Exit::Code(0))
            | AttemptOutcome::TimedOut(_)
            | AttemptOutcome::HandedBack => false,
            AttemptOutcome::Exited(_) => before.spec.retry_on_exit,
            _ => true,
        };
        let waits = before.cancellation.is_none()
            && (*outcome == AttemptOutcome::HandedBack || (fails && used < before.spec.max_attempts));
        assert_eq!(after.state == JobState::Scheduled, waits, "{outcome:?} took {before:?} to {after:?}");
        assert!(after.lease.is_none());
        let is_own = matches!(outcome, AttemptOutcome::Failed(_) | AttemptOutcome::Exited(_));
        if waits {
            let due = if is_own { self.now.plus(before.spec.backoff(used)) } else { before.visible_at };
            assert_eq!(after.visible_at, due.max(before.visible_at), "{outcome:?}");
        } else {
            expected.accepted_ends += 1;
        }
        expected.job = after.clone();
    }

    /// The store has every job as it must be.
    async fn compare(&self, act: &str) {
        for (job_id, expected) in &self.jobs {
            let mut found = self.stores.jobs.get_job(job_id).await.unwrap().unwrap();
            // Which rank it has is the store's business.
            found.rank = expected.job.rank;
            assert_eq!(found, expected.job, "after {act}");
            let ended = u32::from(expected.job.state.has_ended());
            assert_eq!(expected.accepted_ends, ended, "after {act}: {:?} ended", expected.job);
        }
    }

    /// Lets time pass and jobs be done until every one has ended, and looks at what is left.
    async fn finish(mut self) {
        for worker in 0..WORKERS.len() {
            self.set_status(worker, PrincipalStatus::Active).await;
        }
        self.known.clear();
        loop {
            self.now = self.now.plus(Duration::from_mins(10));
            self.expire().await;
            while self.lease(2, 3, false).await > 0 {}
            let known = std::mem::take(&mut self.known);
            for known in &known {
                self.complete(known, 0).await;
            }
            if known.is_empty() {
                break;
            }
        }
        self.compare("the end").await;
        for (job_id, expected) in &self.jobs {
            assert!(expected.job.state.has_ended(), "{:?} was lost", expected.job);
            let events = self.stores.events.events_after(job_id, Sequence::default(), 1_000).await.unwrap();
            let is_last = |kind: &EventKind| matches!(kind, EventKind::AttemptEnded { last: true, .. });
            let ends = events.iter().filter(|event| is_last(&event.kind)).count();
            assert!(ends <= 1, "{events:?}");
        }
        let counts = self.stores.jobs.count_jobs().await.unwrap();
        assert_eq!(counts.values().sum::<u64>(), self.jobs.len() as u64);
        assert_eq!(counts[&JobState::Scheduled] + counts[&JobState::Running], 0);
    }
}

fn gpu() -> Labels {
    Labels::from([("gpu".to_owned(), "yes".to_owned())])
}

fn holds(job: &Job, holder: &PrincipalId) -> bool {
    job.state == JobState::Running && job.lease.as_ref().is_some_and(|lease| lease.holder == *holder)
}
