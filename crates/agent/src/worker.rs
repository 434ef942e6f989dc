//! The worker: waits for jobs, runs them, publishes what they print, and says how they ended. What a job is allowed to do
//! is decided by the server; how a process is run, by `airunner-exec`.
//!
//! Output that is not acknowledged is kept in memory, at most 32 MiB of all jobs together (and 512 KiB of each), and then,
//! if the server takes nothing, on disk ([`WorkerOptions::output_buffer`]); after that the jobs wait. It does not survive
//! the worker: a worker that dies loses its leases, and its jobs run again.

mod batch;
mod complete;
mod confinement;
mod git;
mod held;
mod identity;
mod lease;
mod line;
mod options;
mod outbox;
mod process;
mod publisher;
mod shared;
mod spool;
mod task;
mod used;
mod workspace;

use std::{sync::Arc, time::Duration};

use airunner_client::{Client, Result};
use airunner_core::{Clock, Error as CoreError, SecureRandom};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

pub use options::{GitOptions, JobUser, Run, WorkerOptions};
use shared::Shared;

/// How long it is tried to tell the server of the jobs that were killed at the end.
const FAREWELL: Duration = Duration::from_secs(10);

/// Runs jobs until `shutdown`, then lets those that run finish within the drain time, hands back the others, and kills
/// what is left. With [`Run::Once`] it ends after one job.
///
/// First it kills what a predecessor left behind that was killed itself, and hardens this process
/// ([`airunner_exec::harden_self`]).
///
/// # Errors
/// `config` for options that don't fit this machine (a level of isolation that needs cgroups which can't be had among
/// them), `file` for the state directory; the denial when the server refuses this worker: then its leases are gone, and
/// its jobs were killed. A server that can't be reached is waited for.
pub async fn run_worker(
    client: Client,
    options: WorkerOptions,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom>,
    shutdown: CancellationToken,
) -> Result<()> {
    airunner_exec::harden_self().map_err(CoreError::internal)?;
    complain_of_descriptors().await;
    let site = options.prepare().await?;
    let shared = Arc::new(Shared::new(client, options, site, clock, random));
    // However this ends, no job outlives it.
    let _kill_all = shared.over.clone().drop_guard();
    let publishing = tokio::spawn(publisher::run(Arc::clone(&shared)));
    let extending = tokio::spawn(lease::run(Arc::clone(&shared)));
    let waiting = tokio::spawn(line::run(Arc::clone(&shared)));

    tokio::select! {
        () = shutdown.cancelled() => shared.drain(),
        () = shared.finished() => {}
    }
    let drain = shared.options.drain;
    tokio::select! {
        () = shared.finished() => {}
        () = shared.clock.sleep(drain) => {
            tracing::warn!("the time to drain is over: the jobs that still run are killed and handed back");
            shared.kill.cancel();
            tokio::select! {
                () = shared.finished() => {}
                () = shared.clock.sleep(FAREWELL) => {
                    tracing::warn!("the server does not hear how the last jobs ended: their leases run out");
                }
            }
        }
    }
    shared.over.cancel();
    for part in [publishing, extending, waiting] {
        part.await.map_err(CoreError::internal)?;
    }
    shared.verdict()
}

/// What this process got from its own parent, its jobs get too.
async fn complain_of_descriptors() {
    match spawn_blocking(airunner_exec::inheritable_descriptors).await {
        Ok(Ok(descriptors)) if !descriptors.is_empty() => {
            tracing::warn!(
                ?descriptors,
                "every job inherits these descriptors: start the worker without them"
            );
        }
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "can't see which descriptors jobs inherit"),
        Err(error) => tracing::warn!(%error, "can't see which descriptors jobs inherit"),
    }
}
