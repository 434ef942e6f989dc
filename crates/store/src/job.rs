//! The intents on jobs. How a job moves from state to state is in `transition.rs`.

use std::collections::{BTreeMap, HashSet, VecDeque};

use airunner_core::{
    AttemptOutcome, AuditEntry, Cancellation, Completion, Enqueued, Error, Fencing, InputWrite, Intent, Job,
    JobControl, JobFilter, JobId, JobInput, JobState, JobStore, Label, LeaseExtension, LeaseRequest, NextJob,
    Page, PageRequest, PrincipalId, PrincipalStatus, QueueName, RequestKey, Result, Revocation,
    RevocationReason, Timestamp, Usage, holds_all,
};
use async_trait::async_trait;

use crate::{
    engine::{Engine, Ports},
    input,
    issuance::active,
    line::{self, Lane, Ranks},
    paging::Tokens,
    principal::not_active,
    request,
    rows::{Place, Rows},
    server::{GRACE, check_fencing},
    transition::{begin_attempt, cancel_waiting, end_attempt, end_event},
};

/// Jobs that one call writes or asks for, at most.
const MAX_BATCH: usize = 1_000;

const TOKENS: Tokens = Tokens('j');

#[async_trait]
impl<E: Engine> JobStore for Ports<E> {
    async fn enqueue_jobs(
        &self,
        jobs: Vec<Job>,
        request: Option<RequestKey>,
        audit: AuditEntry,
    ) -> Result<Enqueued> {
        self.write(Intent::EnqueueJobs, move |rows| enqueue(rows, &jobs, request.as_ref(), &audit)).await
    }

    async fn lease_jobs(&self, request: &LeaseRequest) -> Result<Vec<Job>> {
        let request = request.clone();
        let max = request.max.min(PageRequest::MAX_SIZE);
        self.in_parts(Intent::LeaseJobs, max, move |rows, max| {
            lease(rows, &LeaseRequest { max, ..request.clone() })
        })
        .await
    }

    async fn extend_leases(
        &self,
        holder: &PrincipalId,
        leases: &[LeaseExtension],
        now: Timestamp,
        deadline: Timestamp,
    ) -> Result<Vec<Result<JobControl>>> {
        check_batch(leases.len())?;
        let holder = holder.clone();
        self.each(Intent::ExtendLeases, leases, move |rows, lease| {
            extend(rows, &holder, *lease, now, deadline)
        })
        .await
    }

    async fn complete_jobs(
        &self,
        holder: &PrincipalId,
        completions: &[Completion],
        now: Timestamp,
    ) -> Result<Vec<Result<Job>>> {
        check_batch(completions.len())?;
        let holder = holder.clone();
        self.each(Intent::CompleteJobs, completions, move |rows, one| {
            complete(rows, &holder, one.clone(), now)
        })
        .await
    }

    async fn cancel_job(&self, id: &JobId, cancellation: Cancellation, audit: AuditEntry) -> Result<Job> {
        let id = *id;
        self.write(Intent::CancelJob, move |rows| cancel(rows, &id, cancellation.clone(), &audit)).await
    }

    async fn write_input(&self, write: InputWrite, audit: AuditEntry) -> Result<()> {
        self.write(Intent::WriteInput, move |rows| input::write(rows, &write, &audit)).await
    }

    async fn inputs_after(&self, id: &JobId, after: u64, limit: u32) -> Result<Vec<JobInput>> {
        let id = *id;
        self.read(Intent::InputsAfter, move |rows| {
            rows.inputs_after(&id, after, limit.min(PageRequest::MAX_SIZE))
        })
        .await
    }

    async fn end_leases_of(&self, holder: &PrincipalId, now: Timestamp, limit: u32) -> Result<Vec<Job>> {
        let holder = holder.clone();
        self.in_parts(Intent::EndLeasesOf, limit, move |rows, limit| {
            let jobs = rows.held_jobs(&holder, limit)?;
            take_back(rows, jobs, &AttemptOutcome::HolderDenied, now)
        })
        .await
    }

    async fn expire_leases(&self, now: Timestamp, limit: u32, fencing: Fencing) -> Result<Vec<Job>> {
        self.in_parts(Intent::ExpireLeases, limit, move |rows, limit| {
            check_fencing(rows, fencing)?;
            let jobs = rows.lapsed_jobs(now.minus(GRACE), limit)?;
            take_back(rows, jobs, &AttemptOutcome::LeaseExpired, now)
        })
        .await
    }

