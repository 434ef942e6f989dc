//! Use cases of jobs: submit, look up, stop, extend and complete. The worker's line is `job/line.rs`.

pub mod certificate;
pub mod hub;
pub mod line;
pub(crate) mod recent;
pub mod secrets;
pub mod spec;
pub mod task_token;

use std::{collections::HashSet, sync::Arc, time::Duration};

use airunner_core::{
    AttemptOutcome, Cancellation, Completion, Error, InputWrite, Job, JobFilter, JobId, JobState, Label,
    Labels, LeaseExtension, Page, PageRequest, Permission, PrincipalId, QueueName, RequestId, RequestKey,
    Result, Timestamp, Usage,
};
use airunner_pki::sha256;
use futures_util::future::{Either, select};
use tokio::sync::Notify;

use crate::{
    authn::Caller,
    authz::{Permit, Target, may},
    context::Context,
    fleet::Fleet,
    job::{
        hub::{Interest, Subscription},
        line::{LineRequest, WorkerLine},
        spec::NewJob,
    },
    status::catch_up,
};

/// Jobs, leases or completions in one call at most.
pub const MAX_BATCH: usize = 64;
/// How long a lease lasts where nothing else is said.
pub const DEFAULT_VISIBILITY: Duration = Duration::from_mins(5);
/// The longest grace period between a signal and the kill.
const MAX_GRACE: Duration = Duration::from_hours(1);
/// How often the store is asked about jobs that other servers may move.
pub(crate) const POLL: Duration = Duration::from_millis(250);
/// Leases taken back in one step.
const STEP: u32 = 500;
/// Bytes of one piece of standard input at most.
const MAX_INPUT: usize = 64 * 1024;

/// Jobs.
pub struct Jobs {
    context: Arc<Context>,
    fleet: Arc<Fleet>,
}

/// What a worker says of a lease that it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptEnd {
    /// Names the lease.
    pub task_token: String,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// What it used, where the worker's host tells.
    pub usage: Option<Usage>,
}

/// A lease that was extended, or why it was not.
pub type ExtendResult = Result<Timestamp>;

impl Jobs {
    pub(crate) fn new(context: Arc<Context>, fleet: Arc<Fleet>) -> Self {
        Self { context, fleet }
    }

    /// Adds 1 to 64 jobs, all or none.
    ///
    /// # Errors
    /// `invalid-argument` naming the field, `job-not-unique`, `request-reused`.
    pub async fn enqueue(
        &self,
        caller: &Caller,
        jobs: Vec<NewJob>,
        request_id: Option<RequestId>,
    ) -> Result<Vec<JobId>> {
        let permit = caller.permit::<may::JobsSubmit>(Target::Any)?;
        if jobs.is_empty() || jobs.len() > MAX_BATCH {
            return Err(Error::invalid("jobs", format!("send 1 to {MAX_BATCH} jobs")));
        }
        self.submit(permit, jobs, "EnqueueJobs", request_id).await
    }

    /// Adds a job and waits until its process runs, or it ended without one.
    ///
    /// # Errors
    /// `no-worker` at once where no worker waits on the queue that has what the job requires; `job-ended` where it could not be run.
    pub async fn start(&self, caller: &Caller, job: NewJob, request_id: Option<RequestId>) -> Result<Job> {
        let permit = caller.permit::<may::JobsSubmit>(Target::Any)?;
        let queue = job.queue.clone().unwrap_or_else(QueueName::default_queue);
        if !self.fleet.has_worker(&queue, &job.spec.requires).await? {
            return Err(no_worker(&queue, &job.spec.requires));
        }
        let ids = self.submit(permit, vec![job], "StartJob", request_id).await?;
        let id = ids.first().copied().ok_or_else(|| Error::internal("a job was added without an id"))?;
        self.until_started(caller, id).await
    }

    /// Opens a worker's line.
    ///
    /// # Errors
    /// `invalid-argument` naming the field.
    pub fn dequeue(&self, caller: &Caller, request: LineRequest) -> Result<WorkerLine> {
        let permit = caller.permit::<may::JobsDequeue>(Target::Any)?;
        WorkerLine::open(self.context.clone(), self.fleet.clone(), permit, request)
    }

    /// Extends leases; a result each.
    ///
    /// # Errors
    /// `invalid-argument` for a bad batch, before any lease is touched.
    pub async fn extend(
        &self,
        caller: &Caller,
        tokens: &[String],
        by: Duration,
    ) -> Result<Vec<ExtendResult>> {
        caller.permit::<may::JobsDequeue>(Target::Any).map(drop)?;
        check_batch("task_tokens", tokens.len())?;
        line::check_visibility(by)?;
        let leases = tokens
            .iter()
            .map(|token| self.context.task_tokens.read(token))
            .map(|lease| lease.map(|(job_id, attempt)| LeaseExtension { job_id, attempt }))
            .collect::<Result<Vec<_>>>()?;
        let now = self.context.now();
        let deadline = now.plus(by);
        let extended =
            self.context.stores.jobs.extend_leases(caller.principal_id(), &leases, now, deadline).await?;
        Ok(extended.into_iter().map(|result| result.map(|_| deadline)).collect())
    }

