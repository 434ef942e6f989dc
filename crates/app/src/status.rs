//! The status view: this server's cache of every denial in force, fed by the change feed. The store is the truth;
//! a view that has not heard the feed for too long vouches for nobody.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use airunner_core::{
    CertificateRef, Change, ChangeBatch, ChangeKind, ChangeNumber, DenialSnapshot, Error, Label, PrincipalId,
    PrincipalStatus, Result,
};
use tokio::sync::Mutex;

use crate::context::Context;

/// Changes read at a time.
const BATCH: u32 = 500;
/// After this long without a successful poll new connections are refused.
pub const SILENT_AFTER: Duration = Duration::from_secs(2);
/// After this long requests on live connections are refused too.
pub const STALE_AFTER: Duration = Duration::from_secs(5);

/// How well the view knows what is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The feed was heard within 2 s.
    Fresh,
    /// Not within 2 s: no new connections.
    Silent,
    /// Not within 5 s: no requests either.
    Stale,
}

/// The denials that this server knows of.
#[derive(Debug, Default)]
pub struct StatusView {
    principals: RwLock<HashMap<PrincipalId, PrincipalStatus>>,
    revoked: RwLock<HashSet<CertificateRef>>,
    applied: AtomicU64,
    heard_at: AtomicU64,
    applying: Mutex<()>,
    /// Passes through the feed that have begun, and the last one that has ended well.
    begun: AtomicU64,
    ended: AtomicU64,
}

impl StatusView {
    /// Whether this certificate is revoked. Asked in the handshake.
    pub fn is_revoked(&self, certificate: &CertificateRef) -> bool {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).contains(certificate)
    }

    /// The last change that is in force here.
    pub fn applied(&self) -> ChangeNumber {
        self.applied.load(SeqCst)
    }

    /// How many principals and certificates are denied.
    pub fn len(&self) -> (usize, usize) {
        let principals = self.principals.read().unwrap_or_else(PoisonError::into_inner).len();
        (principals, self.revoked.read().unwrap_or_else(PoisonError::into_inner).len())
    }

    fn replace(&self, snapshot: DenialSnapshot) {
        *self.principals.write().unwrap_or_else(PoisonError::into_inner) =
            snapshot.principals.into_iter().collect();
        *self.revoked.write().unwrap_or_else(PoisonError::into_inner) =
            snapshot.certificates.into_iter().collect();
        self.applied.store(snapshot.number, SeqCst);
    }

    fn note(&self, kind: &ChangeKind) {
        match kind {
            ChangeKind::Principal { id, status } => {
                let mut principals = self.principals.write().unwrap_or_else(PoisonError::into_inner);
                match status {
                    PrincipalStatus::Active => principals.remove(id),
                    status => principals.insert(id.clone(), *status),
                };
            }
            ChangeKind::Certificate { reference, revoked } => {
                let mut set = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
                let _ = if *revoked { set.insert(*reference) } else { set.remove(reference) };
            }
            ChangeKind::Issuers => {}
        }
    }
}

/// Follows the change feed for as long as the server runs.
pub struct Follower {
    context: Arc<Context>,
}

impl Follower {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// How well this server knows what is denied.
    pub fn freshness(&self) -> Freshness {
        freshness(&self.context)
    }