    async fn get_job(&self, id: &JobId) -> Result<Option<Job>> {
        let id = *id;
        self.read(Intent::GetJob, move |rows| rows.job(&id)).await
    }

    async fn list_jobs(&self, filter: &JobFilter, page: &PageRequest) -> Result<Page<Job>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read(Intent::ListJobs, move |rows| list(rows, &filter, &page)).await
    }

    async fn job_controls(&self, ids: &[JobId]) -> Result<Vec<JobControl>> {
        check_batch(ids.len())?;
        let ids = ids.to_vec();
        self.read(Intent::JobControls, move |rows| {
            ids.iter().filter_map(|id| rows.job_control(id).transpose()).collect()
        })
        .await
    }

    async fn next_visible(&self, queues: &[QueueName]) -> Result<Vec<NextJob>> {
        let queues = queues.to_vec();
        self.read(Intent::NextVisible, move |rows| next_visible(rows, &queues)).await
    }

    async fn count_jobs(&self) -> Result<BTreeMap<JobState, u64>> {
        let counts = self.read(Intent::CountJobs, |rows| rows.count_jobs()).await?;
        let mut all: BTreeMap<_, _> = JobState::ALL.iter().map(|state| (*state, 0)).collect();
        all.extend(counts);
        Ok(all)
    }
}

impl<E: Engine> Ports<E> {
    /// Runs an intent on up to `limit` jobs in as many transactions as the engine needs. What one of them did stands,
    /// whatever becomes of the next.
    async fn in_parts(
        &self,
        intent: Intent,
        limit: u32,
        act: impl Fn(&mut dyn Rows, u32) -> Result<Vec<Job>> + Clone + Send + 'static,
    ) -> Result<Vec<Job>> {
        let mut jobs = Vec::new();
        let mut batch = E::BATCH;
        loop {
            let left = limit as usize - jobs.len();
            let most = left.min(batch);
            let (act, part) = (act.clone(), u32::try_from(most).unwrap_or(u32::MAX));
            match self.write(intent, move |rows| act(rows, part)).await {
                Ok(some) => {
                    let is_last = some.len() < most || most == left;
                    jobs.extend(some);
                    if is_last {
                        return Ok(jobs);
                    }
                }
                // Jobs that have certificates are more to write.
                Err(error) if error.label() == Label::TooLarge && most > 1 => batch = most / 2,
                Err(error) if jobs.is_empty() => return Err(error),
                Err(_) => return Ok(jobs),
            }
        }
    }

    /// Runs an intent on each of `all` in as many transactions as the engine needs. A refusal stands for its one alone,
    /// our own failure for all of its transaction; those before keep what they came to.
    async fn each<I, T>(
        &self,
        intent: Intent,
        all: &[I],
        act: impl Fn(&mut dyn Rows, &I) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Vec<Result<T>>>
    where
        I: Clone + Send + Sync + 'static,
        T: Send + 'static,
    {
        let mut results = Vec::with_capacity(all.len());
        let mut parts: VecDeque<&[I]> = all.chunks(E::BATCH).collect();
        while let Some(part) = parts.pop_front() {
            let (items, act) = (part.to_vec(), act.clone());
            match self.write(intent, move |rows| apart(items.iter().map(|item| act(rows, item)))).await {
                Ok(some) => results.extend(some),
                Err(error) if error.label() == Label::TooLarge && part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.push_front(second);
                    parts.push_front(first);
                }
                Err(error) if results.is_empty() => return Err(error),
                Err(error) => {
                    results.extend(part.iter().map(|_| Err(Error::new(error.label(), error.to_string()))));
                }
            }
        }
        Ok(results)
    }
}

fn check_batch(len: usize) -> Result<()> {
    if len <= MAX_BATCH {
        return Ok(());
    }
    Err(Error::new(Label::TooLarge, format!("name at most {MAX_BATCH} jobs in one call")))
}

