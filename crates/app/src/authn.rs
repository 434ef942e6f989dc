//! Authentication: from what TLS verified to a [`Caller`], once per connection, against the store.
//! The only constructors of `Caller` are here.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use airunner_core::{
    Certificate, CertificateRef, CertifiedJob, Clock, EnrolScope, Error, Fingerprint, Identity, Label,
    Principal, PrincipalId, PrincipalStatus, PrincipalType, Result, Role, Serial, Timestamp,
};
use airunner_pki::parse_certificate;
use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use crate::{authz::PermissionSet, context::Context, live::LiveGuard};

/// A client certificate whose chain and possession TLS has verified in this connection's handshake, and where the
/// connection comes from. Only the listener may make one.
#[derive(Clone, Debug)]
pub struct VerifiedPeer {
    /// The leaf, DER.
    pub certificate: Vec<u8>,
    /// The peer's address, for the audit log.
    pub address: String,
}

/// Whom `--no-auth` takes everyone for.
pub const LOCAL_PRINCIPAL: &str = "local";

/// Proof that a listener is bound to a loopback address; what `--no-auth` takes instead of a certificate.
#[derive(Clone, Copy, Debug)]
pub struct LoopbackListener(());

impl LoopbackListener {
    /// The proof, if `address` is a loopback address.
    ///
    /// # Errors
    /// `config` for any other address.
    pub fn new(address: std::net::SocketAddr) -> Result<Self> {
        if address.ip().is_loopback() {
            return Ok(Self(()));
        }
        Err(Error::new(
            Label::Config,
            format!("--no-auth serves loopback addresses only, and {address} is none"),
        ))
    }
}

/// What a connection's certificate claims, before the store has been asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The certificate.
    pub certificate: CertificateRef,
    /// The principal that it names.
    pub principal_id: PrincipalId,
}

/// Why a connection no longer counts.
#[derive(Clone, Debug)]
pub struct Denial {
    /// The label that every further call gets.
    pub label: Label,
    /// The sentence that goes with it.
    pub message: String,
}

impl Denial {
    /// The error that every further call gets.
    pub fn error(&self) -> Error {
        Error::new(self.label, self.message.clone())
    }
}

struct Grant {
    principal: Principal,
    roles: BTreeSet<Role>,
    permissions: PermissionSet,
    /// The job that calls for the principal.
    job: Option<CertifiedJob>,
}

impl Grant {
    /// What the principal may do; a job of its own may do of it what it was granted.
    fn new(principal: Principal, job: Option<CertifiedJob>) -> Self {
        let roles = principal.effective_roles();
        let own = PermissionSet::of_roles(&roles);
        let permissions = job.as_ref().map_or(own, |job| own.granted(&job.grants));
        Self { principal, roles, permissions, job }
    }
}

/// The standing of one connection: granted, and at some time denied for good. Shared by the connection, its streams
/// and the registry of live connections.
pub struct Standing {
    claim: Claim,
    address: String,
    fingerprint: Fingerprint,
    grant: ArcSwapOption<Grant>,
    denial: OnceLock<Denial>,
    wake: Notify,
    expires_at: AtomicI64,
    retire_at: AtomicI64,
    refreshed: AtomicU64,
    changes: AtomicU64,
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing")
            .field("claim", &self.claim)
            .field("denial", &self.denial.get())
            .finish_non_exhaustive()
    }
}

