//! A server in this process: founded like any other, on free ports of loopback.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use airunner_app::{
    App, OnFork, Settings,
    bootstrap::{CaPlan, IssuingKey, Site, ensure_ca, ensure_keyring},
    principal::new_principal,
    status::Freshness,
};
use airunner_core::{
    Actor, AuditEntry, AuditOutcome, Clock, KeyAlgorithm, Principal, PrincipalId, PrincipalType, Role,
    SecureRandom, Stores,
};
use airunner_net::{
    ClientTls, Limits, Network, TlsIdentity, TlsProfile, client_config, system::SystemRandom,
};
use airunner_pki::{AcceptedKeys, OidArc, PrivateKey, certificates_from_pem};
use airunner_server::{
    router::RateLimits,
    serve::{Addresses, BODY_TIMEOUT, ServeOptions, Server, Sockets},
    tls::{TlsNames, TlsSource},
};
use airunner_store::MemoryStore;

use crate::{Gates, MemoryKeyWrap, RawClient, ShiftedClock};

/// What a test may want to be otherwise.
pub struct TestServerOptions {
    /// The TLS profile.
    pub profile: TlsProfile,
    /// The stores, if not fresh memory ones.
    pub stores: Option<Stores>,
    /// The master key that these stores were founded with.
    pub wrap: Arc<MemoryKeyWrap>,
    /// The clock.
    pub clock: Arc<ShiftedClock>,
    /// The limits of connections to the API listeners and the metrics.
    pub limits: Limits,
    /// The limits of connections to the public and the plain listener.
    pub stranger_limits: Limits,
    /// How long the message of a call may take to arrive.
    pub body_timeout: Duration,
    /// Streams that one principal may have open.
    pub streams_per_principal: usize,
    /// Networks of balancers that speak the PROXY protocol.
    pub proxies: Vec<Network>,
    /// Whether there is a further API listener.
    pub has_grpc_listener: bool,
    /// Rate limits.
    pub rates: RateLimits,
    /// What a fork leads to.
    pub on_fork: OnFork,
    /// How long a predecessor goes on counting.
    pub overlap: Duration,
    /// The gates of its stores.
    pub gates: Gates,
    /// One CA that signs leaves directly, whose key the test holds: [`TestServer::root_key`].
    pub single_ca: bool,
    /// Everyone is an admin, without TLS.
    pub no_auth: bool,
}

impl Default for TestServerOptions {
    fn default() -> Self {
        Self {
            profile: TlsProfile::Default,
            stores: None,
            wrap: Arc::new(MemoryKeyWrap::new()),
            clock: Arc::default(),
            limits: Limits { drain_timeout: Duration::from_secs(2), ..Limits::default() },
            stranger_limits: Limits { drain_timeout: Duration::from_secs(2), ..Limits::for_strangers() },
            body_timeout: BODY_TIMEOUT,
            streams_per_principal: 16_384,
            proxies: Vec::new(),
            has_grpc_listener: false,
            rates: RateLimits::default(),
            on_fork: OnFork::Refuse,
            overlap: Settings::DEFAULT_OVERLAP,
            gates: Gates::default(),
            single_ca: false,
            no_auth: false,
        }
    }
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Credentials {
    /// Whose.
    pub id: PrincipalId,
    /// Leaf and issuing CA, DER.
    pub chain: Vec<Vec<u8>>,
    /// The key.
    pub key: Arc<PrivateKey>,
}

/// A running server.
pub struct TestServer {
    /// Its use cases.
    pub app: Arc<App>,
    /// Where it listens.
    pub addresses: Addresses,
    /// Its stores.
    pub stores: Stores,
    /// Its clock.
    pub clock: Arc<ShiftedClock>,
    /// Its first admin.
    pub admin: Credentials,
    /// The root's key, where this server founded the environment.
    pub root_key: Option<Arc<PrivateKey>>,
    profile: TlsProfile,
    server: Option<Server>,
}

impl TestServer {
    /// Starts a server over fresh memory stores.
    pub async fn start() -> Self {
        Self::start_with(TestServerOptions::default()).await
    }

    /// Starts a server.
    ///
    /// # Panics
    /// Where it can't.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn start_with(options: TestServerOptions) -> Self {
        let random: Arc<dyn SecureRandom> = Arc::new(SystemRandom::new());
        let clock = options.clock.clone();
        let stores = options.stores.clone().unwrap_or_else(|| MemoryStore::new(1 << 30).stores());
        let stores = options.gates.wrap(stores);
        let root_key = found(&stores, &options, &*clock, &*random).await;
        let serve = serve_options(&options);
        let sockets = Sockets::bind(&serve).await.expect("free ports");
        let addresses = sockets.addresses();
        let app =
            App::open(stores.clone(), clock.clone(), random, &*options.wrap, settings(&options, addresses))
                .await
                .expect("the environment opens");
        let app = Arc::new(app);
        let id: PrincipalId = "admin".parse().expect("an id");
        app.ensure_admin(&id).await.expect("an admin");
        let admin = issue(&app, &id, options.profile).await;
        let server = Server::start(app.clone(), sockets, &serve).await.expect("the server starts");
        let profile = options.profile;
        Self { app, addresses, stores, clock, admin, root_key, profile, server: Some(server) }
    }

