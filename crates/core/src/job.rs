//! Jobs: what is to be run for whom, who holds it, how it ended; and the port that keeps them.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    AuditEntry, Error, Fencing, InputWrite, JobCertificate, JobId, JobInput, JobSpec, Labels, Page,
    PageRequest, PrincipalId, QueueName, RequestKey, Result, Timestamp, Usage, WorkerId,
};

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a worker.
    Scheduled,
    /// A worker holds it.
    Running,
    /// Its command ran and exited, whatever the code.
    Completed,
    /// It could not be run, or used up its attempts.
    Failed,
    /// It was stopped.
    Cancelled,
    /// It ran longer than it may.
    TimedOut,
}

impl JobState {
    /// Every state there is.
    pub const ALL: &'static [Self] =
        &[Self::Scheduled, Self::Running, Self::Completed, Self::Failed, Self::Cancelled, Self::TimedOut];

    /// The state's name, one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }

    /// Whether the job is over.
    pub const fn has_ended(self) -> bool {
        !matches!(self, Self::Scheduled | Self::Running)
    }
}

impl FromStr for JobState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| Error::invalid("state", format!("there is no job state {text:?}")))
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A worker's time-limited claim on a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who holds the job.
    pub holder: PrincipalId,
    /// Which of the holder's processes it was given to, if that said which it is.
    pub worker: Option<WorkerId>,
    /// Until when. Another gets the job only 2 s after it.
    pub deadline: Timestamp,
}

/// A request to stop a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// When it was asked for.
    pub at: Timestamp,
    /// The signal to send first, by number.
    pub signal: i32,
    /// How long to wait before the whole process group is killed; zero kills at once.
    pub grace: Duration,
    /// Who asked.
    pub by: String,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// A job as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Where it waits.
    pub queue: QueueName,
    /// Whose job it is.
    pub owner: PrincipalId,
    /// What is to be run.
    pub spec: JobSpec,
    /// Where it is in its life.
    pub state: JobState,
    /// The number of its latest lease, from 1; also the first part of its events' sequence.
    pub attempt: u32,
    /// How many leases were handed back unused.
    pub handed_back: u32,
    /// Who holds it, while someone does.
    pub lease: Option<Lease>,
    /// Its process on the worker's machine, once it runs.
    pub process_id: Option<u32>,
    /// How its process ended.
    pub exit: Option<Exit>,
    /// Why it ended as it did, where the exit does not say.
    pub reason: String,
    /// What its latest attempt used, once that has ended and where its worker said so.
    pub usage: Option<Usage>,
    /// The request to stop it, once there is one.
    pub cancellation: Option<Cancellation>,
    /// Its certificates that its end will revoke, while it runs.
    pub certificates: Vec<JobCertificate>,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// Not to be leased before this.
    pub visible_at: Timestamp,
    /// Its turn among the jobs of its queue and priority: the lowest goes first. The store gives it when the job may
    /// first be taken, and again after an attempt that failed; a lost lease leaves it as it is.
    pub rank: Option<u64>,
    /// When its process last started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

impl Job {
    /// Whether another attempt is allowed after the latest.
    pub fn may_retry(&self) -> bool {
        self.attempt.saturating_sub(self.handed_back) < self.spec.max_attempts
    }

    /// Whether `holder` holds lease `attempt` at `now`.
    pub fn is_held(&self, holder: &PrincipalId, attempt: u32, now: Timestamp) -> bool {
        self.state == JobState::Running
            && self.attempt == attempt
            && self.lease.as_ref().is_some_and(|lease| lease.holder == *holder && lease.deadline > now)
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptOutcome {
    /// The process ended.
    Exited(Exit),
    /// The process could not be started, or the repository not be fetched.
    Failed(String),
    /// It was stopped because someone asked.
    Cancelled(Option<Exit>),
    /// It ran longer than it may.
    TimedOut(Option<Exit>),
    /// The worker gave it back unused.
    HandedBack,
    /// The lease ran out.
    LeaseExpired,
    /// The holder was suspended, revoked or deleted.
    HolderDenied,
}

/// What a worker says of a lease that it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The job.
    pub job_id: JobId,
    /// The lease.
    pub attempt: u32,
    /// How it ended. `LeaseExpired` and `HolderDenied` are not a worker's to say.
    pub outcome: AttemptOutcome,
    /// What it used, where the worker's host tells.
    pub usage: Option<Usage>,
}

/// How a worker goes through its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOrder {
    /// A job of each in turn.
    InTurn,
    /// As long as a queue has a job, those after it wait.
    Strict,
}

/// A worker's wish for jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The queues, in order of preference.
    pub queues: Vec<QueueName>,
    /// What that order means.
    pub order: QueueOrder,
    /// Grows by 1 from one request of a worker to the next: whose turn it is.
    pub turn: usize,
    /// What the worker is: jobs that require something else are not given to it.
    pub labels: Labels,
    /// Who asks; must be active in the transaction (`principal-not-active`).
    pub holder: PrincipalId,
    /// Which of its processes asks, if it says so.
    pub worker: Option<WorkerId>,
    /// How many at most.
    pub max: u32,
    /// The time of the act.
    pub now: Timestamp,
    /// Until when the leases last.
    pub deadline: Timestamp,
}

