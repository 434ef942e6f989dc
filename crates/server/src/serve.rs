//! Puts a server together: listeners, router, background work; and takes it apart again in order.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use airunner_app::{
    App,
    authn::{LOCAL_PRINCIPAL, LoopbackListener},
    status::Freshness,
};
use airunner_core::{Error, Result};
use airunner_net::{
    ClientVerifier, ConnectionHandler, Limits, Listener, Network, ServerIdentity, TlsProfile, TrustAnchors,
    serve_plain, serve_tls, server_config,
};
use airunner_proto::DESCRIPTOR_SET;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic_health::ServingStatus;

use crate::{
    connection::{Connections, Entrance, Revocations},
    error::http_status,
    grpc::{self, Api},
    json::Transcoder,
    method::Methods,
    metrics::Metrics,
    openapi,
    plain::{PlainConnections, PlainDoor, PlainListener},
    router::{OwnNames, RateLimits, Rates, Router, RouterParts, Streams},
    tls::{ServerLeaf, TlsNames, TlsSource},
};

/// How often live connections are looked over.
const SWEEP: Duration = Duration::from_millis(250);

/// How long the message of a call may take to arrive, where nothing else is said.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a server needs beside the use cases.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The API listener; port 0 takes a free one.
    pub api_addr: SocketAddr,
    /// A further API listener.
    pub grpc_addr: Option<SocketAddr>,
    /// The public listener; none with `--no-auth`.
    pub public_addr: Option<SocketAddr>,
    /// The plain listener.
    pub plain_addr: SocketAddr,
    /// The metrics listener; none with `--no-auth`.
    pub metrics_addr: Option<SocketAddr>,
    /// The TLS profile.
    pub profile: TlsProfile,
    /// Where the server's certificate comes from.
    pub tls: TlsSource,
    /// What it must say.
    pub names: TlsNames,
    /// Rate limits.
    pub rates: RateLimits,
    /// Networks of balancers, whose connections say by the PROXY protocol where the client is: on every listener but
    /// that of the metrics.
    pub proxies: Vec<Network>,
    /// The limits of connections to the API listeners and the metrics.
    pub limits: Limits,
    /// The limits of connections to the public and the plain listener.
    pub stranger_limits: Limits,
    /// How long the message of a call may take to arrive, where it has one.
    pub body_timeout: Duration,
    /// Streams that one principal may have open.
    pub streams_per_principal: usize,
    /// Serve everyone as an admin, without TLS, on loopback only.
    pub no_auth: bool,
}

/// Where the listeners are.
#[derive(Clone, Copy, Debug, serde::Serialize)]
#[expect(missing_docs, reason = "each is the address of the listener of its name")]
pub struct Addresses {
    pub api: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public: Option<SocketAddr>,
    pub plain: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
}

/// The sockets of a server. They are bound before the use cases are opened, since what the server tells others of
/// itself holds their ports.
pub struct Sockets {
    api: Listener,
    grpc: Option<Listener>,
    public: Option<Listener>,
    plain: Listener,
    metrics: Option<Listener>,
}

impl Sockets {
    /// Binds every listener.
    ///
    /// # Errors
    /// `config` naming the address and the setting.
    pub async fn bind(options: &ServeOptions) -> Result<Self> {
        let optional = async |address: Option<SocketAddr>, setting: &str| match address {
            Some(address) => Listener::bind(address, setting).await.map(Some),
            None => Ok(None),
        };
        let behind = |listener: Listener| listener.behind(&options.proxies);
        Ok(Self {
            api: behind(Listener::bind(options.api_addr, "server.api_addr").await?),
            grpc: optional(options.grpc_addr, "server.grpc_addr").await?.map(behind),
            public: optional(options.public_addr, "server.public_addr").await?.map(behind),
            plain: behind(Listener::bind(options.plain_addr, "server.plain_addr").await?),
            metrics: optional(options.metrics_addr, "server.metrics_addr").await?,
        })
    }

    /// Where they are.
    pub fn addresses(&self) -> Addresses {
        let of = |listener: &Option<Listener>| listener.as_ref().map(Listener::local_addr);
        Addresses {
            api: self.api.local_addr(),
            grpc: of(&self.grpc),
            public: of(&self.public),
            plain: self.plain.local_addr(),
            metrics: of(&self.metrics),
        }
    }
}

/// A server that serves.
pub struct Server {
    app: Arc<App>,
    listeners: JoinSet<()>,
    background: JoinSet<()>,
    shutdown: CancellationToken,
    reload: Arc<tokio::sync::Notify>,
    #[cfg(feature = "test-callers")]
    router: Arc<Router>,
}

