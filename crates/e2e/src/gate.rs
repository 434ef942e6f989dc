//! Stores whose steps a test can stop at: a closed gate holds everyone who comes to it, and says that someone has come.
//! What passes is the store's own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use airunner_core::{
    AuditEntry, Cancellation, Certificate, CertificateFilter, CertificateRef, CertificateStore, ChangeBatch,
    ChangeFeed, ChangeKind, ChangeNumber, Completion, DenialSnapshot, Enqueued, Fencing, Fingerprint,
    Identity, InputWrite, Issuance, Issued, Job, JobControl, JobFilter, JobId, JobInput, JobState, JobStore,
    LeaseExtension, LeaseRequest, NextJob, Page, PageRequest, Principal, PrincipalFilter, PrincipalId,
    PrincipalStore, PrincipalUpdate, QueueName, RequestKey, Result, RevocationReason, RevocationTarget, Role,
    Serial, StatusChange, Stores, Timestamp,
};
use async_trait::async_trait;
use tokio::sync::watch;

/// A place where a test can stop whoever comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// Before an identity is read.
    IdentityAsked,
    /// After an identity was read, before the reader has it.
    IdentityRead,
    /// Before a certificate is recorded.
    RecordAsked,
    /// Before a first use is noted.
    SeenAsked,
    /// Before certificates are revoked.
    RevokeAsked,
    /// After they were.
    Revoked,
    /// Before a principal's status or roles are set.
    StatusAsked,
    /// After they were.
    StatusSet,
    /// Before a principal is read.
    PrincipalAsked,
    /// Before the feed is read.
    ChangesAsked,
    /// After the feed was read, before the reader has it.
    ChangesRead,
    /// After jobs were leased, before the line has them.
    Leased,
    /// Before leases are extended.
    ExtendAsked,
}

#[derive(Debug)]
struct Barrier {
    waiting: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

/// Every gate of one server's stores. All are open until they are closed.
#[derive(Clone, Debug, Default)]
pub struct Gates(Arc<Mutex<HashMap<Point, Arc<Barrier>>>>);

/// A closed gate. It opens when this is dropped.
#[derive(Debug)]
pub struct Closed {
    gates: Gates,
    point: Point,
    barrier: Arc<Barrier>,
}

impl Gates {
    /// These stores, behind these gates.
    pub fn wrap(&self, stores: Stores) -> Stores {
        Stores {
            principals: Arc::new(Gated { inner: stores.principals, gates: self.clone() }),
            certificates: Arc::new(Gated { inner: stores.certificates, gates: self.clone() }),
            changes: Arc::new(Gated { inner: stores.changes, gates: self.clone() }),
            jobs: Arc::new(Gated { inner: stores.jobs, gates: self.clone() }),
            ..stores
        }
    }

    /// Closes a gate.
    #[must_use = "it opens again when this is dropped"]
    pub fn close(&self, point: Point) -> Closed {
        let barrier = Arc::new(Barrier { waiting: watch::Sender::new(0), open: watch::Sender::new(false) });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(point, barrier.clone());
        Closed { gates: self.clone(), point, barrier }
    }

    async fn pass(&self, point: Point) {
        let barrier = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&point).cloned();
        let Some(barrier) = barrier else { return };
        barrier.waiting.send_modify(|waiting| *waiting += 1);
        // The sender lives as long as this barrier does.
        let _ = barrier.open.subscribe().wait_for(|open| *open).await;
    }
}

impl Closed {
    /// Returns once someone stands at the gate.
    pub async fn reached(&self) {
        let _ = self.barrier.waiting.subscribe().wait_for(|waiting| *waiting > 0).await;
    }

    /// Lets everyone through, from now on.
    pub fn open(self) {}
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.gates.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.point);
        self.barrier.open.send_replace(true);
    }
}

struct Gated<S: ?Sized> {
    inner: Arc<S>,
    gates: Gates,
}

