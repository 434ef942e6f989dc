//! A worker's line: jobs as they are leased to it, and what happens to those that it holds.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use airunner_core::{
    AttemptOutcome, Cancellation, Completion, Error, Job, JobControl, JobFilter, JobId, JobInput, JobState,
    Labels, LeaseExtension, LeaseRequest, Monotonic, PageRequest, QueueName, QueueOrder, Result,
    TerminalSize, Timestamp, WorkerId, check_metadata,
};
use tokio::sync::Notify;

use super::{
    MAX_BATCH, POLL,
    hub::{Interest, Subscription},
    secrets::SecretEnvironment,
    wait,
};
use crate::{
    authn::Caller,
    authz::{Permit, may},
    context::Context,
    fleet::Fleet,
};

/// Queues that one line may name.
const MAX_QUEUES: usize = 16;
/// Leases that a line attends to at most: a worker whose lines are cut may hold more than it asked for.
const MAX_HELD: usize = 4 * MAX_BATCH;
/// How often an idle line says that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long another line of the same worker process may go on taking jobs that nobody hears of: until its server has
/// noticed that the other end is gone, which HTTP/2's pings tell within 50 s.
const UNNOTICED: Duration = Duration::from_mins(1);
/// How often it is looked for such jobs meanwhile.
const LOOK: Duration = Duration::from_secs(1);
/// Pieces of standard input taken from the store at a time.
const INPUTS: u32 = 16;

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct LineRequest {
    /// The queues, in order of preference; none is the default queue.
    pub queues: Vec<QueueName>,
    /// What that order means.
    pub order: QueueOrder,
    /// What the worker is, for jobs that require it.
    pub labels: Labels,
    /// Jobs to hold at a time, 1 to 64.
    pub max_jobs: u32,
    /// How long a lease lasts.
    pub visibility: Duration,
    /// Task tokens of jobs that it holds from an earlier line.
    pub held: Vec<String>,
    /// Which run of a worker process asks. What was sent to it on earlier lines and is not among `held` was lost, and is
    /// sent again, unless its start was published.
    pub worker: Option<WorkerId>,
}

/// What a line says.
#[derive(Clone, Debug)]
pub enum LineMessage {
    /// The line is in force.
    Waiting,
    /// A job, leased to this worker until the deadline.
    Claim {
        /// The job.
        job: Box<Job>,
        /// Its secret variables.
        secrets: SecretEnvironment,
        /// Names the lease.
        task_token: String,
        /// Until when.
        deadline: Timestamp,
    },
    /// Stop this job.
    Cancel {
        /// The job.
        job_id: JobId,
        /// The lease.
        attempt: u32,
        /// How.
        cancellation: Cancellation,
    },
    /// For the standard input or the terminal of this job.
    Input {
        /// The job.
        job_id: JobId,
        /// The lease.
        attempt: u32,
        /// The bytes.
        bytes: Vec<u8>,
        /// Whether no more follows.
        end: bool,
        /// The terminal's size from now on.
        size: Option<TerminalSize>,
    },
    /// The lease is over.
    LeaseLost {
        /// The job.
        job_id: JobId,
        /// The lease.
        attempt: u32,
    },
    /// The server goes away: open another line elsewhere. This one ends.
    Drain,
}

struct Held {
    attempt: u32,
    /// When the cancellation that was passed on was asked for.
    cancelled: Option<Timestamp>,
    /// The last piece of input that was passed on; none where the job has no standard input.
    input: Option<u64>,
    _subscription: Subscription,
}

/// One open line.
pub struct WorkerLine {
    context: Arc<Context>,
    fleet: Arc<Fleet>,
    caller: Caller,
    queues: Vec<QueueName>,
    order: QueueOrder,
    turn: usize,
    labels: Arc<Labels>,
    max_jobs: usize,
    visibility: Duration,
    worker: Option<WorkerId>,
    opened_at: Monotonic,
    looked_at: Option<Monotonic>,
    held: HashMap<JobId, Held>,
    outbox: VecDeque<LineMessage>,
    notify: Arc<Notify>,
    /// Whether there may be something to take: since the last time it was woken, or got room.
    is_expectant: bool,
    said_at: Option<Monotonic>,
    ended: bool,
    _queues: Subscription,
}