impl Standing {
    fn new(claim: Claim, address: String, fingerprint: Fingerprint, expires_at: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            claim,
            address,
            fingerprint,
            grant: ArcSwapOption::empty(),
            denial: OnceLock::new(),
            wake: Notify::new(),
            expires_at: AtomicI64::new(expires_at.as_millis()),
            retire_at: AtomicI64::new(i64::MAX),
            refreshed: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        })
    }

    /// What the certificate claims.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The principal as it is known here, once it is.
    pub(crate) fn principal(&self) -> Option<Principal> {
        self.grant.load().as_ref().map(|grant| grant.principal.clone())
    }

    /// Denies the connection because its certificate was revoked.
    pub(crate) fn deny_as_revoked(&self) {
        let of_job = self.grant.load().as_ref().is_some_and(|grant| grant.job.is_some());
        self.deny(Label::CertificateRevoked, if of_job { JOB_ENDED } else { REVOKED });
    }

    /// Counts what was applied to this standing.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(SeqCst)
    }

    /// What the principal is, once it is known.
    pub fn principal_type(&self) -> Option<PrincipalType> {
        self.grant.load().as_ref().map(|grant| grant.principal.principal_type)
    }

    /// The caller of a request that arrived at `now`: an atomic load and two comparisons.
    ///
    /// # Errors
    /// The label of the denial, for every request after it.
    pub fn caller(self: &Arc<Self>, now: Timestamp, request_id: &Arc<str>) -> Result<Caller> {
        self.check_time(now);
        if let Some(denial) = self.denial.get() {
            return Err(denial.error());
        }
        let grant =
            self.grant.load_full().ok_or_else(|| Error::internal("a request came before authentication"))?;
        Ok(Caller { standing: Some(self.clone()), grant, request_id: request_id.clone() })
    }

    /// Takes the connection's authority away for good; the first denial stands.
    pub fn deny(&self, label: Label, message: impl Into<String>) {
        if self.denial.set(Denial { label, message: message.into() }).is_ok() {
            self.wake.notify_waiters();
        }
    }

    /// The denial, once there is one.
    pub fn denial(&self) -> Option<&Denial> {
        self.denial.get()
    }

    /// Returns when the connection is denied.
    pub async fn denied(&self) -> &Denial {
        loop {
            let woken = self.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            if let Some(denial) = self.denial.get() {
                return denial;
            }
            woken.await;
        }
    }

    /// Denies the connection if its certificate's time, or its overlap's, is over.
    pub fn check_time(&self, now: Timestamp) {
        if now.as_millis() >= self.expires_at.load(SeqCst) {
            self.deny(
                Label::CertificateExpired,
                "the certificate has expired: enrol again, or have an admin issue one",
            );
        } else if now.as_millis() >= self.retire_at.load(SeqCst) {
            self.deny(
                Label::CertificateRetired,
                "the certificate was renewed and its overlap is over: use its successor",
            );
        }
    }

    /// Ends the connection at `at`, when its certificate's overlap with its successor does.
    pub fn retire_at(&self, at: Timestamp) {
        self.retire_at.fetch_min(at.as_millis(), SeqCst);
    }

    /// Whether the store should be asked again: true at most once in `every`.
    pub(crate) fn is_due(&self, now: Timestamp, every: Duration) -> bool {
        let now = u64::try_from(now.as_millis()).unwrap_or(0);
        let last = self.refreshed.load(SeqCst);
        u128::from(now.saturating_sub(last)) >= every.as_millis()
            && self.refreshed.compare_exchange(last, now, SeqCst, SeqCst).is_ok()
    }

    /// Takes in what the principal is now: its status, its roles, or that it is gone.
    pub(crate) fn apply_principal(&self, principal: Option<&Principal>) {
        self.changes.fetch_add(1, SeqCst);
        match principal.map(|principal| (principal, examine_status(principal))) {
            Some((principal, Ok(()))) => {
                // A standing that is still being read from the store gets its grant there.
                if let Some(grant) = &*self.grant.load() {
                    self.grant.store(Some(Arc::new(Grant::new(principal.clone(), grant.job.clone()))));
                }
            }
            Some((_, Err(denial))) => self.deny(denial.label, denial.message),
            None => self
                .deny(Label::PrincipalDeleted, format!("the principal {} is gone", self.claim.principal_id)),
        }
    }

    /// Takes in what the store says of the identity now.
    pub(crate) fn update(
        &self,
        identity: Option<&Identity>,
        principal_type: Option<PrincipalType>,
        now: Timestamp,
    ) {
        self.refreshed.store(u64::try_from(now.as_millis()).unwrap_or(0), SeqCst);
        match identity {
            None => self.deny(
                Label::UnknownCertificate,
                "this registry does not know the certificate: enrol, or have an admin register it",
            ),
            Some(identity) => {
                if let Err(denial) = examine(identity, &self.claim, self.fingerprint, principal_type) {
                    return self.deny(denial.label, denial.message);
                }
                if let Some(at) = identity.certificate.retire_at {
                    self.retire_at(at);
                }
                self.check_time(now);
                let job = identity.certificate.job.clone();
                self.grant.store(Some(Arc::new(Grant::new(identity.principal.clone(), job))));
            }
        }
    }
}

/// Everything that the store can say against a certificate, in the order in which it is said.
fn examine(
    identity: &Identity,
    claim: &Claim,
    fingerprint: Fingerprint,
    principal_type: Option<PrincipalType>,
) -> Result<(), Denial> {
    let Identity { certificate, principal } = identity;
    let deny = |label, message: String| Err(Denial { label, message });
    let same_type = principal_type.is_none_or(|claimed| claimed == certificate.principal_type);
    if certificate.fingerprint != fingerprint
        || certificate.principal_id != claim.principal_id
        || !same_type
        || certificate.principal_type != principal.principal_type
    {
        return deny(
            Label::IdentityMismatch,
            "the certificate and its record differ: have an admin issue a new one".to_owned(),
        );
    }
    if certificate.revocation.is_some() {
        let why = if certificate.job.is_some() { JOB_ENDED } else { REVOKED };
        return deny(Label::CertificateRevoked, why.to_owned());
    }
    examine_status(principal)
}

