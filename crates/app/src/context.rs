//! What every use case works with: stores, time, randomness, settings, keys, and the view of what is denied.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use airunner_core::{
    Clock, DnsName, Durations, Error, Label, Principal, PrincipalType, Result, SecureRandom, Stores,
    Timestamp, TrustDomain,
};
use airunner_pki::{AcceptedKeys, OidArc};

use crate::{
    issuer::Issuers, issuer::OutsideKeys, job::hub::JobHub, job::task_token::TaskTokens, live::Live,
    recent::RecentPrincipals, seal::Sealer, status::StatusView, steady::SteadyClock,
};

/// What to do when a predecessor is renewed by a second key after its successor was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFork {
    /// Refuse, audit and count it.
    #[default]
    Refuse,
    /// Suspend the principal too: one of the two keys is a thief's.
    Suspend,
}

/// Settings of the use cases, validated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The authority of the environment's SPIFFE ids.
    pub trust_domain: TrustDomain,
    /// Under which the private extensions stand.
    pub oid_arc: OidArc,
    /// Subject keys that are accepted.
    pub accepted_keys: AcceptedKeys,
    /// Life of leaves by type, where the principal sets none.
    pub validity: BTreeMap<PrincipalType, Duration>,
    /// How long a predecessor goes on counting after its renewal.
    pub overlap: Duration,
    /// What a forked lineage leads to.
    pub on_fork: OnFork,
    /// Refuse every job whose like waits or runs.
    pub unique_jobs: bool,
    /// Life of the certificates of jobs, where the owner's is not shorter.
    pub job_validity: Duration,
    /// Names of the server, which no principal may have.
    pub server_names: Vec<DnsName>,
    /// Addresses in the server's certificate.
    pub server_addresses: Vec<IpAddr>,
    /// `host:port` of the API listener, as others reach it.
    pub api_address: String,
    /// `host:port` of the public listener, as others reach it.
    pub public_address: String,
}

impl Settings {
    /// The shortest life of a leaf.
    pub const MIN_VALIDITY: Duration = Duration::from_mins(5);
    /// The longest life of a leaf, and the default.
    pub const MAX_VALIDITY: Duration = Duration::from_hours(90 * 24);
    /// The default overlap of a predecessor with its successor.
    pub const DEFAULT_OVERLAP: Duration = Duration::from_hours(1);

    /// How long a leaf of `principal` lives: what it sets, else its type's.
    pub fn validity_of(&self, principal: &Principal) -> Duration {
        let of_type = || self.validity.get(&principal.principal_type).copied().unwrap_or(Self::MAX_VALIDITY);
        principal.validity.unwrap_or_else(of_type)
    }
}

/// What is counted for the metrics.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each counts what its name says, since the start")]
pub struct Counters {
    pub forged: AtomicU64,
    pub forked: AtomicU64,
    pub issued: AtomicU64,
    pub renewed: AtomicU64,
    pub enrolled: AtomicU64,
    pub revoked: AtomicU64,
    pub leases_expired: AtomicU64,
    /// From the writing of a denial to its being in force here.
    pub revocation_lag: Durations<1_000>,
    /// How long jobs were visible in their queue before a worker had them.
    pub queue_wait: Durations<10_000>,
}

/// What every use case works with.
pub(crate) struct Context {
    pub(crate) stores: Stores,
    pub(crate) clock: Arc<dyn Clock>,
    /// The same, for whoever judges clocks.
    pub(crate) steady: Arc<SteadyClock>,
    pub(crate) random: Arc<dyn SecureRandom>,
    pub(crate) settings: Settings,
    pub(crate) sealer: Sealer,
    pub(crate) task_tokens: TaskTokens,
    pub(crate) issuers: Issuers,
    pub(crate) outside: OutsideKeys,
    pub(crate) live: Arc<Live>,
    pub(crate) status: StatusView,
    pub(crate) recent: RecentPrincipals,
    pub(crate) jobs: JobHub,
    pub(crate) counters: Counters,
    pub(crate) local_principal: OnceLock<Arc<Principal>>,
}

impl Context {
    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// How often an intent is tried when another write comes between reading and writing.
const ATTEMPTS: u32 = 5;

/// Runs `act` again while it fails with `version-conflict`: it reads anew each time.
pub(crate) async fn retrying<T, F, Fut>(mut act: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    for _ in 1..ATTEMPTS {
        match act().await {
            Err(error) if error.label() == Label::VersionConflict => {}
            other => return other,
        }
    }
    act().await
}

/// Reads a principal that must be there.
pub(crate) async fn principal(context: &Context, id: &airunner_core::PrincipalId) -> Result<Principal> {
    context.stores.principals.get_principal(id).await?.ok_or_else(|| Error::not_found("principal", id))
}