impl Server {
    /// Starts serving.
    ///
    /// # Errors
    /// What the server's certificate or TLS configuration says.
    pub async fn start(app: Arc<App>, sockets: Sockets, options: &ServeOptions) -> Result<Self> {
        app.fleet.beat().await?;
        let methods = Arc::new(Methods::load(DESCRIPTOR_SET)?);
        let metrics = Arc::new(Metrics::new(app.clone(), methods.iter().map(|(path, _)| path.to_owned())));
        let names = OwnNames::new(options.names.dns.iter().map(ToString::to_string));
        let rates = Arc::new(Rates::new(options.rates));
        let (stale, stale_seen) = watch::channel(false);
        let (routes, health) = routes(&app, &methods).await?;
        let router = Arc::new(Router::new(RouterParts {
            app: app.clone(),
            methods,
            routes,
            json: Transcoder::new(DESCRIPTOR_SET, http_status).map_err(Error::internal)?,
            openapi: openapi::COMMITTED.into(),
            names: names.clone(),
            rates: rates.clone(),
            body_timeout: options.body_timeout,
            streams: Streams::new(options.streams_per_principal),
            metrics: metrics.clone(),
            stale: stale_seen,
        }));
        let mut server = Self::without_listeners(app.clone(), &router);
        let (limits, strangers) = (&options.limits, &options.stranger_limits);
        let plain = |door, limits: &Limits| {
            Arc::new(PlainConnections(Arc::new(PlainListener {
                app: app.clone(),
                metrics: metrics.clone(),
                names: names.clone(),
                rates: rates.clone(),
                limits: limits.clone(),
                door,
            })))
        };
        let connections = |entrance, limits: &Limits| Connections {
            app: app.clone(),
            router: router.clone(),
            limits: limits.clone(),
            entrance,
            metrics: metrics.clone(),
        };
        server.listen_plain(sockets.plain, strangers, plain(PlainDoor::Plain, strangers));
        if let Some(listener) = sockets.metrics {
            server.listen_plain(listener, limits, plain(PlainDoor::Metrics, limits));
        }
        if options.no_auth {
            let loopback = LoopbackListener::new(sockets.api.local_addr())?;
            // What it submits needs an owner that the store knows.
            app.ensure_admin(&LOCAL_PRINCIPAL.parse()?).await?;
            let anyone = Arc::new(connections(Entrance::Loopback(loopback), limits));
            server.listen_plain(sockets.api, limits, anyone);
        } else {
            let tls = Tls::open(&mut server, options, names.clone()).await?;
            let known = Arc::new(connections(Entrance::Certificate, limits));
            server.listen_tls(sockets.api, tls.client_config()?, limits, known.clone());
            if let Some(listener) = sockets.grpc {
                server.listen_tls(listener, tls.client_config()?, limits, known);
            }
            if let Some(listener) = sockets.public {
                let config = server_config(options.profile, tls.identity.clone(), None)?;
                let anyone = Arc::new(connections(Entrance::Public, strangers));
                server.listen_tls(listener, config, strangers, anyone);
            }
        }
        server.work(stale, rates, health);
        Ok(server)
    }

    #[cfg_attr(not(feature = "test-callers"), expect(unused_variables, reason = "kept for tests alone"))]
    fn without_listeners(app: Arc<App>, router: &Arc<Router>) -> Self {
        Self {
            app,
            listeners: JoinSet::new(),
            background: JoinSet::new(),
            shutdown: CancellationToken::new(),
            reload: Arc::default(),
            #[cfg(feature = "test-callers")]
            router: router.clone(),
        }
    }

