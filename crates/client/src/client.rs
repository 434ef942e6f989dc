//! The client: typed services over one channel, and the identity that it shows.

use std::{fmt, sync::Arc, time::Duration};

use airunner_core::{Clock, Error as CoreError, Label, SecureRandom};
use airunner_net::{
    ClientTls, TlsProfile, client_config,
    system::{SystemClock, SystemRandom},
};
use airunner_pki::certificates_from_pem;
use airunner_proto::{
    audit::v1::audit_service_client::AuditServiceClient,
    ca::v1::{
        certificate_service_client::CertificateServiceClient,
        enrollment_service_client::EnrollmentServiceClient, issuer_service_client::IssuerServiceClient,
    },
    job::v1::{job_events_service_client::JobEventsServiceClient, job_service_client::JobServiceClient},
    principal::v1::principal_service_client::PrincipalServiceClient,
};
use arc_swap::ArcSwapOption;
use rustls::ClientConfig;
use tokio::{sync::watch, task::spawn_blocking};
use tonic_health::pb::health_client::HealthClient;

use crate::{Channel, Endpoint, IdentitySource, LoadedIdentity, Result, channel::Patience};

/// How long a call may take where nothing else is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may be silent where nothing else is said.
pub(crate) const DEFAULT_SILENCE: Duration = Duration::from_secs(25);

/// What a client is made of. [`ClientOptions::new`] fills in what is usual.
#[derive(Clone)]
pub struct ClientOptions {
    /// Where the server listens.
    pub server: Endpoint,
    /// The roots under which the server's certificate must stand, PEM. Empty: those that come with the identity.
    /// The system's own are never used.
    pub roots_pem: Vec<u8>,
    /// What the client shows; without it only the public listener answers.
    pub identity: Option<IdentitySource>,
    /// What TLS it allows.
    pub profile: TlsProfile,
    /// How long a call may take that answers at once, and how long a stream may take to begin. `Request::set_timeout`
    /// says otherwise for one call; for `StartJob`, which waits for a worker, only that does.
    pub timeout: Duration,
    /// How long a server may leave pings unanswered before its connection counts as lost, with every call on it: those
    /// that have no time of their own end so. Half of it is the time between pings.
    pub silence: Duration,
    /// Connections that requests are spread over: 1 is right for all but load tests.
    pub connections: usize,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where chance comes from.
    pub random: Arc<dyn SecureRandom>,
}

impl ClientOptions {
    /// The usual client of `server`.
    pub fn new(server: Endpoint, roots_pem: impl Into<Vec<u8>>, identity: Option<IdentitySource>) -> Self {
        Self {
            server,
            roots_pem: roots_pem.into(),
            identity,
            profile: TlsProfile::Default,
            timeout: DEFAULT_TIMEOUT,
            silence: DEFAULT_SILENCE,
            connections: 1,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom::new()),
        }
    }
}

/// A client of an airunner server. Clones share connections and identity; any number of tasks may use them at once.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    inner: Arc<Inner>,
}

struct Inner {
    profile: TlsProfile,
    roots: Vec<Vec<u8>>,
    identity: ArcSwapOption<LoadedIdentity>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom>,
}

impl Client {
    /// A client that connects with its first call. Reads the identity's files, so it blocks shortly, and for tenths of a
    /// second where the key is encrypted; in async code use [`Client::connect`].
    ///
    /// # Errors
    /// `file` where identity or roots can't be used, saying which and why.
    pub fn new(options: ClientOptions) -> Result<Self> {
        let identity = options.identity.map(IdentitySource::load).transpose()?;
        let roots = match options.roots_pem.as_slice() {
            [] => Vec::new(),
            pem => roots_of(pem)?,
        };
        let config = config(options.profile, &roots, identity.as_ref(), &options.clock)?;
        let (timeout, silence, connections) = (options.timeout, options.silence, options.connections);
        let patience = Patience { timeout, silence };
        let clock = options.clock;
        Ok(Self {
            channel: Channel::new(options.server, config, connections, patience, Arc::clone(&clock)),
            inner: Arc::new(Inner {
                profile: options.profile,
                roots,
                identity: ArcSwapOption::from_pointee(identity),
                clock,
                random: options.random,
            }),
        })
    }