/// The results of the parts of a batch: a refusal stands for its part alone, our own failure for all.
fn apart<T>(parts: impl Iterator<Item = Result<T>>) -> Result<Vec<Result<T>>> {
    parts
        .map(|part| match part {
            Err(error) if !matches!(error.label(), Label::LeaseLost | Label::InvalidArgument) => Err(error),
            part => Ok(part),
        })
        .collect()
}

fn enqueue(
    rows: &mut dyn Rows,
    jobs: &[Job],
    request: Option<&RequestKey>,
    audit: &AuditEntry,
) -> Result<Enqueued> {
    check_batch(jobs.len())?;
    if let Some(earlier) = request::earlier(rows, request, audit.at)? {
        let ids = earlier.split(' ').filter(|id| !id.is_empty()).map(str::parse).collect::<Result<_>>()?;
        return Ok(Enqueued { ids, replayed: true });
    }
    check_new(rows, jobs)?;
    line::open_lanes(rows, jobs, audit.at)?;
    let mut ranks = Ranks::default();
    for job in jobs {
        let mut job = job.clone();
        ranks.join(rows, &mut job, audit.at)?;
        rows.insert_job(&job)?;
    }
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    request::keep(
        rows,
        request,
        || ids.iter().map(JobId::to_string).collect::<Vec<_>>().join(" "),
        audit.at,
    )?;
    rows.insert_audit(audit)?;
    Ok(Enqueued { ids, replayed: false })
}

fn check_new(rows: &dyn Rows, jobs: &[Job]) -> Result<()> {
    let mut owners = HashSet::new();
    let mut ids = HashSet::new();
    let mut alike: BTreeMap<_, bool> = BTreeMap::new();
    for job in jobs {
        if owners.insert(job.owner.folded()) {
            active(rows, &job.owner)?;
        }
        if !ids.insert(job.id) || rows.job_control(&job.id)?.is_some() {
            return Err(Error::new(
                Label::AlreadyExists,
                format!("there is a job {}: draw another id", job.id),
            ));
        }
        let known = rows.jobs_alike(job)?;
        let before = alike.insert((job.owner.folded(), &job.spec.command, &job.spec.args), job.spec.unique);
        let any = known.any || before.is_some();
        let unique = known.unique || before == Some(true);
        if unique || (job.spec.unique && any) {
            return Err(Error::new(
                Label::JobNotUnique,
                format!("a job of {} with this command and these arguments waits or runs", job.owner),
            ));
        }
    }
    Ok(())
}

fn lease(rows: &mut dyn Rows, request: &LeaseRequest) -> Result<Vec<Job>> {
    match rows.standing(&request.holder)?.map(|standing| standing.status) {
        Some(PrincipalStatus::Active) => {}
        status => return Err(not_active(&request.holder, status.unwrap_or(PrincipalStatus::Deleted))),
    }
    let jobs = line::next_jobs(rows, request)?;
    line::advance_clocks(rows, &jobs, request.now)?;
    jobs.iter()
        .map(|job| {
            let job = begin_attempt(job, request);
            rows.update_job(&job)?;
            Ok(job)
        })
        .collect()
}

fn next_visible(rows: &dyn Rows, queues: &[QueueName]) -> Result<Vec<NextJob>> {
    let mut next = Vec::new();
    for queue in queues {
        for requires in rows.lanes(queue)? {
            let lane = Lane { queue: queue.clone(), requires };
            if let Some(place) = rows.first_place(&lane, 0)? {
                let Lane { queue, requires } = lane;
                next.push(NextJob { queue, requires, visible_at: line::due_at(place) });
            }
        }
    }
    Ok(next)
}

fn extend(
    rows: &mut dyn Rows,
    holder: &PrincipalId,
    lease: LeaseExtension,
    now: Timestamp,
    deadline: Timestamp,
) -> Result<JobControl> {
    let mut job = held(rows, holder, lease.job_id, lease.attempt, now)?;
    if let Some(lease) = &mut job.lease {
        lease.deadline = lease.deadline.max(deadline);
    }
    rows.update_job(&job)?;
    Ok(control(&job))
}

fn complete(
    rows: &mut dyn Rows,
    holder: &PrincipalId,
    completion: Completion,
    now: Timestamp,
) -> Result<Job> {
    if matches!(completion.outcome, AttemptOutcome::LeaseExpired | AttemptOutcome::HolderDenied) {
        return Err(Error::invalid("outcome", "a worker can't say this of a lease that it holds"));
    }
    let job = held(rows, holder, completion.job_id, completion.attempt, now)?;
    end(rows, &job, completion.outcome, completion.usage, now)
}

