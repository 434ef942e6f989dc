//! The memory backend: rows in maps behind one lock, gone with the process. For tests and for trying things.

mod certificate;
mod change;
mod job;
mod principal;
mod registry;
mod server;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use airunner_core::{
    AuditRecord, Certificate, CertificateRef, Change, ChangeKind, ChangeNumber, ControlEvent, DnsName,
    EnrollmentId, EnrollmentToken, Fingerprint, InputWriter, Intent, Issuer, Job, JobId, JobInput, Keyring,
    Principal, PrincipalId, QueueName, Result, Sequence, ServerId, ServerRow, Stores, Timestamp,
};
use tokio::sync::watch;

use crate::{
    engine::{self, Engine},
    line::Lane,
    output::MemoryOutput,
    rows::{Housekeeping, KeptRequest, Rows},
};

/// The store of one process, for as long as that runs.
pub struct MemoryStore {
    stores: Stores,
}

impl MemoryStore {
    /// An empty store that keeps at most `output_limit` bytes of output a job.
    pub fn new(output_limit: u64) -> Self {
        Self {
            stores: engine::stores(
                Arc::new(MemoryEngine::default()),
                Arc::new(MemoryOutput::new(output_limit)),
                Arc::default(),
            ),
        }
    }

    /// Its ports.
    pub fn stores(&self) -> Stores {
        self.stores.clone()
    }
}

#[derive(Default)]
struct MemoryEngine {
    state: Mutex<State>,
    last_change: watch::Sender<ChangeNumber>,
}

impl MemoryEngine {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemoryEngine {
    const BATCH: usize = usize::MAX;
    // Nobody has a hand in it.
    const TELLS_OF_EDITS: bool = true;

    async fn write<T: Send + 'static>(
        &self,
        _intent: Intent,
        mut act: impl FnMut(&mut dyn Rows) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut state = self.lock();
        let result = act(&mut *state);
        let last = state.last_change;
        drop(state);
        self.last_change.send_if_modified(|known| std::mem::replace(known, last) != last);
        result
    }

    async fn read<T: Send + 'static>(
        &self,
        _intent: Intent,
        act: impl FnOnce(&dyn Rows) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        act(&*self.lock())
    }

    async fn changed(&self, known: ChangeNumber) -> Result<()> {
        let mut last = self.last_change.subscribe();
        // Neither the time-out nor a sender that went away is news.
        let _ = tokio::time::timeout(Duration::from_millis(250), last.wait_for(|last| *last > known)).await;
        Ok(())
    }
}

/// Every row there is.
#[derive(Default)]
struct State {
    /// By folded id.
    principals: BTreeMap<String, Principal>,
    dns_names: BTreeMap<DnsName, PrincipalId>,
    certificates: Certificates,
    tokens: BTreeMap<i64, EnrollmentToken>,
    token_numbers: HashMap<EnrollmentId, i64>,
    issuers: Vec<Issuer>,
    keyring: Option<Keyring>,
    jobs: BTreeMap<i64, Job>,
    job_numbers: HashMap<JobId, i64>,
    /// Jobs that have not ended.
    live_jobs: BTreeSet<i64>,
    /// Jobs that have ended, by when.
    over_jobs: BTreeSet<(Timestamp, i64)>,
    /// Waiting jobs by lane, place and number.
    waiting: BTreeMap<Lane, BTreeSet<(i64, i64)>>,
    /// Places and numbers of waiting jobs by lane and owner (folded).
    turns: BTreeMap<(Lane, String), BTreeSet<(i64, i64)>>,
    /// By queue and priority.
    clocks: HashMap<(QueueName, i32), u64>,
    inputs: BTreeMap<(JobId, u64), (JobInput, Option<InputWriter>)>,
    events: BTreeMap<(JobId, Sequence), ControlEvent>,
    audit: VecDeque<AuditRecord>,
    changes: VecDeque<Change>,
    last_change: ChangeNumber,
    servers: BTreeMap<ServerId, ServerRow>,
    highest_time: Timestamp,
    housekeeping: Option<Housekeeping>,
    /// By caller (folded), method and id.
    requests: HashMap<(String, &'static str, String), KeptRequest>,
    last_number: i64,
}

/// Certificates in the order of their recording, and ways to find them.
#[derive(Default)]
struct Certificates {
    rows: BTreeMap<i64, CertificateRow>,
    by_reference: BTreeMap<CertificateRef, i64>,
    by_fingerprint: HashMap<Fingerprint, i64>,
    /// By folded principal id.
    by_principal: HashMap<String, BTreeSet<i64>>,
}

struct CertificateRow {
    certificate: Certificate,
    successor: Option<CertificateRef>,
}

impl Rows for State {}

impl State {
    /// The place of a new row in its list.
    fn next_number(&mut self) -> i64 {
        self.last_number += 1;
        self.last_number
    }

    fn tell(&mut self, at: Timestamp, kind: ChangeKind) {
        self.last_change += 1;
        self.changes.push_back(Change { number: self.last_change, at, kind });
    }
}