fn examine_status(principal: &Principal) -> Result<(), Denial> {
    let (label, message) = match principal.status {
        PrincipalStatus::Active => return Ok(()),
        PrincipalStatus::Suspended => (Label::PrincipalSuspended, suspended_message(principal)),
        PrincipalStatus::Deleted => {
            (Label::PrincipalDeleted, format!("the principal {} was deleted", principal.id))
        }
    };
    Err(Denial { label, message })
}

/// What the holder of a revoked certificate is told.
const REVOKED: &str = "the certificate was revoked: ask an admin for an enrolment token";

/// What a job is told whose certificate no longer counts.
const JOB_ENDED: &str = "the job's certificate was revoked, as it is when the job ends";

/// What a suspended principal, whose identity is proven, is told.
fn suspended_message(principal: &Principal) -> String {
    let reason = if principal.suspended_reason.is_empty() {
        String::new()
    } else {
        format!(" ({})", principal.suspended_reason)
    };
    format!("the principal {} is suspended{reason}: an admin can activate it", principal.id)
}

/// Who makes a call: a principal by a certificate that counted when the request arrived. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    standing: Option<Arc<Standing>>,
    grant: Arc<Grant>,
    request_id: Arc<str>,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({})", self.principal_id())
    }
}

impl Caller {
    /// The principal's id.
    pub fn principal_id(&self) -> &PrincipalId {
        &self.grant.principal.id
    }

    /// The principal as it was when the connection opened or its roles last changed.
    pub fn principal(&self) -> &Principal {
        &self.grant.principal
    }

    /// Which of the principal's jobs calls, if it is one.
    pub fn job(&self) -> Option<&CertifiedJob> {
        self.grant.job.as_ref()
    }

    /// Its roles.
    pub fn roles(&self) -> &BTreeSet<Role> {
        &self.grant.roles
    }

    /// What they allow.
    pub fn permissions(&self) -> PermissionSet {
        self.grant.permissions
    }

    /// Whom it may enrol, if it is an enroller.
    pub fn enrol_scope(&self) -> Option<&EnrolScope> {
        self.grant.principal.enrol_scope.as_ref()
    }

    /// The certificate that the connection was opened with; none for `--no-auth`'s caller.
    pub fn certificate(&self) -> Option<CertificateRef> {
        self.standing.as_ref().map(|standing| standing.claim.certificate)
    }

    /// The connection's standing: long-running calls end with it.
    pub fn standing(&self) -> Option<&Arc<Standing>> {
        self.standing.as_ref()
    }

    /// The certificate's serial number in hex, or nothing.
    pub fn certificate_serial(&self) -> String {
        self.certificate().map(|certificate| certificate.serial.to_string()).unwrap_or_default()
    }

    /// Where the call came from.
    pub fn address(&self) -> &str {
        self.standing.as_ref().map_or("", |standing| &standing.address)
    }

    /// The request's id, for the log and the audit log.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Fails once the caller's authority is gone; for the steps of a long-running call.
    ///
    /// # Errors
    /// The label of the denial.
    pub fn check(&self, now: Timestamp) -> Result<()> {
        let Some(standing) = &self.standing else { return Ok(()) };
        standing.check_time(now);
        standing.denial().map_or(Ok(()), |denial| Err(denial.error()))
    }

    /// A caller for tests: no certificate stands behind it, and it holds exactly `permissions`.
    #[cfg(feature = "test-callers")]
    pub fn for_test(principal: Principal, permissions: PermissionSet) -> Self {
        let roles = principal.effective_roles();
        Self {
            standing: None,
            grant: Arc::new(Grant { principal, roles, permissions, job: None }),
            request_id: "test".into(),
        }
    }
}

#[cfg(all(feature = "test-callers", not(debug_assertions)))]
compile_error!("test-callers makes callers that nobody authenticated: it must not be in a release build");

/// Turns connections into callers.
pub struct Authenticator {
    context: Arc<Context>,
}

/// A connection that may be served: its standing, and its place in the registry of live connections.
#[derive(Debug)]
pub struct Connection {
    /// Its standing, granted or denied.
    pub standing: Arc<Standing>,
    _live: LiveGuard,
}

