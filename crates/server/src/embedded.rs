//! The worker inside the server: a principal like any other, on a connection like any other, whose certificate and key
//! are made in memory and never leave the process. It trusts what the server's store says is trusted, and so follows
//! a new CA.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use airunner_agent::{GitOptions, JobUser, WorkerOptions, run_worker};
use airunner_app::App;
use airunner_client::{Backoff, Client, ClientOptions, IdentitySource, LoadedIdentity};
use airunner_core::{Error, KeyAlgorithm, Label, PrincipalId, Result};
use airunner_host::{Config, GitConfig};
use airunner_net::TlsProfile;
use airunner_pki::{PrivateKey, sha256};
use data_encoding::HEXLOWER;
use rustix::process::{getpriority_process, setpriority_process};
use tokio::{runtime::Builder, sync::watch};
use tokio_util::sync::CancellationToken;

/// Its principal.
const ID: &str = "embedded-worker";
/// Where a server that runs as root keeps the workspaces, which other users' jobs must be able to reach.
const ROOT_STATE: &str = "/var/lib/airunner";

/// How far the worker's threads, and so its jobs, stand back behind the server's, as nice(2) counts: what a job prints
/// must not hold up a revocation.
const NICE: i32 = 10;

/// Runs the worker on threads of its own until `shutdown`, or until it is denied.
///
/// # Errors
/// `internal` where there are no threads to be had.
pub fn start(
    app: Arc<App>,
    config: Config,
    api: SocketAddr,
    shutdown: CancellationToken,
) -> Result<JoinHandle<()>> {
    let stand_back = stand_back()?;
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .thread_name("worker")
        .on_thread_start(stand_back)
        .build()
        .map_err(Error::internal)?;
    let work = move || {
        stand_back();
        runtime.block_on(run(app, config, api, shutdown));
    };
    thread::Builder::new().name("worker".to_owned()).spawn(work).map_err(Error::internal)
}

/// What makes a thread stand back. A thread begins with the priority of the one that made it, so this is none that adds up.
fn stand_back() -> Result<impl Fn() + Copy + Send + Sync> {
    let own = getpriority_process(None).map_err(Error::internal)?;
    Ok(move || {
        if let Err(error) = setpriority_process(None, own + NICE) {
            tracing::warn!(%error, "the worker inside this server has the server's own priority");
        }
    })
}

async fn run(app: Arc<App>, config: Config, api: SocketAddr, shutdown: CancellationToken) {
    let mut backoff = Backoff::default();
    loop {
        let Err(error) = run_once(&app, &config, api, &shutdown).await else { return };
        // A new CA may be noticed by the worker's connection first; it is no denial of this worker.
        if error.is_denial() && !error.is(Label::IssuerDistrusted) {
            tracing::error!(%error, "the worker inside this server was denied, and stays away until the next start");
            return;
        }
        tracing::error!(%error, "the worker inside this server has ended, and is started again");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = app.clock().sleep(backoff.next(&**app.random())) => {}
        }
    }
}

async fn run_once(
    app: &Arc<App>,
    config: &Config,
    api: SocketAddr,
    shutdown: &CancellationToken,
) -> airunner_client::Result<()> {
    let id: PrincipalId = ID.parse()?;
    app.ensure_embedded_worker(&id).await?;
    let profile = config.tls().profile();
    let issuers = app.issuers().subscribe();
    let identity = identity(app, &id, profile).await?;
    let source = IdentitySource::Loaded(Box::new(identity.clone()));
    let mut options = ClientOptions::new(endpoint(api).parse()?, "", Some(source));
    options.profile = profile;
    options.clock = app.clock().clone();
    options.random = app.random().clone();
    let client = Client::new(options)?;
    let work = run_worker(
        client.clone(),
        worker_options(config),
        app.clock().clone(),
        app.random().clone(),
        shutdown.clone(),
    );
    tokio::select! {
        ended = work => ended,
        error = renew(app, &id, profile, &client, (identity, issuers)) => Err(error),
    }
}

