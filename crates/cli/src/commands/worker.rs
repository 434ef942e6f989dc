//! `worker` and `agent`: what runs for long on a machine.

use std::{path::PathBuf, sync::Arc, time::Duration};

use airunner_agent::{JobUser, RotationOptions, Run, WorkerOptions, rotate, run_worker};
use airunner_client::{Client, IdentitySource};
use airunner_core::{Error, QueueName};
use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{context::Context, failure::Result, report::Report, values::duration};

/// Where a worker that runs as root keeps the workspaces, which other users' jobs must be able to reach.
const ROOT_STATE: &str = "/var/lib/airunner/worker";

/// Take jobs and run them, until it is told to stop.
///
/// The certificate is renewed while it runs (an identity folder, as `enroll` writes it). SIGTERM and Ctrl-C drain:
/// running jobs may finish, the others are handed back. As root, jobs run as another user; any other worker needs
/// --same-user, which lets every job read the worker's own key.
#[derive(Args, Debug)]
pub(crate) struct WorkerArgs {
    /// A queue to wait on, in order of preference; may be given several times [default: default]
    #[arg(long = "queue", value_name = "QUEUE")]
    queues: Vec<QueueName>,
    /// Jobs at a time, 1 to 64
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: u32,
    /// Take one job, finish it, and exit
    #[arg(long)]
    once: bool,
    /// Run jobs as the worker's own user: each can then read the worker's key and speak in its name
    #[arg(long, conflicts_with = "run_as")]
    same_user: bool,
    /// Run jobs as this user (name, number, user:group); needs root
    #[arg(long, value_name = "USER", default_value = "nobody")]
    run_as: String,
    /// What repositories may be fetched by, of https, ssh, git, file
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "https,ssh")]
    git_protocols: Vec<String>,
    /// How long a lease lasts, 10s to 1h; it is extended at a third
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m")]
    visibility_timeout: Duration,
    /// How long running jobs may go on once it is told to stop
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    drain: Duration,
    /// Where workspaces are kept, by this worker alone [default: beside the identity; as root /var/lib/airunner/worker]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// A line for `sh -c` after each renewal
    #[arg(long, value_name = "COMMAND")]
    after: Option<String>,
}

/// Keep an identity alive: renew it at two thirds of its life, for as long as this runs.
///
/// Whatever uses the folder sees the old pair of files or the new one, never half of each.
#[derive(Args, Debug)]
pub(crate) struct AgentArgs {
    /// A line for `sh -c` after each renewal, as in "systemctl reload nginx"
    #[arg(long, value_name = "COMMAND")]
    after: Option<String>,
}

#[derive(Serialize)]
struct StoppedView {
    stopped: bool,
}

impl WorkerArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        let connection = context.connection()?;
        let files = connection.identity_files().ok();
        let mut options = context.client_options()?;
        if let Some(files) = &files {
            options.identity = Some(IdentitySource::Folder(files.clone()));
        }
        let worker = self.options(files.as_ref().map(|files| files.folder().with_file_name("worker")));
        start_log();
        context.wait_on_all_cores(async {
            let client = Client::connect(options).await?;
            let shutdown = stop_on_signals()?;
            let (clock, random) = (Arc::clone(&context.clock), Arc::clone(&context.random));
            let work = run_worker(client.clone(), worker, clock, random, shutdown.clone());
            // An identity in files of its own is renewed by whoever keeps them.
            let Some(files) = files else { return Ok(work.await?) };
            let rotation = RotationOptions { files, after: self.after.clone() };
            let (clock, random) = (Arc::clone(&context.clock), Arc::clone(&context.random));
            let rotating = tokio::spawn(rotate(client, rotation, clock, random, shutdown));
            let ended = work.await;
            rotating.abort();
            Ok(ended?)
        })?;
        stopped()
    }

    fn options(&self, beside_identity: Option<PathBuf>) -> WorkerOptions {
        let is_root = rustix::process::geteuid().is_root();
        let default = beside_identity.filter(|_| !is_root).unwrap_or_else(|| PathBuf::from(ROOT_STATE));
        WorkerOptions {
            queues: self.queues.clone(),
            concurrency: self.concurrency,
            visibility: self.visibility_timeout,
            user: if self.same_user { JobUser::Same } else { JobUser::Named(self.run_as.clone()) },
            git_protocols: self.git_protocols.clone(),
            drain: self.drain,
            run: if self.once { Run::Once } else { Run::UntilShutdown },
            ..WorkerOptions::new(self.state_dir.clone().unwrap_or(default))
        }
    }
}

impl AgentArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        let files = context.connection()?.identity_files()?;
        let mut options = context.client_options()?;
        options.identity = Some(IdentitySource::Folder(files.clone()));
        start_log();
        context.wait_with_signals(async {
            let client = Client::new(options)?;
            let rotation = RotationOptions { files, after: self.after.clone() };
            let (clock, random) = (Arc::clone(&context.clock), Arc::clone(&context.random));
            rotate(client, rotation, clock, random, stop_on_signals()?).await;
            Ok(())
        })?;
        stopped()
    }
}

fn stopped() -> Result<Report> {
    Report::text("", &StoppedView { stopped: true })
}

/// A token that SIGTERM and Ctrl-C cancel.
fn stop_on_signals() -> Result<CancellationToken> {
    let mut interrupts = signal(SignalKind::interrupt()).map_err(Error::internal)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(Error::internal)?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
        stop.cancel();
    });
    Ok(token)
}

/// The log of what runs for long goes to stderr.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("AIRUNNER_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // Only a second log in one process could fail.
    let _ = log.try_init();
}