    /// Ends leases; a result each. Exactly one completion is accepted for a lease.
    ///
    /// # Errors
    /// `invalid-argument` for a bad batch, before any lease is touched.
    pub async fn complete(
        &self,
        caller: &Caller,
        completions: Vec<AttemptEnd>,
    ) -> Result<Vec<Result<JobState>>> {
        caller.permit::<may::JobsComplete>(Target::Any).map(drop)?;
        check_batch("completions", completions.len())?;
        let completions = completions
            .into_iter()
            .map(|AttemptEnd { task_token, outcome, usage }| {
                let (job_id, attempt) = self.context.task_tokens.read(&task_token)?;
                Ok(Completion { job_id, attempt, outcome, usage })
            })
            .collect::<Result<Vec<_>>>()?;
        let now = self.context.now();
        let done = self.context.stores.jobs.complete_jobs(caller.principal_id(), &completions, now).await?;
        for job in done.iter().flatten() {
            self.context.jobs.job_changed(job);
        }
        // Their ends are the revocations of their certificates, which are in force before the answer.
        if done.iter().flatten().any(|job| job.spec.certificate.is_some()) {
            catch_up(&self.context).await?;
        }
        Ok(done.into_iter().map(|result| result.map(|job| job.state)).collect())
    }

    /// One job.
    ///
    /// # Errors
    /// `not-found`, `not-owner`.
    pub async fn get(&self, caller: &Caller, id: &JobId) -> Result<Job> {
        caller.require(Permission::JobsList)?;
        let job = self.find(id).await?;
        caller.permit::<may::JobsList>(Target::Job(&job)).map(drop)?;
        Ok(job)
    }

    /// Jobs, newest first: all for viewers and admins, else what the caller owns, or holds where it is a worker.
    ///
    /// # Errors
    /// `page-token`; `not-owner` where the filter names another's.
    pub async fn list(
        &self,
        caller: &Caller,
        mut filter: JobFilter,
        page: &PageRequest,
    ) -> Result<Page<Job>> {
        caller.permit::<may::JobsList>(Target::Any).map(drop)?;
        if !caller.sees_all_jobs(Permission::JobsList) {
            let own = caller.principal_id();
            if filter.owner.as_ref().is_some_and(|owner| owner != own) {
                return Err(Error::new(Label::NotOwner, format!("{own} sees its own jobs only")));
            }
            // A job sees what its owner does, who has submitted it.
            if caller.job().is_some() || caller.permissions().contains(Permission::JobsSubmit) {
                filter.owner = Some(own.clone());
            } else {
                filter.holder = Some(own.clone());
            }
        }
        self.context.stores.jobs.list_jobs(&filter, page).await
    }

    /// Stops a job: a waiting one at once; a running one gets the signal, the grace period, and then is killed.
    ///
    /// # Errors
    /// `not-found`, `not-owner`, `job-ended`.
    pub async fn cancel(&self, caller: &Caller, id: &JobId, signal: i32, grace: Duration) -> Result<Job> {
        caller.require(Permission::JobsCancel)?;
        if !(1..=64).contains(&signal) {
            return Err(Error::invalid("signal", "a signal is a number from 1 to 64"));
        }
        if grace > MAX_GRACE {
            return Err(Error::invalid("grace", "a grace period is at most 1 hour"));
        }
        let job = self.find(id).await?;
        let permit = caller.permit::<may::JobsCancel>(Target::Job(&job))?;
        let now = self.context.now();
        let cancellation = Cancellation { at: now, signal, grace, by: caller.principal_id().to_string() };
        let audit = permit.audit(now, "job.cancel", id);
        let job = self.context.stores.jobs.cancel_job(id, cancellation, audit).await?;
        self.context.jobs.job_changed(&job);
        Ok(job)
    }

    /// Writes to the standard input of a job that was enqueued with one, or types at its terminal.
    ///
    /// # Errors
    /// `not-found`, `not-owner`, `job-ended`; `input-taken` while someone else writes; `limit-reached` when as much was
    /// written as a job may have.
    pub async fn write_input(&self, caller: &Caller, write: InputWrite) -> Result<()> {
        caller.require(Permission::JobsAttach)?;
        if write.bytes.len() > MAX_INPUT {
            return Err(
                Error::new(Label::TooLarge, "send at most 64 KiB of input at a time").with_field("data")
            );
        }
        let job = self.find(&write.job_id).await?;
        let permit = caller.permit::<may::JobsAttach>(Target::Job(&job))?;
        if !job.spec.takes_input() {
            return Err(Error::invalid(
                "job_id",
                "this job was enqueued without a standard input (`stdin`) and without a terminal (`terminal`)",
            ));
        }
        if write.end && job.spec.terminal().is_some() {
            return Err(Error::invalid("end", "a terminal has no end: send the byte 4 (control-D) for it"));
        }
        if write.size.is_some() && job.spec.terminal().is_none() {
            return Err(Error::invalid("job_id", "this job was enqueued without a terminal (`terminal`)"));
        }
        let audit = permit.audit(self.context.now(), "job.write-input", write.job_id);
        let take = write.take || job.spec.shared_input;
        self.context.stores.jobs.write_input(InputWrite { take, ..write }, audit).await?;
        self.context.jobs.job_changed(&job);
        Ok(())
    }

