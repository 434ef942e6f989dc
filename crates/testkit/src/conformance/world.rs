//! What behaviours arrange with: a store, a time, and short ways to fill the store.

use std::{sync::Arc, time::Duration};

use airunner_core::{
    AttemptOutcome, Cancellation, Certificate, Change, ChangeBatch, ChangeKind, Completion, Issued, Job,
    JobFilter, JobId, JobState, Label, Labels, LeaseRequest, Page, PageRequest, Principal, PrincipalStatus,
    PrincipalType, QueueOrder, Result, SecureRandom, StatusChange, Stores, Timestamp, WorkerId,
};

use crate::{clock::FakeClock, random::SeededRandom, records};

/// A store and what a test needs beside it. Clones share the randomness.
#[derive(Clone)]
pub(super) struct World {
    pub(super) stores: Stores,
    random: Arc<SeededRandom>,
}

/// When everything happens unless a behaviour says otherwise.
pub(super) const NOW: Timestamp = FakeClock::START;

/// The worker process that leases unless a behaviour says otherwise.
pub(super) const WORKER: WorkerId = WorkerId::from_bytes([7; 16]);

/// `seconds` after [`NOW`].
pub(super) fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

/// `hours` after [`NOW`].
pub(super) fn after_hours(hours: u64) -> Timestamp {
    NOW.plus(Duration::from_hours(hours))
}

impl World {
    pub(super) fn new(stores: Stores) -> Self {
        Self { stores, random: Arc::new(SeededRandom::new(7)) }
    }

    pub(super) fn random(&self) -> &dyn SecureRandom {
        &*self.random
    }

    /// Stores an active worker.
    pub(super) async fn worker(&self, id: &str) -> Principal {
        self.create(records::principal(id)).await
    }

    /// Stores an active admin.
    pub(super) async fn admin(&self, id: &str) -> Principal {
        self.create(records::principal_of(id, PrincipalType::Admin)).await
    }

    pub(super) async fn create(&self, principal: Principal) -> Principal {
        let audit = records::audit("principal.create", principal.id.as_str(), NOW);
        self.stores.principals.create_principal(principal, audit).await.unwrap()
    }

    /// A certificate of `principal`, not yet recorded.
    pub(super) fn leaf(&self, principal: &Principal) -> Certificate {
        records::certificate(principal, NOW, self.random())
    }

    /// Records a new certificate of `principal`, which is at version 1.
    pub(super) async fn issue(&self, principal: &Principal) -> Certificate {
        self.record(self.leaf(principal)).await
    }

    /// Records `certificate` as issued by an admin.
    pub(super) async fn record(&self, certificate: Certificate) -> Certificate {
        let issued = self.stores.certificates.record_issued(records::issuance(certificate.clone())).await;
        assert_eq!(issued.unwrap(), Issued::New);
        certificate
    }

    /// Records a successor of `predecessor` with a new key.
    pub(super) async fn renew(&self, predecessor: &Certificate) -> Certificate {
        let successor = records::successor(predecessor, NOW, self.random());
        let renewal = records::renewal(successor.clone(), predecessor.reference());
        assert_eq!(self.stores.certificates.record_issued(renewal).await.unwrap(), Issued::New);
        successor
    }

    /// The certificate as the store has it.
    pub(super) async fn stored(&self, certificate: &Certificate) -> Certificate {
        let found = self.stores.certificates.get_by_fingerprint(&certificate.fingerprint).await.unwrap();
        found.expect("a certificate that was recorded")
    }

    pub(super) async fn set_status(&self, principal: &Principal, status: PrincipalStatus) -> Principal {
        let change = StatusChange { status, reason: "a test".to_owned(), revoke: None, keep_an_admin: false };
        let audit = records::audit("principal.status", principal.id.as_str(), NOW);
        self.stores.principals.set_status(&principal.id, change, audit).await.unwrap()
    }

    pub(super) async fn suspend(&self, principal: &Principal) -> Principal {
        self.set_status(principal, PrincipalStatus::Suspended).await
    }

    /// Every change there is, having checked that their numbers run from 1 without a gap.
    pub(super) async fn changes(&self) -> Vec<ChangeKind> {
        let changes = self.changes_after(0).await;
        for (place, change) in changes.iter().enumerate() {
            assert_eq!(change.number, place as u64 + 1, "change numbers have a gap");
        }
        changes.into_iter().map(|change| change.kind).collect()
    }

    pub(super) async fn changes_after(&self, number: u64) -> Vec<Change> {
        match self.stores.changes.changes_after(number, 1_000).await.unwrap() {
            ChangeBatch::Changes(changes) => changes,
            ChangeBatch::Pruned => panic!("changes after {number} have been pruned"),
        }
    }

    /// A waiting job of `alice`.
    pub(super) fn job(&self) -> Job {
        records::job("alice", NOW, self.random())
    }

