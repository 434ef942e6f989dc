//! Background work of an environment: one list, run by whichever server holds the lease. Every task is idempotent,
//! resumable and bounded per step.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use airunner_core::{Fencing, Result};

use crate::{context::Context, fleet::Fleet, retention::Retention};

/// How often the list is run.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the lease lasts without being extended.
const LEASE: Duration = Duration::from_secs(10);
/// Rows a task touches in a step at most.
const STEP: u32 = 500;
/// How long changes are kept.
const KEEP_CHANGES: Duration = Duration::from_hours(7 * 24);
/// How long a silent server's row is kept.
const KEEP_SERVERS: Duration = Duration::from_hours(1);

/// The shortest pause between two parts of what is let go, while that lags.
const PAUSE: Duration = Duration::from_millis(10);
/// How many times as long as a part takes the pause after it is: nine tenths of the time are others'. Where they keep the
/// store busy a part takes longer, and so does the pause.
const OTHERS: u32 = 9;

/// The background work.
pub struct Housekeeping {
    context: Arc<Context>,
    fleet: Arc<Fleet>,
    retention: Retention,
}

impl Housekeeping {
    pub(crate) fn new(context: Arc<Context>, fleet: Arc<Fleet>) -> Self {
        let retention = Retention::new(context.clone());
        Self { context, fleet, retention }
    }

    /// Does the work whenever this server holds the lease, until it is dropped.
    pub async fn run(&self) {
        loop {
            let done = self.turn().await.unwrap_or_else(|error| {
                tracing::warn!(?error, "housekeeping is put off");
                None
            });
            let (mut rest, mut pause) = (INTERVAL, PAUSE);
            while let Some(fencing) = done.filter(|_| self.retention.is_behind() && rest > pause) {
                self.context.clock.sleep(pause).await;
                let began = self.context.clock.monotonic();
                if let Err(error) = self.retention.step(fencing).await {
                    tracing::warn!(?error, "what was kept for long enough is let go later");
                }
                let took = self.context.clock.monotonic().since(began);
                rest = rest.saturating_sub(pause + took);
                pause = (took * OTHERS).max(PAUSE);
            }
            self.context.clock.sleep(rest).await;
        }
    }

    /// Runs the list once, if this server holds the lease and its clock can be trusted: much of the list ends what
    /// has had its time. Returns whether it did.
    ///
    /// # Errors
    /// `store-unavailable` and the like; `version-conflict` when another took the lease meanwhile.
    pub async fn step(&self) -> Result<bool> {
        Ok(self.turn().await?.is_some())
    }

    async fn turn(&self) -> Result<Option<Fencing>> {
        if !self.fleet.is_clock_good() {
            return Ok(None);
        }
        let now = self.context.now();
        let lease = self.context.stores.servers.hold_housekeeping(&self.fleet.id(), now, LEASE).await?;
        let Some(fencing) = lease else { return Ok(None) };
        self.expire_leases(fencing).await?;
        self.context.stores.changes.prune_changes(now.minus(KEEP_CHANGES), STEP).await?;
        self.context.stores.servers.prune_servers(now.minus(KEEP_SERVERS)).await?;
        self.retention.step(fencing).await?;
        Ok(Some(fencing))
    }

    async fn expire_leases(&self, fencing: Fencing) -> Result<()> {
        let jobs = self.context.stores.jobs.expire_leases(self.context.now(), STEP, fencing).await?;
        self.context.counters.leases_expired.fetch_add(jobs.len() as u64, Relaxed);
        for job in jobs {
            tracing::warn!(job = %job.id, attempt = job.attempt, state = %job.state, "a lease ran out");
            self.context.jobs.job_changed(&job);
        }
        Ok(())
    }
}