fn take_back(
    rows: &mut dyn Rows,
    jobs: Vec<Job>,
    outcome: &AttemptOutcome,
    now: Timestamp,
) -> Result<Vec<Job>> {
    jobs.into_iter().map(|job| end(rows, &job, outcome.clone(), None, now)).collect()
}

fn end(
    rows: &mut dyn Rows,
    job: &Job,
    outcome: AttemptOutcome,
    usage: Option<Usage>,
    now: Timestamp,
) -> Result<Job> {
    let mut after = end_attempt(job, &outcome, usage, now);
    if after.state == JobState::Scheduled {
        line::come_back(rows, &mut after, now)?;
    }
    rows.update_job(&after)?;
    input::forget(rows, &after)?;
    rows.insert_event(&job.id, &end_event(&after, outcome, now))?;
    revoke_certificates(rows, job, now)?;
    Ok(after)
}

/// What the attempt was given to show who it is ends with it.
fn revoke_certificates(rows: &mut dyn Rows, job: &Job, now: Timestamp) -> Result<()> {
    for given in job.certificates.iter().filter(|given| given.expires_at > now) {
        let certificate = rows.certificate(&given.reference)?;
        if certificate.is_some_and(|certificate| certificate.revocation.is_none()) {
            let revocation = Revocation { at: now, reason: RevocationReason::CessationOfOperation };
            rows.revoke_certificate(&given.reference, revocation)?;
        }
    }
    Ok(())
}

fn cancel(rows: &mut dyn Rows, id: &JobId, cancellation: Cancellation, audit: &AuditEntry) -> Result<Job> {
    let job = rows.job(id)?.ok_or_else(|| Error::not_found("job", id))?;
    let now = cancellation.at;
    let after = match job.state {
        JobState::Scheduled => cancel_waiting(&job, cancellation),
        JobState::Running => Job { cancellation: Some(cancellation), ..job },
        state => return Err(Error::new(Label::JobEnded, format!("the job has ended: it is {state}"))),
    };
    rows.update_job(&after)?;
    if after.state.has_ended() {
        input::forget(rows, &after)?;
        // A job that waits for another attempt has the event of its last one at this place; that one stays.
        rows.insert_event(id, &end_event(&after, AttemptOutcome::Cancelled(None), now))?;
    }
    rows.insert_audit(audit)?;
    Ok(after)
}

fn list(rows: &dyn Rows, filter: &JobFilter, page: &PageRequest) -> Result<Page<Job>> {
    let after = TOKENS.read(page, Place::read)?;
    let wanted = |job: &Job| is_wanted(filter, job);
    TOKENS.collect(page, wanted, Place::write, |visit| rows.scan_jobs(filter, after, visit))
}

fn is_wanted(filter: &JobFilter, job: &Job) -> bool {
    let holder = job.lease.as_ref().map(|lease| lease.holder.folded());
    filter.owner.as_ref().is_none_or(|owner| owner.folded() == job.owner.folded())
        && filter.holder.as_ref().is_none_or(|wanted| holder == Some(wanted.folded()))
        && filter.state.is_none_or(|state| state == job.state)
        && filter.queue.as_ref().is_none_or(|queue| *queue == job.queue)
        && holds_all(&job.spec.labels, &filter.labels)
}

/// The job, if `holder` holds this lease of it at `now`.
pub(crate) fn held(
    rows: &dyn Rows,
    holder: &PrincipalId,
    id: JobId,
    attempt: u32,
    now: Timestamp,
) -> Result<Job> {
    rows.job(&id)?.filter(|job| job.is_held(holder, attempt, now)).ok_or_else(|| {
        Error::new(
            Label::LeaseLost,
            format!("lease {attempt} of job {id} is not yours, or no longer: stop it"),
        )
    })
}

/// What a worker or a watcher must know of a job.
pub fn control(job: &Job) -> JobControl {
    JobControl {
        job_id: job.id,
        state: job.state,
        attempt: job.attempt,
        lease: job.lease.clone(),
        cancellation: job.cancellation.clone(),
    }
}