    /// Follows the feed until it is dropped.
    pub async fn run(&self) {
        loop {
            let heard = match self.context.stores.changes.wait().await {
                Ok(()) => catch_up(&self.context).await,
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                tracing::warn!(?error, "the change feed can't be read");
                self.context.clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Fails once the feed has been silent for as long as `limit` allows.
///
/// # Errors
/// `feed-stale`.
pub(crate) fn require_fresh(context: &Context, worst: Freshness) -> Result<()> {
    let freshness = freshness(context);
    if freshness == Freshness::Fresh || (freshness == Freshness::Silent && worst == Freshness::Silent) {
        return Ok(());
    }
    Err(Error::new(
        Label::FeedStale,
        "this server has lost touch with its store and can't vouch for anyone: try another, or again in a moment",
    )
    .with_retry_after(Duration::from_secs(1)))
}

pub(crate) fn freshness(context: &Context) -> Freshness {
    let heard = Duration::from_millis(context.status.heard_at.load(SeqCst));
    let silence = context.clock.monotonic().since(airunner_core::Monotonic::new(heard));
    match silence {
        silence if silence < SILENT_AFTER => Freshness::Fresh,
        silence if silence < STALE_AFTER => Freshness::Silent,
        _ => Freshness::Stale,
    }
}

/// Applies everything that the feed has beyond what is applied. When this returns, what was committed before it was
/// called is in force here: the view knows it and live connections have been cut.
pub(crate) async fn catch_up(context: &Context) -> Result<()> {
    let status = &context.status;
    let begun = status.begun.load(SeqCst);
    let _applying = status.applying.lock().await;
    // A pass that began after this call has seen all that was committed before it: many callers share one.
    if status.ended.load(SeqCst) > begun {
        return Ok(());
    }
    let pass = status.begun.fetch_add(1, SeqCst) + 1;
    apply_all(context).await?;
    status.ended.store(pass, SeqCst);
    Ok(())
}

async fn apply_all(context: &Context) -> Result<()> {
    loop {
        let asked_at = context.clock.monotonic();
        let batch = context.stores.changes.changes_after(context.status.applied(), BATCH).await?;
        match batch {
            ChangeBatch::Pruned => reload(context).await?,
            ChangeBatch::Changes(changes) => {
                let full = changes.len() == BATCH as usize;
                for change in &changes {
                    apply(context, change).await?;
                }
                if !full {
                    let since_start = asked_at.since(airunner_core::Monotonic::default());
                    let heard = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX);
                    context.status.heard_at.fetch_max(heard, SeqCst);
                    return Ok(());
                }
            }
        }
    }
}

/// Loads every denial anew: at the start, and when the log was pruned past what is applied.
pub(crate) async fn reload(context: &Context) -> Result<()> {
    let snapshot = context.stores.changes.denials(context.now()).await?;
    let (principals, certificates) = (snapshot.principals.clone(), snapshot.certificates.clone());
    context.status.replace(snapshot);
    context.issuers.reload(&context.stores, &context.sealer, &context.outside).await?;
    for (id, _) in principals {
        cut_principal(context, &id).await?;
    }
    for certificate in certificates {
        cut_certificate(context, &certificate);
    }
    Ok(())
}

async fn apply(context: &Context, change: &Change) -> Result<()> {
    context.status.note(&change.kind);
    match &change.kind {
        ChangeKind::Principal { id, .. } => cut_principal(context, id).await?,
        ChangeKind::Certificate { reference, revoked: true } => cut_certificate(context, reference),
        ChangeKind::Certificate { revoked: false, .. } => {}
        ChangeKind::Issuers => {
            context.issuers.reload(&context.stores, &context.sealer, &context.outside).await?;
            distrust(context);
        }
    }
    context.status.applied.store(change.number, SeqCst);
    if is_denial(&change.kind) {
        context.counters.revocation_lag.record(context.now().since(change.at));
    }
    Ok(())
}

fn is_denial(kind: &ChangeKind) -> bool {
    match kind {
        ChangeKind::Principal { status, .. } => *status != PrincipalStatus::Active,
        ChangeKind::Certificate { revoked, .. } => *revoked,
        ChangeKind::Issuers => false,
    }
}

/// Brings a principal's live connections in line with its record, and takes the leases of one that is denied.
async fn cut_principal(context: &Context, id: &PrincipalId) -> Result<()> {
    let live = context.live.of_principal(id);
    let principal = context.stores.principals.get_principal(id).await?;
    for standing in live {
        standing.apply_principal(principal.as_ref());
    }
    if principal.is_none_or(|principal| principal.status != PrincipalStatus::Active) {
        crate::job::end_leases_of(context, id).await?;
    }
    Ok(())
}

fn cut_certificate(context: &Context, certificate: &CertificateRef) {
    for standing in context.live.of_certificate(certificate) {
        standing.deny_as_revoked();
    }
}

fn distrust(context: &Context) {
    let set = context.issuers.current();
    let anchors: HashSet<_> = set.anchors().into_iter().collect();
    for standing in context.live.all() {
        let issuer = set.get(&standing.claim().certificate.issuer_id);
        if issuer.is_none_or(|issuer| !anchors.contains(&issuer.record.der)) {
            standing
                .deny(Label::IssuerDistrusted, "the certificate's issuer is no longer trusted: enrol again");
        }
    }
}