    /// A principal of this type, with a certificate.
    ///
    /// # Panics
    /// Where the id is taken.
    pub async fn principal(&self, id: &str, principal_type: PrincipalType) -> Credentials {
        self.principal_with(id, principal_type, |_| {}).await
    }

    /// A principal with these roles, with a certificate.
    ///
    /// # Panics
    /// Where the id is taken.
    pub async fn principal_of_role(&self, id: &str, role: Role) -> Credentials {
        let principal_type = match role {
            Role::Admin => PrincipalType::Admin,
            Role::Worker => PrincipalType::Worker,
            Role::Service => PrincipalType::Service,
            Role::User | Role::Viewer | Role::Enroller => PrincipalType::User,
        };
        self.principal_with(id, principal_type, |principal| principal.roles = [role].into()).await
    }

    /// A principal as `change` leaves it, with a certificate.
    ///
    /// # Panics
    /// Where the id is taken.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn principal_with(
        &self,
        id: &str,
        principal_type: PrincipalType,
        change: impl FnOnce(&mut Principal),
    ) -> Credentials {
        let id: PrincipalId = id.parse().expect("an id");
        let mut principal = new_principal(id.clone(), principal_type, self.clock.now(), "test");
        change(&mut principal);
        let audit = self.audit("principal.create");
        self.stores.principals.create_principal(principal, audit).await.expect("a free id");
        self.issue(&id).await
    }

    /// A further certificate of a principal.
    ///
    /// # Panics
    /// Where it gets none.
    pub async fn issue(&self, id: &PrincipalId) -> Credentials {
        issue(&self.app, id, self.profile).await
    }

    /// What a client that asked for it itself has got: a certificate, its chain (both PEM) and its key.
    ///
    /// # Panics
    /// Where the PEM is none.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub fn credentials(&self, id: &str, leaf_pem: &str, chain_pem: &str, key: PrivateKey) -> Credentials {
        let chain = certificates_from_pem(format!("{leaf_pem}{chain_pem}").as_bytes()).expect("a chain");
        Credentials { id: id.parse().expect("an id"), chain, key: Arc::new(key) }
    }

    /// A connection with this certificate, or with none, to the API listener.
    ///
    /// # Errors
    /// What the handshake says.
    pub async fn connect(&self, credentials: Option<&Credentials>) -> airunner_core::Result<RawClient> {
        RawClient::connect(self.tls(credentials), &self.addresses.api.to_string()).await
    }

    /// A connection to the public listener.
    ///
    /// # Panics
    /// Where there is none.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn connect_public(&self) -> RawClient {
        let address = self.addresses.public.expect("a public listener").to_string();
        RawClient::connect(self.tls(None), &address).await.expect("the public listener takes anyone")
    }

    /// A client's TLS, with this certificate or with none.
    ///
    /// # Panics
    /// Where they don't fit the profile.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub fn tls(&self, credentials: Option<&Credentials>) -> Arc<rustls::ClientConfig> {
        let identity = credentials.map(|credentials| {
            let chain = credentials.chain.clone();
            TlsIdentity::from_der(chain, &credentials.key.to_pkcs8(), self.profile).expect("a pair")
        });
        let tls = ClientTls { profile: self.profile, roots: self.roots(), identity };
        client_config(tls, self.clock.clone()).expect("a configuration")
    }

    /// The roots, DER.
    ///
    /// # Panics
    /// Where the bundle is none.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub fn roots(&self) -> Vec<Vec<u8>> {
        let roots = &self.app.issuers().current().bundle().roots_pem.clone();
        certificates_from_pem(roots.as_bytes()).expect("a bundle")
    }

    /// The roots, PEM.
    pub fn roots_pem(&self) -> String {
        self.app.issuers().current().bundle().roots_pem.clone()
    }

    /// An audit entry for what a test writes past the use cases.
    pub fn audit(&self, action: &str) -> AuditEntry {
        AuditEntry {
            at: self.clock.now(),
            actor: Actor { principal: "test".to_owned(), certificate: String::new(), address: String::new() },
            action: action.to_owned(),
            target: String::new(),
            outcome: AuditOutcome::Done,
            request_id: String::new(),
            detail: BTreeMap::new(),
        }
    }

    /// Sets the wall clock ahead, in steps that this server does not take for a broken clock. Its feed goes on being
    /// heard, and streams go on; other servers of this clock may complain.
    ///
    /// # Panics
    /// Where the heartbeat can't be written.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn turn_ahead(&self, by: Duration) {
        const STEP: Duration = Duration::from_secs(20);
        let mut left = by;
        while !left.is_zero() {
            let step = left.min(STEP);
            self.clock.jump(i64::try_from(step.as_millis()).unwrap_or(i64::MAX));
            self.app.fleet.beat().await.expect("a heartbeat");
            left -= step;
        }
    }

    /// Lets time pass, monotonic time too, and waits until the server has heard its feed again. Streams may end as if
    /// it had been silent.
    ///
    /// # Panics
    /// Where the feed is broken.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        while self.app.follower.freshness() != Freshness::Fresh {
            self.stores.changes.wait().await.expect("the feed answers");
        }
    }

    /// The server itself.
    ///
    /// # Panics
    /// After it was stopped.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("a server that runs")
    }

    /// Ends the server as a crash does: nothing is said, nothing is taken away.
    pub fn crash(mut self) {
        drop(self.server.take());
    }

    /// Stops the server in order.
    pub async fn stop(mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }
}