impl WorkerLine {
    pub(crate) fn open(
        context: Arc<Context>,
        fleet: Arc<Fleet>,
        permit: Permit<may::JobsDequeue>,
        request: LineRequest,
    ) -> Result<Self> {
        let queues =
            if request.queues.is_empty() { vec![QueueName::default_queue()] } else { request.queues };
        if queues.len() > MAX_QUEUES {
            return Err(Error::invalid("queues", format!("a worker waits on at most {MAX_QUEUES} queues")));
        }
        let max_jobs = request.max_jobs as usize;
        if !(1..=MAX_BATCH).contains(&max_jobs) {
            return Err(Error::invalid("max_jobs", format!("a line holds 1 to {MAX_BATCH} jobs")));
        }
        if request.held.len() > MAX_HELD {
            return Err(Error::invalid("task_tokens", format!("name at most {MAX_HELD} leases")));
        }
        check_metadata("labels", &request.labels)?;
        check_visibility(request.visibility)?;
        let notify = Arc::new(Notify::new());
        let labels = Arc::new(request.labels);
        let mut line = Self {
            _queues: Subscription::to_queues(&context, &queues, &labels, &notify),
            caller: permit.caller().clone(),
            opened_at: context.clock.monotonic(),
            fleet,
            queues,
            order: request.order,
            // Lines that take one job each must not all begin with the same queue.
            turn: usize::from(context.random.array::<1>()[0]),
            labels,
            max_jobs,
            visibility: request.visibility,
            worker: request.worker,
            looked_at: None,
            held: HashMap::new(),
            outbox: VecDeque::new(),
            notify,
            is_expectant: true,
            said_at: None,
            ended: false,
            context,
        };
        for token in &request.held {
            let (job, attempt) = line.context.task_tokens.read(token)?;
            line.hold(job, attempt, true);
        }
        Ok(line)
    }

