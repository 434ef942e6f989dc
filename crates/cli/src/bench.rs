//! The load tool: drives a server with a number of callers for a time, and tells how many calls it did and how long
//! they took. What is compared with what is `bench/run`'s business.

mod echo;
mod floor;
mod load;
mod process;
mod scenario;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use airunner_client::{Client, ClientOptions};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::sync::Notify;

pub use load::Measured;

/// What the callers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// An admin has certificates issued for CSRs; durable when answered.
    Issue,
    /// Each caller renews its certificate, over a new connection with the one before.
    Renew,
    /// An admin revokes certificates by their serial numbers.
    Revoke,
    /// Full TLS handshakes with a client certificate, a new connection each.
    Handshake,
    /// A bare handler with messages of the size of issuance, behind our own listener, in this process.
    Echo,
    /// Jobs from enqueue to done: callers enqueue, a worker takes and completes them without running anything.
    Jobs,
    /// Jobs one after another, each until its process runs, on a worker that runs nothing else.
    Start,
    /// Callers watch a job that prints 50 KB a second; how long after it was printed each piece is there.
    Watch,
    /// CPU time of one CSR check, one signature and one echo: what issuance can't be cheaper than.
    Floor,
}

/// How hard, and for how long.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What the callers do
    #[arg(value_enum)]
    pub scenario: Scenario,
    /// Callers at a time
    #[arg(long, default_value = "64")]
    pub callers: NonZeroUsize,
    /// Connections that they share
    #[arg(long, default_value = "8")]
    pub connections: NonZeroUsize,
    /// Seconds to measure
    #[arg(long, default_value = "5")]
    pub seconds: NonZeroUsize,
    /// Jobs in one call, for `jobs`
    #[arg(long, default_value = "64")]
    pub batch: NonZeroUsize,
    /// In a sandbox, for `start`
    #[arg(long)]
    pub sandbox: bool,
    /// Told when the scene is set and the callers begin.
    #[arg(skip)]
    pub began: Arc<Notify>,
}

impl BenchArgs {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.get() as u64)
    }
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// What the callers did.
    pub scenario: Scenario,
    /// How many there were.
    pub callers: usize,
    /// On how many connections.
    pub connections: usize,
    /// What was measured.
    #[serde(flatten)]
    pub measured: Measured,
    /// For `floor`: issuances a second that the machine's CPUs allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_per_second: Option<f64>,
    /// For `watch`: seconds from the job's first output to its last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_seconds: Option<f64>,
}

/// Runs a scenario. `connect` says how the server is reached; `echo` and `floor` need none.
///
/// # Errors
/// What setting the scene says. A call that fails is counted.
pub async fn run(
    args: &BenchArgs,
    connect: impl FnOnce() -> airunner_client::Result<ClientOptions>,
) -> airunner_client::Result<BenchReport> {
    let report = |measured| BenchReport {
        scenario: args.scenario,
        callers: args.callers.get(),
        connections: args.connections.get(),
        measured,
        floor_per_second: None,
        job_seconds: None,
    };
    match args.scenario {
        Scenario::Echo => echo::run(args).await.map(report),
        Scenario::Floor => {
            let floor = floor::run(args).await?;
            Ok(BenchReport { floor_per_second: Some(floor.per_second), ..report(floor.echo) })
        }
        scenario => {
            let options = ClientOptions { connections: args.connections.get(), ..connect()? };
            let stage = scenario::Stage {
                client: Client::connect(options.clone()).await?,
                options,
                args: args.clone(),
            };
            let measured = match scenario {
                Scenario::Issue => stage.issue().await,
                Scenario::Renew => stage.renew().await,
                Scenario::Revoke => stage.revoke().await,
                Scenario::Handshake => stage.handshake().await,
                Scenario::Jobs => stage.jobs().await,
                Scenario::Start => Ok(stage.start().await),
                Scenario::Watch => {
                    let watched = stage.watch().await?;
                    return Ok(BenchReport { job_seconds: Some(watched.job_seconds), ..report(watched.lag) });
                }
                Scenario::Echo | Scenario::Floor => unreachable!("they need no server"),
            };
            measured.map(report)
        }
    }
}