    /// Wakes the workers that wait on this server for work that another server, or time, has brought. One question
    /// to the store each round for all of them, none while nobody waits. Runs until it is dropped.
    pub async fn watch_queues(&self) {
        loop {
            self.context.clock.sleep(POLL).await;
            let queues = self.context.jobs.waiting_queues();
            if queues.is_empty() {
                continue;
            }
            match self.context.stores.jobs.next_visible(&queues).await {
                Ok(next) => self.context.jobs.wake_takers(&next, self.context.now()),
                Err(error) => tracing::warn!(?error, "the queues can't be read"),
            }
        }
    }

    async fn submit(
        &self,
        permit: Permit<may::JobsSubmit>,
        jobs: Vec<NewJob>,
        method: &'static str,
        request_id: Option<RequestId>,
    ) -> Result<Vec<JobId>> {
        let now = self.context.now();
        let caller = permit.caller().clone();
        let request = request_id.map(|id| RequestKey {
            caller: caller.principal_id().clone(),
            method,
            id,
            // Of secrets the names alone: a hash would be enough to try values against.
            content: sha256(format!("{jobs:?}").as_bytes()),
        });
        let unique = self.context.settings.unique_jobs;
        for grants in jobs.iter().filter_map(|job| job.spec.certificate.as_ref()) {
            certificate::check_grants(&caller, grants)?;
        }
        let jobs = jobs
            .into_iter()
            .map(|job| {
                let id = JobId::new(now, &*self.context.random);
                job.into_job(&self.context, id, caller.principal_id(), now, unique)
            })
            .collect::<Result<Vec<_>>>()?;
        let filled: HashSet<_> =
            jobs.iter().map(|job| (job.queue.clone(), job.spec.requires.clone())).collect();
        let named = jobs.first().map(|job| job.id.to_string()).unwrap_or_default();
        let mut audit = permit.audit(now, "job.enqueue", named);
        audit.detail.insert("count".to_owned(), jobs.len().to_string());
        let enqueued = self.context.stores.jobs.enqueue_jobs(jobs, request, audit).await?;
        for (queue, requires) in &filled {
            self.context.jobs.queue_filled(queue, requires);
        }
        Ok(enqueued.ids)
    }

    async fn until_started(&self, caller: &Caller, id: JobId) -> Result<Job> {
        let notify = Arc::new(Notify::new());
        let _subscription = Subscription::to_job(&self.context, id, Interest::Events, &notify);
        loop {
            caller.check(self.context.now())?;
            let job = self.find(&id).await?;
            if job.process_id.is_some() {
                return Ok(job);
            }
            if job.state.has_ended() {
                return Err(Error::new(Label::JobEnded, format!("job {id} {}: {}", job.state, job.reason)));
            }
            wait(&self.context, &notify, POLL).await;
        }
    }

    async fn find(&self, id: &JobId) -> Result<Job> {
        self.context.stores.jobs.get_job(id).await?.ok_or_else(|| Error::not_found("job", id))
    }
}

/// Returns when `notify` is woken, or after `at_most`; whether it was woken.
pub(crate) async fn wait(context: &Context, notify: &Notify, at_most: Duration) -> bool {
    let woken = std::pin::pin!(notify.notified());
    matches!(select(woken, context.clock.sleep(at_most)).await, Either::Left(_))
}

/// Takes back every lease of a principal that may hold none.
pub(crate) async fn end_leases_of(context: &Context, holder: &PrincipalId) -> Result<()> {
    loop {
        let jobs = context.stores.jobs.end_leases_of(holder, context.now(), STEP).await?;
        for job in &jobs {
            context.jobs.job_changed(job);
        }
        if jobs.len() < STEP as usize {
            return Ok(());
        }
    }
}

fn lease_lost(id: &JobId, attempt: u32) -> Error {
    Error::new(Label::LeaseLost, format!("lease {attempt} of job {id} is not yours, or no longer: stop it"))
}

fn no_worker(queue: &QueueName, requires: &Labels) -> Error {
    let message = if requires.is_empty() {
        format!(
            "no worker waits on the queue {queue}: start one with `airunner-cli worker`, or submit instead"
        )
    } else {
        let required: Vec<_> = requires.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let required = required.join(", ");
        format!(
            "no worker that has what the job requires ({required}) waits on the queue {queue}: start one with \
             `airunner-cli worker --label`, or submit instead"
        )
    };
    Error::new(Label::NoWorker, message)
}

fn check_batch(field: &str, count: usize) -> Result<()> {
    if (1..=MAX_BATCH).contains(&count) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("send 1 to {MAX_BATCH} of them")))
}
