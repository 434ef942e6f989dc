//! What the parts of a worker share: the jobs that it holds, how many more it takes, and how it ends.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use airunner_client::{Client, Error, Result};
use airunner_core::{Clock, SecureRandom, WorkerId};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{
    held::Held,
    options::{Run, Site, WorkerOptions},
    spool::Spool,
};

/// Bytes of unacknowledged output of all jobs together that are kept in memory.
const OUTPUT_IN_MEMORY: usize = 32 * 1024 * 1024;
/// Bytes of each job at least.
const LEAST_OUTPUT: usize = 512 * 1024;
/// How long the end of a job waits for the line to be made narrower.
const NARROWING: Duration = Duration::from_secs(5);

/// Leases that are remembered after they were let go of; with more than that the oldest have long run out.
const LET_GO: usize = 1_024;

/// What the parts share.
pub(super) struct Shared {
    /// Which run of a worker this is.
    pub(super) id: WorkerId,
    pub(super) client: Client,
    pub(super) options: WorkerOptions,
    pub(super) site: Site,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn SecureRandom>,
    /// A place for each job that runs.
    pub(super) slots: Semaphore,
    /// Wakes the publisher.
    pub(super) wake: Arc<Notify>,
    /// Jobs that have not started are handed back.
    pub(super) draining: CancellationToken,
    /// Jobs that run are killed and handed back; the end of everything is the end of them too.
    pub(super) kill: CancellationToken,
    /// Everything ends.
    pub(super) over: CancellationToken,
    /// Jobs that the line may hold: none and it is closed.
    pub(super) capacity: watch::Sender<u32>,
    /// What the open line was opened with; none where there is no line.
    pub(super) in_force: watch::Sender<u32>,
    held: Mutex<Vec<Arc<Held>>>,
    /// Leases that ended here, and for all that is known not at the server: it may offer them again.
    let_go: Mutex<VecDeque<(String, u32)>>,
    /// Told when a job is no longer held, and when the worker is denied.
    changed: Notify,
    /// No more jobs are taken.
    closed: OnceLock<()>,
    denied: OnceLock<Error>,
}

impl Shared {
    pub(super) fn new(
        client: Client,
        options: WorkerOptions,
        site: Site,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom>,
    ) -> Self {
        let over = CancellationToken::new();
        let id = WorkerId::new(clock.now(), &*random);
        let jobs = if options.run == Run::Once { 1 } else { options.concurrency };
        Self {
            id,
            client,
            options,
            site,
            clock,
            random,
            slots: Semaphore::new(jobs as usize),
            wake: Arc::default(),
            draining: CancellationToken::new(),
            kill: over.child_token(),
            over,
            capacity: watch::Sender::new(jobs),
            in_force: watch::Sender::new(0),
            held: Mutex::default(),
            let_go: Mutex::default(),
            changed: Notify::new(),
            closed: OnceLock::new(),
            denied: OnceLock::new(),
        }
    }

    /// Where one job's unacknowledged output is kept: so many bytes of it in memory, and the rest on disk.
    pub(super) fn output_room(&self) -> (usize, Option<Spool>) {
        let jobs = self.options.concurrency.max(1);
        let memory = (OUTPUT_IN_MEMORY / jobs as usize).max(LEAST_OUTPUT);
        let disk = self.options.output_buffer / u64::from(jobs);
        (memory, (disk > 0).then(|| Spool::new(self.site.output.clone(), disk)))
    }

    /// The jobs that are held.
    pub(super) fn held(&self) -> Vec<Arc<Held>> {
        self.lock().clone()
    }

    /// The lease of this job and attempt.
    pub(super) fn find(&self, job_id: &str, attempt: u32) -> Option<Arc<Held>> {
        self.lock().iter().find(|held| held.job_id == job_id && held.attempt == attempt).cloned()
    }

    /// Enters a lease. A worker that was denied holds none.
    pub(super) fn hold(&self, held: &Arc<Held>) {
        self.lock().push(Arc::clone(held));
        if self.denied.get().is_some() {
            held.lose();
        }
        if self.options.run == Run::Once {
            self.close();
        }
    }

