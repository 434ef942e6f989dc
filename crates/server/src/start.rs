//! From flags and configuration to a running server, and through the signals to its end.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use airunner_app::App;
use airunner_core::{Clock, Error, Kind, Label, Result, SecureRandom};
use airunner_host::{
    Cloud, Config, Home, OpenHost, OpenStores,
    config::{Backend, FlagSetting},
    environment_variable, local, open_app, server_addresses, server_names,
};
use airunner_net::{
    Limits,
    system::{SystemClock, SystemRandom},
};
use airunner_pki::certificates_from_pem;
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    db::{self, DbCommand},
    embedded,
    pem::{PemPair, PemPlace},
    router::RateLimits,
    serve::{Addresses, BODY_TIMEOUT, ServeOptions, Server, Sockets},
    tls::{TlsNames, TlsSource},
};

/// Where `--no-auth` listens.
const NO_AUTH_PORTS: (u16, u16) = (8443, 8080);

/// The airunner server: certificate authority, registry of principals, job API.
#[derive(Debug, Parser)]
#[command(name = "airunner-server", version, about)]
pub struct Flags {
    /// The configuration; without it, the one that `bootstrap --environment=local` made
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Serve everyone as an admin, without TLS, on loopback and over a memory store: for trying things
    #[arg(long)]
    pub no_auth: bool,
    /// Write the addresses of the listeners to this file descriptor, as one line of JSON, once they serve
    #[arg(long, value_name = "N")]
    pub ready_fd: Option<u32>,
    /// How the log is written
    #[arg(long, value_enum, env = "AIRUNNER_LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
    /// Address of the API listener (server.api_addr)
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub api_addr: Option<String>,
    /// Address of the public listener (server.public_addr)
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub public_addr: Option<String>,
    /// Address of the plain listener (server.plain_addr)
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub plain_addr: Option<String>,
    /// Address of the metrics listener (server.metrics_addr)
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub metrics_addr: Option<String>,
    /// The AWS region (aws.region)
    #[arg(long, value_name = "REGION", global = true)]
    pub aws_region: Option<String>,
    /// Where AWS answers, in place of its own addresses (aws.endpoint)
    #[arg(long, value_name = "URL", global = true)]
    pub aws_endpoint: Option<String>,
    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the server can do instead of serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate the configuration and exit
    Check,
    /// Repair the store by hand
    #[command(subcommand)]
    Db(DbCommand),
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

impl Flags {
    fn settings(&self) -> Vec<FlagSetting> {
        let all = [
            ("server.api_addr", "--api-addr", &self.api_addr),
            ("server.public_addr", "--public-addr", &self.public_addr),
            ("server.plain_addr", "--plain-addr", &self.plain_addr),
            ("server.metrics_addr", "--metrics-addr", &self.metrics_addr),
            ("aws.region", "--aws-region", &self.aws_region),
            ("aws.endpoint", "--aws-endpoint", &self.aws_endpoint),
        ];
        let given = all.into_iter().filter_map(|(key, flag, value)| Some((key, flag, value.clone()?)));
        given.map(|(key, flag, value)| FlagSetting { key, flag, value }).collect()
    }
}

/// Runs the server. The exit code is 0 after an ordered stop, 2 for a wrong configuration or command line, 1 for any
/// other failure.
pub fn run(flags: Flags) -> ExitCode {
    let log = start_log(flags.log_format);
    let ended = log.and_then(|()| runtime()).and_then(|runtime| runtime.block_on(serve(flags)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _closed =
                writeln!(std::io::stderr(), "error: {} ({})", error.message(), error.label().as_str());
            if error.kind() == Kind::Internal {
                tracing::error!(?error, "the server can't run");
            }
            let misused = matches!(error.label(), Label::Config | Label::InvalidArgument);
            ExitCode::from(if misused { 2 } else { 1 })
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::internal)
}

fn start_log(format: LogFormat) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("AIRUNNER_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    }
    .map_err(Error::internal)
}

async fn serve(flags: Flags) -> Result<()> {
    if let Some(Command::Db(command)) = &flags.command {
        return db::run(command, &Plan::config(&flags)?.0, Arc::new(SystemClock)).await;
    }
    let plan = if flags.no_auth { Plan::without_auth(&flags)? } else { Plan::configured(&flags)? };
    if matches!(flags.command, Some(Command::Check)) {
        let what =
            plan.config.file().map_or("the configuration".to_owned(), |file| file.display().to_string());
        return writeln!(std::io::stdout(), "{what} is valid").map_err(Error::internal);
    }
    harden();
    let mut signals = Signals::new()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random: Arc<dyn SecureRandom> = Arc::new(SystemRandom::new());
    // The first random bytes of a process are slow to come: draw them while the store opens.
    let drawn = random.clone();
    let drawing = tokio::task::spawn_blocking(move || drawn.array::<32>());
    let sockets = Sockets::bind(&plan.options).await?;
    let addresses = sockets.addresses();
    let config = plan.config.clone().with_bound(addresses.api, addresses.public.unwrap_or(addresses.api));
    let host = open_app(&config, plan.home.as_ref(), &environment_variable, clock, random).await?;
    drawing.await.map_err(Error::internal)?;
    let OpenHost { app, stores, cloud, .. } = host;
    let stores = Arc::new(stores);
    let mut options = plan.options.clone();
    options.tls = tls_source(&config, cloud)?;
    check_roots(&app, &config, &options.tls).await?;
    let mut server = Server::start(app.clone(), sockets, &options).await?;
    check_in_background(&stores, &mut server);
    let worker = start_worker(&plan, app, addresses)?;
    let announced = announce(&addresses, flags.ready_fd);
    if announced.is_ok() {
        say_what_it_means(&plan, &addresses);
        signals.until_stopped(&server).await;
        notify(&[sd_notify::NotifyState::Stopping]);
    }
    // The worker first: it hands its jobs back through this server.
    worker.stop().await;
    server.stop().await;
    announced.and(close(stores).await)
}

/// What is to be served.
struct Plan {
    config: Config,
    home: Option<Home>,
    options: ServeOptions,
}

impl Plan {
    fn configured(flags: &Flags) -> Result<Self> {
        let (config, home) = Self::config(flags)?;
        let options = options(&config);
        // An environment in memory leaves its credentials where the CLI finds them.
        let home = home.filter(|_| config.store().backend() == Backend::Memory);
        Ok(Self { config, home, options })
    }

    /// The configuration that is named or found, and the home where one was looked for.
    fn config(flags: &Flags) -> Result<(Config, Option<Home>)> {
        let home = Home::from_environment(&environment_variable).ok();
        let file = flags.config.clone().or_else(|| {
            let found = home.as_ref().map(Home::server_toml)?;
            found.exists().then_some(found)
        });
        if file.is_none() && environment_variable("AIRUNNER_ENVIRONMENT").is_none() {
            return Err(Error::new(
                Label::Config,
                "there is no configuration: run `airunner-cli bootstrap --environment=local`, or name one with --config",
            ));
        }
        Ok((Config::load(file.as_deref(), &environment_variable, &flags.settings())?, home))
    }

    fn without_auth(flags: &Flags) -> Result<Self> {
        let text = match &flags.config {
            None => "environment = \"local\"\n[store]\nbackend = \"memory\"\n".to_owned(),
            Some(path) => {
                let config = Config::load(Some(path), &|_| None, &[])?;
                let sets_more = config.worker().embedded() || config.uses_aws();
                if config.store().backend() != Backend::Memory || sets_more {
                    return Err(Error::new(
                        Label::Config,
                        format!(
                            "--no-auth is for trying things: {} sets a store, a worker or AWS",
                            path.display()
                        ),
                    ));
                }
                std::fs::read_to_string(path).map_err(Error::internal)?
            }
        };
        let file = flags.config.clone().unwrap_or_else(|| PathBuf::from("--no-auth"));
        let config = Config::parse(&file, &text)?;
        let at = |flag: &Option<String>, port: u16| match flag {
            None => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            Some(text) => {
                text.parse().map_err(|_| Error::new(Label::Config, format!("{text:?} is no address")))
            }
        };
        let mut options = options(&config);
        options.no_auth = true;
        options.api_addr = at(&flags.api_addr, NO_AUTH_PORTS.0)?;
        options.plain_addr = at(&flags.plain_addr, NO_AUTH_PORTS.1)?;
        (options.grpc_addr, options.public_addr, options.metrics_addr) = (None, None, None);
        Ok(Self { config, home: None, options })
    }
}

fn options(config: &Config) -> ServeOptions {
    let server = config.server();
    let limits = config.limits();
    ServeOptions {
        api_addr: server.api_addr(),
        proxies: server.proxies().to_vec(),
        grpc_addr: server.grpc_addr(),
        public_addr: Some(server.public_addr()),
        plain_addr: server.plain_addr(),
        metrics_addr: Some(server.metrics_addr()),
        profile: config.tls().profile(),
        // The source is opened with the environment.
        tls: TlsSource::Own,
        names: TlsNames { dns: server_names(config), addresses: server_addresses(config) },
        rates: RateLimits {
            api_per_address: limits.api_per_address(),
            public_per_address: limits.public_per_address(),
            per_principal: limits.per_principal(),
            spare_loopback: limits.spares_loopback(),
        },
        limits: Limits {
            max_connections: limits.connections(),
            max_connections_per_address: limits.api_connections_per_address(),
            drain_timeout: server.drain(),
            ..Limits::default()
        },
        stranger_limits: Limits {
            max_connections: limits.connections(),
            max_connections_per_address: limits.public_connections_per_address(),
            drain_timeout: server.drain(),
            ..Limits::for_strangers()
        },
        body_timeout: BODY_TIMEOUT,
        streams_per_principal: limits.streams_per_principal(),
        no_auth: false,
    }
}

/// Where the server's certificate and its key come from.
fn tls_source(config: &Config, cloud: Option<Cloud>) -> Result<TlsSource> {
    let Some((chain, key)) = config.tls().identity() else { return Ok(TlsSource::Own) };
    let passphrase = local::key_passphrase(config)?;
    let (chain, key) = (PemPlace::open(chain)?, PemPlace::open(key)?);
    Ok(TlsSource::Pair(Box::new(PemPair { chain, key, passphrase, cloud, poll: config.tls().poll() })))
}

/// The roots that the configuration names must hold the store's own: or clients are told to trust another.
async fn check_roots(app: &App, config: &Config, tls: &TlsSource) -> Result<()> {
    let Some(place) = config.tls().ca() else { return Ok(()) };
    let cloud = match tls {
        TlsSource::Pair(pair) => pair.cloud.clone(),
        TlsSource::Own => None,
    };
    let cloud = match cloud {
        None => Cloud::of(config).await?,
        some => some,
    };
    let pem = PemPlace::open(place)?.read(cloud.as_ref()).await?;
    let roots = certificates_from_pem(pem.expose())?;
    if roots.contains(&app.issuers().current().root()?.record.der) {
        return Ok(());
    }
    let environment = config.environment();
    Err(Error::new(
        Label::File,
        format!(
            "tls.ca lacks the root of the store: run `airunner-cli bootstrap --environment={environment}`, which writes \
             it, or name the right store"
        ),
    ))
}

/// Keeps the memory of this process, and so its keys, from others of the same user.
fn harden() {
    if let Err(error) = airunner_exec::harden_self() {
        tracing::warn!(%error, "the process can't be closed to debuggers");
    }
}

/// The worker inside this server, if it has one.
struct EmbeddedWorker {
    shutdown: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl EmbeddedWorker {
    async fn stop(self) {
        self.shutdown.cancel();
        let Some(thread) = self.thread else { return };
        if !matches!(tokio::task::spawn_blocking(|| thread.join()).await, Ok(Ok(()))) {
            tracing::error!("the worker inside this server did not end well");
        }
    }
}

fn start_worker(plan: &Plan, app: Arc<App>, addresses: Addresses) -> Result<EmbeddedWorker> {
    let shutdown = CancellationToken::new();
    let wanted = plan.config.worker().embedded() && !plan.options.no_auth;
    let start = || embedded::start(app, plan.config.clone(), addresses.api, shutdown.clone());
    let thread = wanted.then(start).transpose()?;
    Ok(EmbeddedWorker { shutdown, thread })
}

/// After an unclean stop the log's recovery is enough to serve; damage is looked for meanwhile.
fn check_in_background(stores: &Arc<OpenStores>, server: &mut Server) {
    if !stores.was_left_open() {
        return;
    }
    tracing::warn!(
        "the store was not closed: its log has been recovered, and it is checked in the background"
    );
    let stores = stores.clone();
    server.spawn(async move {
        match stores.quick_check().await {
            Ok(()) => tracing::info!("the store is whole"),
            Err(error) => tracing::error!(?error, "the store is damaged: restore a backup"),
        }
    });
}

fn announce(addresses: &Addresses, ready_fd: Option<u32>) -> Result<()> {
    notify(&[sd_notify::NotifyState::Ready]);
    let Some(descriptor) = ready_fd else { return Ok(()) };
    // In one write: whoever waits may close its end after the first.
    let line = serde_json::to_string(addresses).map_err(Error::internal)? + "\n";
    let told = std::fs::OpenOptions::new()
        .append(true)
        .open(format!("/proc/self/fd/{descriptor}"))
        .and_then(|mut file| file.write_all(line.as_bytes()));
    told.map_err(|error| {
        Error::new(Label::Config, format!("--ready-fd {descriptor} can't be written to: {error}"))
            .with_cause(error)
    })
}

fn say_what_it_means(plan: &Plan, addresses: &Addresses) {
    tracing::info!(api = %addresses.api, plain = %addresses.plain, "airunner-server serves");
    if plan.options.no_auth {
        tracing::warn!(
            "--no-auth: whoever reaches {} on this machine is an admin, and nothing outlives this process",
            addresses.api
        );
    }
    if plan.config.worker().embedded() && plan.config.worker().same_user() && !plan.options.no_auth {
        tracing::warn!(
            "the worker inside this server runs jobs as the server's own user: a job can read the server's keys"
        );
    }
    let loopback = |ip: IpAddr| ip.is_loopback();
    if !loopback(addresses.plain.ip()) {
        tracing::info!(plain = %addresses.plain, "health is served to other machines too");
    }
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(false, states);
}

async fn close(stores: Arc<OpenStores>) -> Result<()> {
    // The server and its background work are gone, so nobody else holds it.
    let Some(stores) = Arc::into_inner(stores) else { return Ok(()) };
    tokio::task::spawn_blocking(move || stores.close()).await.map_err(Error::internal)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let of = |kind| signal(kind).map_err(Error::internal);
        Ok(Self {
            interrupt: of(SignalKind::interrupt())?,
            terminate: of(SignalKind::terminate())?,
            hang_up: of(SignalKind::hangup())?,
        })
    }

    /// Returns when the server is told to stop; a hang-up has the certificate's files looked at.
    async fn until_stopped(&mut self, server: &Server) {
        let mut watchdog = Watchdog::new();
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hang_up.recv() => server.reload(),
                () = watchdog.due() => notify(&[sd_notify::NotifyState::Watchdog]),
            }
        }
    }
}

/// Tells the service manager that the server lives, twice as often as it asks for.
struct Watchdog(Option<tokio::time::Interval>);

impl Watchdog {
    fn new() -> Self {
        let mut micros = 0;
        let wanted = sd_notify::watchdog_enabled(false, &mut micros) && micros > 0;
        Self(wanted.then(|| tokio::time::interval(std::time::Duration::from_micros(micros) / 2)))
    }

    async fn due(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }
}