    /// A client whose first connection stands. That the server refuses its certificate is known with the first call
    /// only (RFC 8446 section 4.4.2.4).
    ///
    /// # Errors
    /// As [`Client::new`]; `unreachable` where the server can't be reached or verified.
    pub async fn connect(options: ClientOptions) -> Result<Self> {
        let made = spawn_blocking(move || Self::new(options)).await;
        let client = made.map_err(CoreError::internal)??;
        client.channel.open().await?;
        Ok(client)
    }

    /// Principals, and who the caller is.
    pub fn principals(&self) -> PrincipalServiceClient<Channel> {
        PrincipalServiceClient::new(self.channel.clone())
    }

    /// Certificates and the trust bundle.
    pub fn certificates(&self) -> CertificateServiceClient<Channel> {
        CertificateServiceClient::new(self.channel.clone())
    }

    /// Enrolment tokens. To redeem one, see [`crate::enroll()`].
    pub fn enrollments(&self) -> EnrollmentServiceClient<Channel> {
        EnrollmentServiceClient::new(self.channel.clone())
    }

    /// The CAs themselves.
    pub fn issuers(&self) -> IssuerServiceClient<Channel> {
        IssuerServiceClient::new(self.channel.clone())
    }

    /// Jobs.
    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    /// What happens to jobs and what they print. To follow one, see [`crate::follow_job`].
    pub fn events(&self) -> JobEventsServiceClient<Channel> {
        JobEventsServiceClient::new(self.channel.clone())
    }

    /// The audit log.
    pub fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel.clone())
    }

    /// The standard health service.
    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    /// Where the server listens.
    pub fn endpoint(&self) -> &Endpoint {
        self.channel.endpoint()
    }

    /// What this client shows.
    pub fn identity(&self) -> Option<Arc<LoadedIdentity>> {
        self.inner.identity.load_full()
    }

    /// What TLS this client allows.
    pub fn profile(&self) -> TlsProfile {
        self.inner.profile
    }

    /// Shows `identity` from the next request on, over a new connection, and trusts the roots that come with it where
    /// the client was given none of its own. Requests under way stay on the old connection, which ends with the last of
    /// them.
    ///
    /// # Errors
    /// `file` where the TLS profile does not allow it; nothing is changed then.
    pub fn replace_identity(&self, identity: LoadedIdentity) -> Result<()> {
        let config = config(self.inner.profile, &self.inner.roots, Some(&identity), &self.inner.clock)?;
        self.inner.identity.store(Some(Arc::new(identity)));
        self.channel.replace(config);
        Ok(())
    }

    /// Tells of each [`Client::replace_identity`]: whoever holds a stream should open it anew then, since a stream ends
    /// with the certificate on which it was opened.
    pub fn identity_changes(&self) -> watch::Receiver<u64> {
        self.channel.generations()
    }

    /// The client's clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// The client's randomness.
    pub fn random(&self) -> &Arc<dyn SecureRandom> {
        &self.inner.random
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.endpoint())
    }
}

/// The certificates of a trust bundle.
pub(crate) fn roots_of(pem: &[u8]) -> Result<Vec<Vec<u8>>> {
    certificates_from_pem(pem).map_err(|error| {
        CoreError::new(Label::File, format!("the trust bundle can't be used: {error}"))
            .with_cause(error)
            .into()
    })
}

fn config(
    profile: TlsProfile,
    roots: &[Vec<u8>],
    identity: Option<&LoadedIdentity>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>> {
    let roots = match (roots, identity) {
        ([], Some(identity)) => identity.roots(),
        (roots, _) => roots,
    };
    let identity = identity.map(|identity| identity.tls(profile)).transpose()?;
    Ok(client_config(ClientTls { profile, roots: roots.to_vec(), identity }, Arc::clone(clock))?)
}