#[expect(clippy::expect_used, reason = "a test fails by panicking")]
async fn found(
    stores: &Stores,
    options: &TestServerOptions,
    clock: &dyn Clock,
    random: &dyn SecureRandom,
) -> Option<Arc<PrivateKey>> {
    let site = Site { stores, clock, random };
    let (_, sealer) = ensure_keyring(site, &*options.wrap, "test", Vec::new()).await.expect("a keyring");
    if !stores.issuers.list_issuers().await.expect("issuers").is_empty() {
        return None;
    }
    let algorithm = algorithm(options.profile);
    let issuing = IssuingKey::Sealed(algorithm);
    let root = PrivateKey::generate(algorithm).expect("a key");
    let secret = options.single_ca.then(|| root.to_pkcs8());
    let single = secret.as_ref();
    let plan = CaPlan { environment: "test", root: &root, single, issuing, replace: false };
    ensure_ca(site, &sealer, &plan).await.expect("a CA");
    Some(Arc::new(root))
}

#[expect(clippy::expect_used, reason = "a test fails by panicking")]
async fn issue(app: &App, id: &PrincipalId, profile: TlsProfile) -> Credentials {
    let key = PrivateKey::generate(algorithm(profile)).expect("a key");
    let issued = app.issue_for(id, &key, false).await.expect("a certificate");
    let mut chain = vec![issued.certificate.der];
    if !issued.chain_pem.is_empty() {
        chain.extend(certificates_from_pem(issued.chain_pem.as_bytes()).expect("a chain"));
    }
    Credentials { id: id.clone(), chain, key: Arc::new(key) }
}

const fn algorithm(profile: TlsProfile) -> KeyAlgorithm {
    match profile {
        TlsProfile::Default => KeyAlgorithm::EcdsaP256,
        TlsProfile::P384 => KeyAlgorithm::EcdsaP384,
    }
}

fn serve_options(options: &TestServerOptions) -> ServeOptions {
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let unless_open = (!options.no_auth).then_some(free);
    ServeOptions {
        proxies: options.proxies.clone(),
        api_addr: free,
        grpc_addr: options.has_grpc_listener.then_some(free),
        public_addr: unless_open,
        plain_addr: free,
        metrics_addr: unless_open,
        profile: options.profile,
        tls: TlsSource::Own,
        names: TlsNames {
            dns: "localhost".parse().into_iter().collect(),
            addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        },
        rates: options.rates,
        limits: options.limits.clone(),
        stranger_limits: options.stranger_limits.clone(),
        body_timeout: options.body_timeout,
        streams_per_principal: options.streams_per_principal,
        no_auth: options.no_auth,
    }
}

#[expect(clippy::expect_used, reason = "a test fails by panicking")]
fn settings(options: &TestServerOptions, addresses: Addresses) -> Settings {
    Settings {
        trust_domain: "test.airunner".parse().expect("a trust domain"),
        oid_arc: OidArc::default(),
        accepted_keys: match options.profile {
            TlsProfile::Default => AcceptedKeys::default(),
            TlsProfile::P384 => AcceptedKeys::p384_profile(),
        },
        validity: BTreeMap::new(),
        overlap: options.overlap,
        on_fork: options.on_fork,
        unique_jobs: false,
        job_validity: airunner_app::job::certificate::MAX_VALIDITY,
        server_names: Vec::new(),
        server_addresses: Vec::new(),
        api_address: addresses.api.to_string(),
        public_address: addresses.public.map(|address| address.to_string()).unwrap_or_default(),
    }
}