    /// Whether this is a lease that the worker holds, or has let go of.
    pub(super) fn knows(&self, job_id: &str, attempt: u32) -> bool {
        let let_go = self.let_go.lock().unwrap_or_else(PoisonError::into_inner);
        self.find(job_id, attempt).is_some()
            || let_go.iter().any(|(job, number)| job == job_id && *number == attempt)
    }

    /// Takes a lease out that is over and done with, and remembers it unless it is over for the server too.
    pub(super) fn release(&self, held: &Arc<Held>, is_over: bool) {
        if !is_over {
            let mut let_go = self.let_go.lock().unwrap_or_else(PoisonError::into_inner);
            let_go.push_back((held.job_id.clone(), held.attempt));
            let excess = let_go.len().saturating_sub(LET_GO);
            let_go.drain(..excess);
        }
        let mut all = self.lock();
        all.retain(|other| !Arc::ptr_eq(other, held));
        if self.closed.get().is_some() {
            // It may have been closed after this end was told, and before the answer came.
            let left = count(&all);
            self.capacity
                .send_if_modified(|capacity| std::mem::replace(capacity, left.min(*capacity)) > left);
        }
        drop(all);
        self.changed.notify_waiters();
    }

    /// Returns when no earlier attempt of this job is being ended here.
    pub(super) async fn predecessor_gone(&self, held: &Held) {
        let is_earlier = |other: &Arc<Held>| other.job_id == held.job_id && other.attempt < held.attempt;
        loop {
            let changed = self.changed.notified();
            if !self.lock().iter().any(is_earlier) {
                return;
            }
            changed.await;
        }
    }

    /// Takes no more jobs; what has not started goes back.
    pub(super) fn drain(&self) {
        tracing::info!(held = self.lock().len(), "draining");
        self.draining.cancel();
        self.close();
    }

    /// Takes no more jobs. The line stays open for those that are held, and no wider.
    fn close(&self) {
        if self.closed.set(()).is_ok() {
            // Whoever is let go of meanwhile makes it narrower after this, and not before.
            let all = self.lock();
            self.capacity.send_replace(count(&all));
        }
        self.changed.notify_waiters();
    }

    /// Before a job's end is told, once no more are to be taken: makes the line narrower, or the server would send
    /// another in its place.
    pub(super) async fn narrow(&self) {
        if self.closed.get().is_none() {
            return;
        }
        self.capacity.send_modify(|capacity| *capacity = capacity.saturating_sub(1));
        let target = *self.capacity.borrow();
        let mut in_force = self.in_force.subscribe();
        tokio::select! {
            _ = in_force.wait_for(|in_force| *in_force <= target) => {}
            () = self.clock.sleep(NARROWING) => {}
            () = self.over.cancelled() => {}
        }
    }

    /// The server refuses this worker: its leases are gone.
    pub(super) fn deny(&self, error: Error) {
        tracing::error!(?error, "the server refuses this worker: its jobs are killed");
        // The first reason counts.
        let _known = self.denied.set(error);
        self.held().iter().for_each(|held| held.lose());
        self.capacity.send_replace(0);
        self.changed.notify_waiters();
    }

    /// Whether `error` is a refusal that no retry mends, told over connections of this generation; then it is noted.
    pub(super) fn is_refusal(&self, error: &Error, generation: u64) -> bool {
        let is_present = generation == *self.client.identity_changes().borrow();
        let refused = error.is_denial() && is_present;
        if refused {
            self.deny(error.clone());
        }
        refused
    }

    /// Returns when there is nothing left to do.
    pub(super) async fn finished(&self) {
        let mut in_force = self.in_force.subscribe();
        loop {
            let changed = self.changed.notified();
            let is_closed = self.closed.get().is_some() && *in_force.borrow_and_update() == 0;
            if (self.denied.get().is_some() || is_closed) && self.lock().is_empty() {
                return;
            }
            tokio::select! {
                () = changed => {}
                _ = in_force.changed() => {}
            }
        }
    }

    /// How the worker ended.
    pub(super) fn verdict(&self) -> Result<()> {
        self.denied.get().cloned().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(held: &[Arc<Held>]) -> u32 {
    u32::try_from(held.len()).unwrap_or(u32::MAX)
}