/// Gives the worker a fresh certificate at two thirds of the life of each, and whenever the issuers have changed, with
/// the roots of that time; returns only when that can't be done.
async fn renew(
    app: &App,
    id: &PrincipalId,
    profile: TlsProfile,
    client: &Client,
    (mut current, mut issuers): (LoadedIdentity, watch::Receiver<()>),
) -> airunner_client::Error {
    loop {
        tokio::select! {
            () = until_due(app, &current) => {}
            _ = issuers.changed() => tracing::info!("the issuers have changed: the worker inside this server follows"),
        }
        current = match identity(app, id, profile).await {
            Ok(fresh) => fresh,
            Err(error) => return error.into(),
        };
        if let Err(error) = client.replace_identity(current.clone()) {
            return error;
        }
    }
}

/// Returns when two thirds of the certificate's life are over.
async fn until_due(app: &App, current: &LoadedIdentity) {
    let life = current.not_after().since(current.not_before());
    let due = current.not_before().plus(life * 2 / 3);
    while app.clock().now() < due {
        app.clock().sleep(due.since(app.clock().now()).min(Duration::from_mins(1))).await;
    }
}

/// A new key with its certificate, and the roots that are trusted.
async fn identity(app: &App, id: &PrincipalId, profile: TlsProfile) -> Result<LoadedIdentity> {
    let algorithm = match profile {
        TlsProfile::Default => KeyAlgorithm::EcdsaP256,
        TlsProfile::P384 => KeyAlgorithm::EcdsaP384,
    };
    let key = PrivateKey::generate(algorithm)?;
    let issued = app.issue_for(id, &key, false).await?;
    let chain = airunner_pki::certificate_to_pem(&issued.certificate.der) + &issued.chain_pem;
    let roots = app.issuers().current().bundle().roots_pem.clone();
    LoadedIdentity::from_pem(chain.as_bytes(), key.to_pem(None)?.expose(), None, roots.as_bytes())
        .map_err(|error| Error::internal(error.to_string()))
}

/// The API listener as this machine reaches it.
fn endpoint(api: SocketAddr) -> String {
    let address = match api {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => ([127, 0, 0, 1], v6.port()).into(),
        named => named,
    };
    format!("https://{address}")
}

fn worker_options(config: &Config) -> WorkerOptions {
    let worker = config.worker();
    let user = match (worker.same_user(), worker.run_as()) {
        (true, _) => JobUser::Same,
        (false, Some(name)) => JobUser::Named(name.to_owned()),
        (false, None) => JobUser::Named("nobody".to_owned()),
    };
    WorkerOptions {
        queues: worker.queues().to_vec(),
        strict_order: worker.strict_order(),
        labels: worker.labels().clone(),
        concurrency: worker.concurrency().get(),
        git_protocols: worker.git_protocols().to_vec(),
        git: git_options(worker.git()),
        isolation: worker.isolation(),
        best_effort: worker.best_effort(),
        host_network: worker.host_network(),
        output_buffer: worker.output_buffer().unwrap_or(WorkerOptions::OUTPUT_BUFFER),
        drain: config.server().drain(),
        user,
        ..WorkerOptions::new(state_dir(config))
    }
}

fn git_options(git: &GitConfig) -> GitOptions {
    GitOptions {
        cache_dir: git.cache_dir().map(Path::to_owned),
        cache_size: git.cache_size().unwrap_or(GitOptions::CACHE_SIZE),
        cache_age: git.cache_age().unwrap_or(GitOptions::CACHE_AGE),
        max_size: git.max_size().unwrap_or(GitOptions::MAX_SIZE),
        credentials: git.credentials().map(Path::to_owned),
        user: git.user().map(str::to_owned),
        ..GitOptions::default()
    }
}

/// Beside the store for a worker of the server's own user; else where other users' jobs can pass through, under a name
/// that is this environment's.
fn state_dir(config: &Config) -> PathBuf {
    let store = config.store().path();
    if config.worker().same_user() {
        return store.with_file_name("worker");
    }
    let name = HEXLOWER.encode(&sha256(store.as_os_str().as_encoded_bytes())[..6]);
    PathBuf::from(ROOT_STATE).join(format!("worker-{name}"))
}