/// A lease to be extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseExtension {
    /// The job.
    pub job_id: JobId,
    /// The lease.
    pub attempt: u32,
}

/// What a worker or a watcher must know of a running job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobControl {
    /// The job.
    pub job_id: JobId,
    /// Where it is.
    pub state: JobState,
    /// Its latest lease.
    pub attempt: u32,
    /// Who holds it.
    pub lease: Option<Lease>,
    /// The request to stop it.
    pub cancellation: Option<Cancellation>,
}

/// What enqueuing came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// The jobs' ids, in the order given.
    pub ids: Vec<JobId>,
    /// Whether they are those of an earlier call with the same request id.
    pub replayed: bool,
}

/// Which jobs to list; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Of this owner.
    pub owner: Option<PrincipalId>,
    /// Held by this worker.
    pub holder: Option<PrincipalId>,
    /// In this state.
    pub state: Option<JobState>,
    /// In this queue.
    pub queue: Option<QueueName>,
    /// With every one of these labels.
    pub labels: Labels,
}

/// The next of the waiting jobs of a queue that require the same of their worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextJob {
    /// The queue.
    pub queue: QueueName,
    /// What is required.
    pub requires: Labels,
    /// When it may be taken; none is now.
    pub visible_at: Option<Timestamp>,
}

/// Keeps jobs and their leases. The end of every attempt writes one event of kind `AttemptEnded` at
/// [`crate::Sequence::end_of`] in the same transaction, so a lease can't end twice; and revokes there what certificates
/// the attempt was given (cessationOfOperation).
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Adds jobs, all or none, at the time of the audit entry. The owner must be active (`principal-not-active`); a
    /// `unique` job must not find its like (`job-not-unique`). Waiting jobs of one queue may differ in what they
    /// require of their worker 32 times at most (`limit-reached`).
    async fn enqueue_jobs(
        &self,
        jobs: Vec<Job>,
        request: Option<RequestKey>,
        audit: AuditEntry,
    ) -> Result<Enqueued>;

    /// Leases waiting jobs that are visible at `now` and require nothing that the worker lacks; attempt + 1. Within a
    /// queue those of the highest priority go first; among these the owners take turns, whoever has how many; of one
    /// owner the first to come is the first to go.
    async fn lease_jobs(&self, request: &LeaseRequest) -> Result<Vec<Job>>;

    /// Extends leases that `holder` still holds at `now`; each result is the job's control state, or `lease-lost`.
    async fn extend_leases(
        &self,
        holder: &PrincipalId,
        leases: &[LeaseExtension],
        now: Timestamp,
        deadline: Timestamp,
    ) -> Result<Vec<Result<JobControl>>>;

    /// Ends leases that `holder` still holds at `now` (else `lease-lost`, and nothing is written), and moves each
    /// job on: ended, or waiting again where its outcome and attempts allow it. The jobs as they are afterwards.
    async fn complete_jobs(
        &self,
        holder: &PrincipalId,
        completions: &[Completion],
        now: Timestamp,
    ) -> Result<Vec<Result<Job>>>;

    /// Asks for a job to be stopped: a waiting one is cancelled at once, a running one gets the request (a later
    /// one replaces it), an ended one is `job-ended`.
    async fn cancel_job(&self, id: &JobId, cancellation: Cancellation, audit: AuditEntry) -> Result<Job>;

    /// Appends to what goes into a job that has not ended (`job-ended`), numbered from 1. What one job is given is at
    /// most 1 MiB (`limit-reached`). After a piece with `end` nothing more is taken (`job-ended`). Once a writer has
    /// written, others are refused (`input-taken`) unless they take over; a piece of the last writer that is there
    /// already is dropped. The audit entry is written with a writer's first piece, and with each that names no writer.
    async fn write_input(&self, write: InputWrite, audit: AuditEntry) -> Result<()>;

    /// Up to `limit` pieces of input after number `after`, in order. Each attempt reads them from the start.
    async fn inputs_after(&self, id: &JobId, after: u64, limit: u32) -> Result<Vec<JobInput>>;

    /// Takes back every lease of `holder`, at most `limit`; the jobs wait again or fail by their attempts.
    async fn end_leases_of(&self, holder: &PrincipalId, now: Timestamp, limit: u32) -> Result<Vec<Job>>;

    /// Takes back leases whose deadline was before `now - 2 s`, at most `limit`. A `fencing` older than the newest
    /// is `version-conflict`.
    async fn expire_leases(&self, now: Timestamp, limit: u32, fencing: Fencing) -> Result<Vec<Job>>;

    /// The job of this id.
    async fn get_job(&self, id: &JobId) -> Result<Option<Job>>;

    /// Jobs, newest first.
    async fn list_jobs(&self, filter: &JobFilter, page: &PageRequest) -> Result<Page<Job>>;

    /// The control state of up to 1,000 jobs; unknown ones are left out.
    async fn job_controls(&self, ids: &[JobId]) -> Result<Vec<JobControl>>;

    /// The next job of each of these queues, apart by what jobs require of their worker; nothing of what has none.
    async fn next_visible(&self, queues: &[QueueName]) -> Result<Vec<NextJob>>;

    /// How many jobs there are in each state.
    async fn count_jobs(&self) -> Result<BTreeMap<JobState, u64>>;
}