#[async_trait]
impl CertificateStore for Gated<dyn CertificateStore> {
    async fn record_issued(&self, issuance: Issuance) -> Result<Issued> {
        self.gates.pass(Point::RecordAsked).await;
        self.inner.record_issued(issuance).await
    }

    async fn identities(&self, references: &[CertificateRef]) -> Result<Vec<Option<Identity>>> {
        self.inner.identities(references).await
    }

    async fn identity(&self, reference: &CertificateRef) -> Result<Option<Identity>> {
        self.gates.pass(Point::IdentityAsked).await;
        let identity = self.inner.identity(reference).await;
        self.gates.pass(Point::IdentityRead).await;
        identity
    }

    async fn mark_seen(&self, reference: &CertificateRef, now: Timestamp) -> Result<bool> {
        self.gates.pass(Point::SeenAsked).await;
        self.inner.mark_seen(reference, now).await
    }

    async fn get_by_serial(&self, serial: &Serial) -> Result<Vec<Certificate>> {
        self.inner.get_by_serial(serial).await
    }

    async fn get_by_fingerprint(&self, fingerprint: &Fingerprint) -> Result<Option<Certificate>> {
        self.inner.get_by_fingerprint(fingerprint).await
    }

    async fn list_certificates(
        &self,
        filter: &CertificateFilter,
        page: &PageRequest,
    ) -> Result<Page<Certificate>> {
        self.inner.list_certificates(filter, page).await
    }

    async fn would_revoke(
        &self,
        target: &RevocationTarget,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<CertificateRef>> {
        self.inner.would_revoke(target, now, limit).await
    }

    async fn revoke(
        &self,
        target: &RevocationTarget,
        reason: RevocationReason,
        audit: AuditEntry,
    ) -> Result<Vec<CertificateRef>> {
        self.gates.pass(Point::RevokeAsked).await;
        let revoked = self.inner.revoke(target, reason, audit).await;
        self.gates.pass(Point::Revoked).await;
        revoked
    }

    async fn nearest_expiries(&self, now: Timestamp, limit: u32) -> Result<Vec<Certificate>> {
        self.inner.nearest_expiries(now, limit).await
    }
}

#[async_trait]
impl PrincipalStore for Gated<dyn PrincipalStore> {
    async fn create_principal(&self, principal: Principal, audit: AuditEntry) -> Result<Principal> {
        self.inner.create_principal(principal, audit).await
    }

    async fn get_principal(&self, id: &PrincipalId) -> Result<Option<Principal>> {
        self.gates.pass(Point::PrincipalAsked).await;
        self.inner.get_principal(id).await
    }

    async fn list_principals(&self, filter: &PrincipalFilter, page: &PageRequest) -> Result<Page<Principal>> {
        self.inner.list_principals(filter, page).await
    }

    async fn update_principal(
        &self,
        id: &PrincipalId,
        expected: u64,
        update: PrincipalUpdate,
        audit: AuditEntry,
    ) -> Result<Principal> {
        self.inner.update_principal(id, expected, update, audit).await
    }

    async fn set_roles(
        &self,
        id: &PrincipalId,
        expected: u64,
        roles: BTreeSet<Role>,
        audit: AuditEntry,
    ) -> Result<Principal> {
        self.gates.pass(Point::StatusAsked).await;
        let changed = self.inner.set_roles(id, expected, roles, audit).await;
        self.gates.pass(Point::StatusSet).await;
        changed
    }

    async fn set_status(
        &self,
        id: &PrincipalId,
        change: StatusChange,
        audit: AuditEntry,
    ) -> Result<Principal> {
        self.gates.pass(Point::StatusAsked).await;
        let changed = self.inner.set_status(id, change, audit).await;
        self.gates.pass(Point::StatusSet).await;
        changed
    }
}

#[async_trait]
impl ChangeFeed for Gated<dyn ChangeFeed> {
    async fn changes_after(&self, number: ChangeNumber, limit: u32) -> Result<ChangeBatch> {
        self.gates.pass(Point::ChangesAsked).await;
        let batch = self.inner.changes_after(number, limit).await;
        self.gates.pass(Point::ChangesRead).await;
        batch
    }

