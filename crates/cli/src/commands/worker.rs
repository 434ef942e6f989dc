//! `worker`: takes jobs and runs them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use airunner_agent::{GitOptions, JobUser, RotationOptions, Run, WorkerOptions, rotate, run_worker};
use airunner_client::{Client, IdentitySource};
use airunner_core::{Isolation, QueueName};
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::{
    connection::IdentityPlace,
    context::Context,
    failure::{Failure, Result},
    report::Report,
    runtime::wait_on_all_cores,
    service::{shutdown_signal, start_log},
    values::{self, Pair},
};

/// Where a worker that runs as root keeps workspaces: other users' jobs must be able to pass through.
const ROOT_STATE: &str = "/var/lib/airunner/worker";
/// What git may fetch by.
const PROTOCOLS: [&str; 5] = ["https", "ssh", "http", "git", "file"];

/// Take jobs and run them until stopped.
///
/// The identity is that of a worker or a service, in a folder (--identity): it is renewed while the worker runs. SIGINT
/// and SIGTERM drain: no new jobs, and those that run may end within --drain. Logs to stderr, at the level of
/// AIRUNNER_LOG (info).
#[derive(Args, Debug)]
pub(crate) struct WorkerArgs {
    /// A queue to take jobs from, each in turn; may be repeated, at most 16 [default: default]
    #[arg(long = "queue", value_name = "NAME", value_delimiter = ',')]
    queues: Vec<QueueName>,
    /// Take from the queues in order of preference: nothing of one as long as one before it has a job
    #[arg(long)]
    strict_order: bool,
    /// A label of this worker, for jobs that require it; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Pair>,
    /// Jobs at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: u32,
    /// End after one job
    #[arg(long)]
    once: bool,
    /// Run jobs as this worker's own user: they can then read its key and speak in its name
    #[arg(long, conflicts_with = "run_as")]
    same_user: bool,
    /// Run jobs as this user, by name or number, with a group if you like, as build:docker; only root can [default: nobody]
    #[arg(long, value_name = "USER[:GROUP]")]
    run_as: Option<String>,
    /// The least that jobs are kept from this machine: a job may ask for more, and gets no less
    #[arg(long, value_name = "LEVEL", default_value = "none", value_parser = values::isolation())]
    isolation: Isolation,
    /// Let jobs that say so, or ask for nothing themselves, run without what this machine can't give
    #[arg(long)]
    best_effort: bool,
    /// With --isolation sandbox: let jobs that ask for it have this machine's network
    #[arg(long)]
    host_network: bool,
    /// What repositories may be fetched by: https, ssh, http, git, file
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "https,ssh",
        value_parser = clap::builder::PossibleValuesParser::new(PROTOCOLS),
        hide_possible_values = true
    )]
    git_protocols: Vec<String>,
    #[command(flatten)]
    git: GitArgs,
    /// Where workspaces are kept, a folder for this worker alone [default: /var/lib/airunner/worker for root, else
    /// $XDG_STATE_HOME/airunner/worker]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Bytes on disk that hold what jobs print while the server takes nothing and memory is full, each job an equal share;
    /// past them a job waits. 0 for none [default: 1G]
    #[arg(long, value_name = "SIZE", value_parser = values::size_or_none)]
    output_buffer: Option<u64>,
    /// How long a lease lasts when it isn't extended, 10s to 1h: another worker takes the job then
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = values::duration)]
    visibility_timeout: Duration,
    /// How long jobs may go on once the worker is told to stop
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = values::duration)]
    drain: Duration,
    /// What to run after each renewal of the identity, by `sh -c`
    #[arg(long, value_name = "LINE")]
    after: Option<String>,
}

/// How repositories are fetched, and what is kept of them between jobs: by a worker that is root, or that runs jobs at
/// --isolation sandbox.
#[derive(Args, Debug)]
struct GitArgs {
    /// Credentials for private repositories, a line each: `URL user=NAME secret=SECRET` for https, `URL key=FILE
    /// known_hosts=FILE` for ssh; the URL is how theirs begin. Only this worker's user may read the file (chmod 0600)
    #[arg(long, value_name = "FILE")]
    git_credentials: Option<PathBuf>,
    /// Where repositories are kept between jobs; workers of this machine and user may share it [default: in --state-dir]
    #[arg(long, value_name = "DIR", conflicts_with = "no_git_cache")]
    git_cache: Option<PathBuf>,
    /// Keep no repository between jobs
    #[arg(long, conflicts_with_all = ["git_cache_size", "git_cache_age"])]
    no_git_cache: bool,
    /// Bytes of repositories that are kept, 0 for none: what was used longest ago goes first [default: 8G]
    #[arg(long, value_name = "SIZE", value_parser = values::size_or_none)]
    git_cache_size: Option<u64>,
    /// How long a repository is kept that no job asks for [default: 14d]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    git_cache_age: Option<Duration>,
    /// Bytes that a fetch may bring, and that its checkout may have [default: 4G]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    git_max_size: Option<u64>,
    /// Who fetches repositories for a worker that is root, by name or number; ssh needs a name [default: 61000:61000]
    #[arg(long, value_name = "USER[:GROUP]")]
    git_user: Option<String>,
}