impl Authenticator {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Authenticates a connection: enter the live registry, then read the store, then serve. So a denial that commits
    /// at any moment is either seen by the read or finds the connection. An identity that is refused gets a standing
    /// that is denied, so that every call on the connection says why.
    ///
    /// # Errors
    /// `store-unavailable` and the like; a certificate that can't be read at all.
    pub async fn connection(&self, peer: VerifiedPeer) -> Result<Connection> {
        let context = &self.context;
        let parsed = parse_certificate(&peer.certificate, &context.settings.oid_arc)?;
        let issuer = parsed.authority_key_id.as_deref().and_then(|key| context.issuers.id_of_key(key));
        let Some(issuer_id) = issuer else {
            return Err(Error::new(Label::IssuerDistrusted, "the certificate's issuer is not trusted here"));
        };
        let certificate = CertificateRef { issuer_id, serial: parsed.serial };
        let Some((principal_type, principal_id)) = parsed.principal else {
            return Ok(self.anonymous_refusal(certificate, &peer, parsed.fingerprint, parsed.not_after));
        };
        let claim = Claim { certificate, principal_id };
        let standing = Standing::new(claim, peer.address, parsed.fingerprint, parsed.not_after);
        let live = context.live.enter(&standing);
        let identity = self.read(&standing, Some(principal_type)).await?;
        if let Some(identity) = identity {
            self.note_first_use(&standing, &identity.certificate).await?;
        } else {
            context.counters.forged.fetch_add(1, SeqCst);
            tracing::error!(serial = %certificate.serial, principal = %standing.claim.principal_id,
                address = %standing.address, "a certificate with a good signature that the registry does not know");
        }
        Ok(Connection { standing, _live: live })
    }

    /// Reads the identity, again if a change of its principal was applied meanwhile: the read may be older than that.
    async fn read(
        &self,
        standing: &Standing,
        principal_type: Option<PrincipalType>,
    ) -> Result<Option<Identity>> {
        loop {
            let before = standing.changes();
            let identity = self.context.stores.certificates.identity(&standing.claim.certificate).await?;
            standing.update(identity.as_ref(), principal_type, self.context.clock.now());
            if standing.changes() == before {
                return Ok(identity);
            }
        }
    }

    /// The fixed caller of `--no-auth`: `local`, an admin.
    pub fn loopback(&self, _listener: LoopbackListener, request_id: &Arc<str>) -> Caller {
        let grant =
            self.context.local_principal.get_or_init(|| Arc::new(local_principal(&*self.context.clock)));
        Caller {
            standing: None,
            grant: Arc::new(Grant::new((**grant).clone(), None)),
            request_id: request_id.clone(),
        }
    }

    fn anonymous_refusal(
        &self,
        certificate: CertificateRef,
        peer: &VerifiedPeer,
        fingerprint: Fingerprint,
        not_after: Timestamp,
    ) -> Connection {
        // Our profiles put the extensions into every leaf of a principal, so this one is not a principal's.
        let claim = Claim { certificate, principal_id: nobody() };
        let standing = Standing::new(claim, peer.address.clone(), fingerprint, not_after);
        standing.deny(Label::IdentityMismatch, "the certificate names no principal of this environment");
        let live = self.context.live.enter(&standing);
        Connection { standing, _live: live }
    }

    async fn note_first_use(&self, standing: &Standing, certificate: &Certificate) -> Result<()> {
        if certificate.first_seen_at.is_some() || standing.denial().is_some() {
            return Ok(());
        }
        let now = self.context.clock.now();
        if !self.context.stores.certificates.mark_seen(&standing.claim.certificate, now).await? {
            standing.deny(Label::CertificateRevoked, "the certificate was replaced before its first use");
        }
        Ok(())
    }
}

#[expect(clippy::expect_used, reason = "the literal is a valid id, as a test shows")]
fn nobody() -> PrincipalId {
    "nobody".parse().expect("a literal id")
}

#[expect(clippy::expect_used, reason = "the literal is a valid id, as a test shows")]
fn local_principal(clock: &dyn Clock) -> Principal {
    crate::principal::new_principal(
        LOCAL_PRINCIPAL.parse().expect("a literal id"),
        PrincipalType::Admin,
        clock.now(),
        "server",
    )
}

/// SHA-256 over the issuer's DER and the serial number: names a certificate across issuers.
pub fn certificate_hash(issuer_der: &[u8], serial: &Serial) -> Fingerprint {
    let mut bytes = issuer_der.to_vec();
    bytes.extend_from_slice(serial.as_bytes());
    Fingerprint::from_bytes(airunner_pki::sha256(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_literal_ids_are_ids() {
        assert_eq!(nobody().as_str(), "nobody");
        assert!(LOCAL_PRINCIPAL.parse::<PrincipalId>().is_ok());
    }

    #[test]
    fn only_loopback_listeners_serve_without_authentication() {
        assert!(LoopbackListener::new(([127, 0, 0, 1], 8443).into()).is_ok());
        assert!(LoopbackListener::new(([0, 0, 0, 0], 8443).into()).is_err());
        assert!(LoopbackListener::new(([192, 168, 1, 1], 8443).into()).is_err());
    }
}