    /// What the line says next; waits until there is something. None after `Drain`.
    ///
    /// # Errors
    /// The caller's denial; `store-unavailable` and the like.
    pub async fn next(&mut self) -> Result<Option<LineMessage>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            self.caller.check(self.context.now())?;
            if let Some(message) = self.outbox.pop_front() {
                self.said_at = Some(self.context.clock.monotonic());
                return Ok(Some(message));
            }
            if self.fleet.is_draining() {
                self.ended = true;
                return Ok(Some(LineMessage::Drain));
            }
            self.review().await?;
            self.repeat_lost().await?;
            self.take().await?;
            if self.outbox.is_empty() && !self.keep_alive() {
                self.is_expectant |= wait(&self.context, &self.notify, self.patience()).await;
            }
        }
    }

    /// Passes on what has happened to the jobs that the worker holds.
    async fn review(&mut self) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = self.held.keys().copied().collect();
        let controls = self.context.stores.jobs.job_controls(&ids).await?;
        let controls: HashMap<_, _> = controls.into_iter().map(|control| (control.job_id, control)).collect();
        for id in ids {
            self.review_one(id, controls.get(&id)).await?;
        }
        Ok(())
    }

    async fn review_one(&mut self, job_id: JobId, control: Option<&JobControl>) -> Result<()> {
        let Some(held) = self.held.get_mut(&job_id) else { return Ok(()) };
        let attempt = held.attempt;
        let own = self.caller.principal_id();
        let held_still = control.filter(|control| {
            control.state == JobState::Running
                && control.attempt == attempt
                && control.lease.as_ref().is_some_and(|lease| lease.holder == *own)
        });
        let Some(control) = held_still else {
            self.held.remove(&job_id);
            self.is_expectant = true;
            self.outbox.push_back(LineMessage::LeaseLost { job_id, attempt });
            return Ok(());
        };
        if let Some(cancellation) = &control.cancellation
            && held.cancelled != Some(cancellation.at)
        {
            held.cancelled = Some(cancellation.at);
            let cancellation = cancellation.clone();
            self.outbox.push_back(LineMessage::Cancel { job_id, attempt, cancellation });
        }
        if let Some(after) = held.input {
            for input in self.context.stores.jobs.inputs_after(&job_id, after, INPUTS).await? {
                held.input = Some(input.n);
                let JobInput { bytes, end, size, .. } = input;
                self.outbox.push_back(LineMessage::Input { job_id, attempt, bytes, end, size });
            }
        }
        Ok(())
    }

    /// Sends again what this worker process was sent on another line and does not know of. Not once alone: a line that
    /// is dead may still take jobs, on another server too, or have asked the store for one.
    ///
    /// It is the same lease, extended where it is still in force. That it is not taken up twice rests on the worker: what
    /// it had when it opened this line it has named, and a line that it has left it never reads again.
    async fn repeat_lost(&mut self) -> Result<()> {
        let now = self.context.clock.monotonic();
        let Some(worker) = self.worker.filter(|_| self.is_look_due(now)) else { return Ok(()) };
        self.looked_at = Some(now);
        let jobs = &self.context.stores.jobs;
        let own = self.caller.principal_id();
        let filter = JobFilter { holder: Some(own.clone()), ..JobFilter::default() };
        // One page: a principal that holds more runs more than fifteen full worker processes.
        let page = PageRequest::first(PageRequest::MAX_SIZE);
        let mut lost = jobs.list_jobs(&filter, &page).await?.items;
        lost.retain(|job| self.is_lost(job, worker));
        lost.truncate(MAX_HELD.saturating_sub(self.held.len()));
        if lost.is_empty() {
            return Ok(());
        }
        let lease = |job: &Job| LeaseExtension { job_id: job.id, attempt: job.attempt };
        let leases: Vec<_> = lost.iter().map(lease).collect();
        let now = self.context.now();
        let deadline = now.plus(self.visibility);
        let extended = jobs.extend_leases(own, &leases, now, deadline).await?;
        for (job, extended) in lost.into_iter().zip(extended) {
            if extended.is_ok() {
                tracing::info!(job = %job.id, attempt = job.attempt, "a claim that was lost is sent again");
                self.claim(job, deadline).await?;
            }
        }
        Ok(())
    }

    fn is_look_due(&self, now: Monotonic) -> bool {
        self.looked_at.is_none_or(|at| self.is_young(now) && now.since(at) >= LOOK)
    }

    fn is_young(&self, now: Monotonic) -> bool {
        now.since(self.opened_at) < UNNOTICED
    }

    /// Whether the job was sent to this worker process on another line, and neither named nor started since.
    fn is_lost(&self, job: &Job, worker: WorkerId) -> bool {
        job.process_id.is_none()
            && job.lease.as_ref().is_some_and(|lease| lease.worker == Some(worker))
            && self.held.get(&job.id).is_none_or(|held| held.attempt != job.attempt)
    }

    /// How long to wait when there is nothing to say.
    fn patience(&self) -> Duration {
        if !self.held.is_empty() {
            POLL
        } else if self.worker.is_some() && self.is_young(self.context.clock.monotonic()) {
            LOOK
        } else {
            KEEP_ALIVE
        }
    }

    /// Leases as many jobs as the worker has room for. The store is not asked by every line again and again: what fills a
    /// queue wakes its lines, and where that is missed, whoever looks at all queues for all of them does
    /// ([`Jobs::watch_queues`](super::Jobs::watch_queues)).
    async fn take(&mut self) -> Result<()> {
        let room = self.max_jobs.saturating_sub(self.held.len());
        if room == 0 || !std::mem::take(&mut self.is_expectant) {
            return Ok(());
        }
        let now = self.context.now();
        let request = LeaseRequest {
            queues: self.queues.clone(),
            order: self.order,
            turn: self.turn,
            labels: Labels::clone(&self.labels),
            holder: self.caller.principal_id().clone(),
            worker: self.worker,
            max: u32::try_from(room).unwrap_or(u32::MAX),
            now,
            deadline: now.plus(self.visibility),
        };
        let leased = self.context.stores.jobs.lease_jobs(&request).await?;
        if !leased.is_empty() {
            self.turn = self.turn.wrapping_add(1);
        }
        for job in leased {
            self.context.counters.queue_wait.record(now.since(job.visible_at));
            self.context.jobs.job_changed(&job);
            self.claim(job, request.deadline).await?;
        }
        Ok(())
    }

    async fn claim(&mut self, job: Job, deadline: Timestamp) -> Result<()> {
        let opened = SecretEnvironment::open(&self.context.sealer, &job.id, job.spec.secrets.as_ref());
        let secrets = match opened {
            Ok(secrets) => secrets,
            Err(error) => return self.fail(&job, &error).await,
        };
        self.hold(job.id, job.attempt, job.spec.takes_input());
        let task_token = self.context.task_tokens.make(job.id, job.attempt);
        self.outbox.push_back(LineMessage::Claim { job: Box::new(job), secrets, task_token, deadline });
        Ok(())
    }

    /// Ends a lease that nobody can do anything with.
    async fn fail(&self, job: &Job, why: &Error) -> Result<()> {
        tracing::error!(error = ?why, job = %job.id, "the secret variables of a job can't be opened");
        let outcome =
            AttemptOutcome::Failed(format!("its secret variables can't be opened: {}", why.message()));
        let completion = Completion { job_id: job.id, attempt: job.attempt, outcome, usage: None };
        let (holder, now) = (self.caller.principal_id(), self.context.now());
        for done in self.context.stores.jobs.complete_jobs(holder, &[completion], now).await? {
            self.context.jobs.job_changed(&done?);
        }
        Ok(())
    }

    fn hold(&mut self, job: JobId, attempt: u32, takes_input: bool) {
        let subscription = Subscription::to_job(&self.context, job, Interest::Moves, &self.notify);
        let input = takes_input.then_some(0);
        self.held.insert(job, Held { attempt, cancelled: None, input, _subscription: subscription });
    }

    /// Says that the line is in force, once at its start and whenever it has been silent for long.
    fn keep_alive(&mut self) -> bool {
        let now = self.context.clock.monotonic();
        let due = self.said_at.is_none_or(|at| now.since(at) >= KEEP_ALIVE);
        if due {
            self.outbox.push_back(LineMessage::Waiting);
        }
        due
    }
}

/// Checks how long a lease may last.
pub(crate) fn check_visibility(visibility: Duration) -> Result<()> {
    if (Duration::from_secs(10)..=Duration::from_hours(1)).contains(&visibility) {
        return Ok(());
    }
    Err(Error::invalid("visibility_timeout", "a lease lasts between 10 seconds and 1 hour"))
}