    /// Runs something beside the server, until it ends or the server stops.
    pub fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(work);
    }

    /// The router, for tests that come in by no listener.
    #[cfg(feature = "test-callers")]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Has files that may have changed looked at now.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// Stops: tells everyone, lets open requests end within the drain time, takes the server's row away.
    pub async fn stop(mut self) {
        self.app.fleet.drain();
        self.shutdown.cancel();
        while self.listeners.join_next().await.is_some() {}
        if let Err(error) = self.app.fleet.leave().await {
            tracing::warn!(?error, "the server's row can't be taken away");
        }
        self.background.shutdown().await;
    }

    fn listen_tls(
        &mut self,
        listener: Listener,
        config: Arc<rustls::ServerConfig>,
        limits: &Limits,
        handler: Arc<dyn ConnectionHandler>,
    ) {
        let (limits, shutdown) = (limits.clone(), self.shutdown.clone());
        self.listeners.spawn(serve_tls(listener, config, limits, shutdown, handler));
    }

    fn listen_plain(&mut self, listener: Listener, limits: &Limits, handler: Arc<dyn ConnectionHandler>) {
        let (limits, shutdown) = (limits.clone(), self.shutdown.clone());
        self.listeners.spawn(serve_plain(listener, limits, shutdown, handler));
    }

    fn work(
        &mut self,
        stale: watch::Sender<bool>,
        rates: Arc<Rates>,
        health: tonic_health::server::HealthReporter,
    ) {
        let spawn = |set: &mut JoinSet<()>, app: &Arc<App>, work: Work| {
            let app = app.clone();
            set.spawn(async move { work.run(&app).await });
        };
        for work in [Work::Follow, Work::Heartbeat, Work::Housekeeping, Work::Queues] {
            spawn(&mut self.background, &self.app, work);
        }
        let app = self.app.clone();
        self.background.spawn(async move { sweep(app, stale, rates, health).await });
    }
}

/// Background work that the use cases bring.
#[derive(Clone, Copy)]
enum Work {
    Follow,
    Heartbeat,
    Housekeeping,
    Queues,
}

impl Work {
    async fn run(self, app: &App) {
        match self {
            Self::Follow => app.follower.run().await,
            Self::Heartbeat => app.fleet.run().await,
            Self::Housekeeping => app.housekeeping.run().await,
            Self::Queues => app.jobs.watch_queues().await,
        }
    }
}

struct Tls {
    app: Arc<App>,
    profile: TlsProfile,
    identity: ServerIdentity,
    anchors: TrustAnchors,
}

impl Tls {
    async fn open(server: &mut Server, options: &ServeOptions, names: OwnNames) -> Result<Self> {
        let app = server.app.clone();
        let leaf =
            ServerLeaf::load(app.clone(), options.profile, options.tls.clone(), options.names.clone(), names)
                .await?;
        let identity = leaf.identity();
        server.background.spawn(leaf.run(server.reload.clone()));
        let mut changed = app.issuers().subscribe();
        let anchors = TrustAnchors::new(app.issuers().current().anchors())?;
        let (following, issuers) = (anchors.clone(), app.clone());
        server.background.spawn(async move {
            while changed.changed().await.is_ok() {
                if let Err(error) = following.replace(issuers.issuers().current().anchors()) {
                    tracing::error!(?error, "the trust anchors can't be replaced");
                }
            }
        });
        Ok(Self { app, profile: options.profile, identity, anchors })
    }

    fn client_config(&self) -> Result<Arc<rustls::ServerConfig>> {
        let revocations = Arc::new(Revocations(self.app.clone()));
        let clock = self.app.clock().clone();
        let verifier = ClientVerifier::new(self.profile, self.anchors.clone(), revocations, clock);
        server_config(self.profile, self.identity.clone(), Some(Arc::new(verifier)))
    }
}

async fn routes(
    app: &Arc<App>,
    methods: &Arc<Methods>,
) -> Result<(axum::Router, tonic_health::server::HealthReporter)> {
    let api = Api { app: app.clone(), methods: methods.clone() };
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", ServingStatus::Serving).await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let packed = CompressionEncoding::Gzip;
    let routes = grpc::services(&api)
        .add_service(health.accept_compressed(packed))
        .add_service(reflection().build_v1().map_err(Error::internal)?.accept_compressed(packed))
        .add_service(reflection().build_v1alpha().map_err(Error::internal)?.accept_compressed(packed));
    Ok((routes.prepare().into_axum_router(), reporter))
}

/// Looks over live connections: ends those whose time is over, asks the store again about each now and then, and
/// notices when the feed has been silent for too long.
async fn sweep(
    app: Arc<App>,
    stale: watch::Sender<bool>,
    rates: Arc<Rates>,
    health: tonic_health::server::HealthReporter,
) {
    loop {
        tokio::time::sleep(SWEEP).await;
        stale.send_if_modified(|stale| {
            let now = app.follower.freshness() == Freshness::Stale;
            std::mem::replace(stale, now) != now
        });
        let status =
            if app.fleet.unready().is_empty() { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status("", status).await;
        let now = app.clock().now();
        let standings = app.live().all();
        for standing in &standings {
            standing.check_time(now);
        }
        if let Err(error) = app.authenticator.recheck(&standings).await {
            tracing::warn!(?error, "live connections can't be looked at again");
        }
        rates.forget_idle();
    }
}