impl GitArgs {
    fn options(&self) -> Result<GitOptions> {
        // What is relative counts from here.
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
        };
        let cache_size = if self.no_git_cache { Some(0) } else { self.git_cache_size };
        Ok(GitOptions {
            cache_dir: self.git_cache.as_ref().map(absolute).transpose()?,
            cache_size: cache_size.unwrap_or(GitOptions::CACHE_SIZE),
            cache_age: self.git_cache_age.unwrap_or(GitOptions::CACHE_AGE),
            max_size: self.git_max_size.unwrap_or(GitOptions::MAX_SIZE),
            credentials: self.git_credentials.as_ref().map(absolute).transpose()?,
            user: self.git_user.clone(),
            ..GitOptions::default()
        })
    }
}

impl WorkerArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        let worker = self.options(context)?;
        let connection = context.connection()?;
        let mut options = context.client_options()?;
        let files = match &connection.identity {
            Some(IdentityPlace::Folder(_)) => Some(connection.identity_files()?),
            _ => None,
        };
        if let Some(files) = &files {
            options.identity = Some(IdentitySource::Folder(files.clone()));
        }
        start_log(&context.environment)?;
        if files.is_none() {
            tracing::warn!("the identity is no folder, so it is not renewed: name one with --identity");
        }
        let client = Client::new(options)?;
        let rotation = files.map(|files| RotationOptions { files, after: self.after.clone() });
        wait_on_all_cores(work(context, client, worker, rotation))?;
        Ok(Report::nothing())
    }

    fn options(&self, context: &Context) -> Result<WorkerOptions> {
        let is_root = rustix::process::geteuid().is_root();
        let user = match (&self.run_as, self.same_user) {
            (Some(name), _) => JobUser::Named(name.clone()),
            (None, true) => JobUser::Same,
            (None, false) if is_root => JobUser::Named("nobody".to_owned()),
            (None, false) => {
                return Err(Failure::Usage(
                    "this worker is not root, so its jobs would run as its own user, could read its key and speak in \
                     its name: say --same-user if that is meant, or run it as root"
                        .to_owned(),
                ));
            }
        };
        let of_user = || {
            let state = context.environment.folder("XDG_STATE_HOME", ".local/state");
            state.map(|state| state.join("airunner/worker"))
        };
        let default = if is_root { Some(PathBuf::from(ROOT_STATE)) } else { of_user() };
        let state_dir = self.state_dir.clone().or(default);
        let state_dir =
            state_dir.ok_or_else(|| Failure::Usage("there is no home: name a --state-dir".to_owned()))?;
        Ok(WorkerOptions {
            queues: self.queues.clone(),
            strict_order: self.strict_order,
            labels: self.labels.iter().map(Pair::entry).collect(),
            concurrency: self.concurrency,
            visibility: self.visibility_timeout,
            git_protocols: self.git_protocols.clone(),
            git: self.git.options()?,
            isolation: self.isolation,
            best_effort: self.best_effort,
            host_network: self.host_network,
            output_buffer: self.output_buffer.unwrap_or(WorkerOptions::OUTPUT_BUFFER),
            drain: self.drain,
            run: if self.once { Run::Once } else { Run::UntilShutdown },
            user,
            ..WorkerOptions::new(state_dir)
        })
    }
}

/// Works, and keeps the identity alive for as long.
async fn work(
    context: &Context,
    client: Client,
    worker: WorkerOptions,
    rotation: Option<RotationOptions>,
) -> Result<()> {
    let shutdown = shutdown_signal()?;
    let (clock, random) = (Arc::clone(&context.clock), Arc::clone(&context.random));
    // Rotation goes on through the drain: what still runs is published with an identity that counts.
    if let Some(rotation) = rotation {
        let (clock, random) = (Arc::clone(&clock), Arc::clone(&random));
        tokio::spawn(rotate(client.clone(), rotation, clock, random, CancellationToken::new()));
    }
    Ok(run_worker(client, worker, clock, random, shutdown).await?)
}