    /// A job that `holder` holds until 300 s after [`NOW`].
    pub(super) async fn running(&self, holder: &str) -> Job {
        self.running_with(self.job(), holder).await
    }

    /// This job, held by `holder` until 300 s after [`NOW`].
    pub(super) async fn running_with(&self, job: Job, holder: &str) -> Job {
        self.have("alice").await;
        let id = job.id;
        let audit = records::audit("job.enqueue", "x", NOW);
        self.stores.jobs.enqueue_jobs(vec![job], None, audit).await.unwrap();
        let leased = self.lease(holder, 1).await.remove(0);
        assert_eq!(leased.id, id, "another job was waiting");
        leased
    }

    /// Leases jobs of the default queue to `holder`, who is made a worker if need be.
    pub(super) async fn lease(&self, holder: &str, max: u32) -> Vec<Job> {
        self.have(holder).await;
        self.ask(holder, max).await
    }

    /// Leases jobs of the default queue to `holder`, which must exist.
    pub(super) async fn ask(&self, holder: &str, max: u32) -> Vec<Job> {
        self.stores.jobs.lease_jobs(&lease_request(holder, max, 0)).await.unwrap()
    }

    /// Leases one job at `seconds` after [`NOW`].
    pub(super) async fn lease_at(&self, holder: &str, seconds: u64) -> Vec<Job> {
        self.stores.jobs.lease_jobs(&lease_request(holder, 1, seconds)).await.unwrap()
    }

    /// Ends the lease of `job` 10 s after [`NOW`], or right after it began where it began later.
    pub(super) async fn complete(&self, holder: &str, job: &Job, outcome: AttemptOutcome) -> Result<Job> {
        let deadline = job.lease.as_ref().map_or(after(300), |lease| lease.deadline);
        let now = deadline.minus(Duration::from_secs(290));
        let completion = Completion { job_id: job.id, attempt: job.attempt, outcome, usage: None };
        let results = self.stores.jobs.complete_jobs(&records::id(holder), &[completion], now).await?;
        results.into_iter().next().unwrap()
    }

    pub(super) async fn cancel(&self, id: &JobId, cancellation: Cancellation) -> Result<Job> {
        let audit = records::audit("job.cancel", &id.to_string(), NOW);
        self.stores.jobs.cancel_job(id, cancellation, audit).await
    }

    /// Stops every waiting job.
    pub(super) async fn drain(&self) {
        let filter = JobFilter { state: Some(JobState::Scheduled), ..JobFilter::default() };
        for job in every_page(100, |page| async {
            let page = page;
            self.stores.jobs.list_jobs(&filter, &page).await
        })
        .await
        {
            let cancellation = Cancellation { at: NOW, signal: 15, grace: Duration::ZERO, by: String::new() };
            self.cancel(&job.id, cancellation).await.unwrap();
        }
    }

    /// Makes the worker if there is none.
    async fn have(&self, id: &str) {
        if self.stores.principals.get_principal(&records::id(id)).await.unwrap().is_none() {
            self.worker(id).await;
        }
    }

    /// How many audit entries there are of `action`.
    pub(super) async fn audited(&self, action: &str) -> usize {
        let records = self.stores.audit.tail(1_000).await.unwrap();
        records.iter().filter(|record| record.entry.action == action).count()
    }
}

/// Asks for jobs of the default queue at `seconds` after [`NOW`], for 300 s.
pub(super) fn lease_request(holder: &str, max: u32, seconds: u64) -> LeaseRequest {
    LeaseRequest {
        queues: vec![records::queue("default")],
        order: QueueOrder::Strict,
        turn: 0,
        labels: Labels::new(),
        holder: records::id(holder),
        worker: Some(WORKER),
        max,
        now: after(seconds),
        deadline: after(seconds + 300),
    }
}

/// Asserts that the store refused, and why.
#[track_caller]
pub(super) fn refused<T>(result: Result<T>, label: Label) {
    match result {
        Ok(_) => panic!("should have been refused: {}", label.as_str()),
        Err(error) => assert_eq!(error.label(), label, "{error:?}"),
    }
}

/// Runs one task for each of `racers` at once and returns what came of each.
pub(super) async fn race<T, F>(racers: impl IntoIterator<Item = F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let running: Vec<_> = racers.into_iter().map(|racer| tokio::spawn(racer)).collect();
    let mut results = Vec::new();
    for task in running {
        results.push(task.await.unwrap());
    }
    results
}

/// Goes through a list page by page, of `size` rows each.
pub(super) async fn every_page<T, F>(size: u32, list: impl Fn(PageRequest) -> F) -> Vec<T>
where
    F: Future<Output = Result<Page<T>>>,
{
    let mut page = PageRequest::first(size);
    let mut rows = Vec::new();
    loop {
        let got = list(page.clone()).await.unwrap();
        assert!(got.items.len() <= size as usize, "a page is longer than asked for");
        rows.extend(got.items);
        match got.next {
            Some(token) => page = page.next(token),
            None => return rows,
        }
    }
}