    async fn wait(&self) -> Result<()> {
        self.inner.wait().await
    }

    fn tells_of_edits(&self) -> bool {
        self.inner.tells_of_edits()
    }

    async fn append_change(&self, kind: ChangeKind, now: Timestamp) -> Result<()> {
        self.inner.append_change(kind, now).await
    }

    async fn denials(&self, now: Timestamp) -> Result<DenialSnapshot> {
        self.inner.denials(now).await
    }

    async fn prune_changes(&self, before: Timestamp, limit: u32) -> Result<u32> {
        self.inner.prune_changes(before, limit).await
    }
}

#[async_trait]
impl JobStore for Gated<dyn JobStore> {
    async fn enqueue_jobs(
        &self,
        jobs: Vec<Job>,
        request: Option<RequestKey>,
        audit: AuditEntry,
    ) -> Result<Enqueued> {
        self.inner.enqueue_jobs(jobs, request, audit).await
    }

    async fn lease_jobs(&self, request: &LeaseRequest) -> Result<Vec<Job>> {
        let leased = self.inner.lease_jobs(request).await?;
        if !leased.is_empty() {
            self.gates.pass(Point::Leased).await;
        }
        Ok(leased)
    }

    async fn extend_leases(
        &self,
        holder: &PrincipalId,
        leases: &[LeaseExtension],
        now: Timestamp,
        deadline: Timestamp,
    ) -> Result<Vec<Result<JobControl>>> {
        self.gates.pass(Point::ExtendAsked).await;
        self.inner.extend_leases(holder, leases, now, deadline).await
    }

    async fn complete_jobs(
        &self,
        holder: &PrincipalId,
        completions: &[Completion],
        now: Timestamp,
    ) -> Result<Vec<Result<Job>>> {
        self.inner.complete_jobs(holder, completions, now).await
    }

    async fn cancel_job(&self, id: &JobId, cancellation: Cancellation, audit: AuditEntry) -> Result<Job> {
        self.inner.cancel_job(id, cancellation, audit).await
    }

    async fn write_input(&self, write: InputWrite, audit: AuditEntry) -> Result<()> {
        self.inner.write_input(write, audit).await
    }

    async fn inputs_after(&self, id: &JobId, after: u64, limit: u32) -> Result<Vec<JobInput>> {
        self.inner.inputs_after(id, after, limit).await
    }

    async fn end_leases_of(&self, holder: &PrincipalId, now: Timestamp, limit: u32) -> Result<Vec<Job>> {
        self.inner.end_leases_of(holder, now, limit).await
    }

    async fn expire_leases(&self, now: Timestamp, limit: u32, fencing: Fencing) -> Result<Vec<Job>> {
        self.inner.expire_leases(now, limit, fencing).await
    }

    async fn prune_jobs(&self, before: Timestamp, limit: u32, fencing: Fencing) -> Result<Vec<JobId>> {
        self.inner.prune_jobs(before, limit, fencing).await
    }

    async fn get_job(&self, id: &JobId) -> Result<Option<Job>> {
        self.inner.get_job(id).await
    }

    async fn list_jobs(&self, filter: &JobFilter, page: &PageRequest) -> Result<Page<Job>> {
        self.inner.list_jobs(filter, page).await
    }

    async fn job_controls(&self, ids: &[JobId]) -> Result<Vec<JobControl>> {
        self.inner.job_controls(ids).await
    }

    async fn next_visible(&self, queues: &[QueueName]) -> Result<Vec<NextJob>> {
        self.inner.next_visible(queues).await
    }

    async fn count_jobs(&self) -> Result<BTreeMap<JobState, u64>> {
        self.inner.count_jobs().await
    }
}
