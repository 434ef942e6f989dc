//! What is measured, in the Prometheus exposition format. Counts that belong to use cases are kept there and read
//! when they are asked for.

mod measured;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use airunner_app::App;
use airunner_core::{Certificate, Error, JobState, PrincipalType, Result, Timestamp};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Metric, Registry},
};
use tokio::time::timeout;

use measured::Measured;

/// Certificates whose expiry is told, the nearest first.
const NEAREST: u32 = 1_000;
/// How long the store may take to count jobs and certificates.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Auth {
    result: String,
    principal_type: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Type {
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Rpc {
    path: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RpcOutcome {
    path: String,
    status: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Expiry {
    principal_id: String,
    serial: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct IssuerLabel {
    issuer: String,
}

/// Reads a count that a use case keeps.
type ReadTotal = fn(&App) -> u64;

type Latency = Family<Rpc, Histogram, fn() -> Histogram>;

/// The metrics of one server.
pub struct Metrics {
    app: Arc<App>,
    registry: Mutex<Registry>,
    auth: Family<Auth, Counter>,
    cache_hits: Family<Type, Counter>,
    requests: Family<RpcOutcome, Counter>,
    latency: Latency,
    rate_limited: Counter,
    handshakes_refused: Counter,
    known: Vec<String>,
    live: Gauge,
    output_kept: Gauge,
    denied_principals: Gauge,
    revoked: Gauge,
    jobs: Family<State, Gauge>,
    expiry: Family<Expiry, Gauge<f64, std::sync::atomic::AtomicU64>>,
    issuer_expiry: Family<IssuerLabel, Gauge<f64, std::sync::atomic::AtomicU64>>,
    totals: Vec<(Counter, ReadTotal)>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Metrics at zero, with what `app` measures by itself. `known` are the paths that get a series of their own; a
    /// stranger's path gets none.
    pub fn new(app: Arc<App>, known: impl IntoIterator<Item = String>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Measured(app.clone())));
        let latency =
            Latency::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_25, 2.0, 18)));
        let metrics = Self {
            app,
            auth: registered(&mut registry, "mtls_auth", "Connections, by how their authentication ended"),
            cache_hits: registered(
                &mut registry,
                "mtls_cache_hits",
                "Requests served by a connection's identity",
            ),
            requests: registered(
                &mut registry,
                "airunner_requests",
                "Requests, by method and how they ended",
            ),
            rate_limited: registered(
                &mut registry,
                "airunner_rate_limited",
                "Requests refused for coming too fast",
            ),
            handshakes_refused: registered(
                &mut registry,
                "airunner_connections_refused",
                "Connections that ended in their handshake",
            ),
            live: registered(
                &mut registry,
                "airunner_live_connections",
                "Authenticated connections that are open",
            ),
            output_kept: registered(
                &mut registry,
                "airunner_output_kept_bytes",
                "Bytes of output that are kept, as of the last time that this server went through all of it",
            ),
            denied_principals: registered(
                &mut registry,
                "airunner_denied_principals",
                "Principals suspended or deleted, as this server knows",
            ),
            revoked: registered(
                &mut registry,
                "airunner_revoked_certificates",
                "Unexpired revoked certificates, as this server knows",
            ),
            jobs: registered(&mut registry, "airunner_jobs", "Jobs, by state"),
            expiry: registered(&mut registry, "cert_expiry_days", "Days until expiry, the nearest 1,000"),
            issuer_expiry: registered(
                &mut registry,
                "airunner_issuer_expiry_days",
                "Days until an issuer expires",
            ),
            totals: totals(&mut registry),
            latency: latency.clone(),
            known: known.into_iter().collect(),
            registry: Mutex::default(),
        };
        registry.register("airunner_request_seconds", "How long requests took, streams included", latency);
        Self { registry: Mutex::new(registry), ..metrics }
    }

    /// A connection was authenticated, or was not: `result` is `ok` or a label.
    pub fn authenticated(&self, result: &str, principal_type: Option<PrincipalType>) {
        let principal_type = principal_type.map_or("unknown", PrincipalType::as_str).to_owned();
        self.auth.get_or_create(&Auth { result: result.to_owned(), principal_type }).inc();
    }

    /// A connection ended in its handshake.
    pub fn handshake_refused(&self) {
        self.handshakes_refused.inc();
    }

    pub(crate) fn cache_hit(&self, principal_type: PrincipalType) {
        self.cache_hits.get_or_create(&Type { r#type: principal_type.as_str() }).inc();
    }

    /// A request was refused for coming too fast.
    pub(crate) fn rate_limited(&self) {
        self.rate_limited.inc();
    }

    pub(crate) fn request(&self, path: &str, status: &str, took: Duration) {
        let path = if self.known.iter().any(|known| known == path) { path } else { "other" }.to_owned();
        self.latency.get_or_create(&Rpc { path: path.clone() }).observe(took.as_secs_f64());
        self.requests.get_or_create(&RpcOutcome { path, status: status.to_owned() }).inc();
    }

    /// Everything, in the text format. What the store would have to count is left out while it does not answer: that
    /// is when the rest matters most.
    ///
    /// # Errors
    /// `internal`, by no fault of the store's.
    pub async fn render(&self) -> Result<String> {
        let counted = match timeout(PATIENCE, Counted::read(&self.app)).await {
            Ok(Ok(counted)) => counted,
            failed => {
                tracing::warn!(error = ?failed.map(Result::err), "jobs and certificates can't be counted");
                Counted::default()
            }
        };
        // Two that ask at once see each its own.
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.show_own();
        self.show(&counted);
        let mut text = String::new();
        encode(&mut text, &registry).map_err(Error::internal)?;
        Ok(text)
    }

    /// Shows what is known without asking the store.
    fn show_own(&self) {
        let app = &self.app;
        let now = app.clock().now();
        self.live.set(i64::try_from(app.live().len()).unwrap_or(i64::MAX));
        let (principals, certificates) = app.status().len();
        self.denied_principals.set(i64::try_from(principals).unwrap_or(i64::MAX));
        self.revoked.set(i64::try_from(certificates).unwrap_or(i64::MAX));
        let kept = app.counters().output_kept_bytes.load(Relaxed);
        self.output_kept.set(i64::try_from(kept).unwrap_or(i64::MAX));
        self.issuer_expiry.clear();
        for issuer in app.issuers().current().issuers() {
            let labels = IssuerLabel { issuer: issuer.record.id.to_string() };
            self.issuer_expiry.get_or_create(&labels).set(days(now, issuer.record.expires_at));
        }
        for (counter, read) in &self.totals {
            counter.inc_by(read(app).saturating_sub(counter.get()));
        }
    }

    fn show(&self, counted: &Counted) {
        self.jobs.clear();
        for (state, count) in &counted.jobs {
            let labels = State { state: state.as_str() };
            self.jobs.get_or_create(&labels).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        let now = self.app.clock().now();
        self.expiry.clear();
        for certificate in &counted.nearest {
            let labels = Expiry {
                principal_id: certificate.principal_id.to_string(),
                serial: certificate.serial.to_string(),
            };
            self.expiry.get_or_create(&labels).set(days(now, certificate.expires_at));
        }
    }
}

/// What the store counts when it is asked.
#[derive(Default)]
struct Counted {
    jobs: Vec<(JobState, u64)>,
    nearest: Vec<Certificate>,
}

impl Counted {
    async fn read(app: &App) -> Result<Self> {
        let counts = app.stores().jobs.count_jobs().await?;
        let count = |state: &JobState| counts.get(state).copied().unwrap_or(0);
        let nearest = app.stores().certificates.nearest_expiries(app.clock().now(), NEAREST).await?;
        Ok(Self { jobs: JobState::ALL.iter().map(|state| (*state, count(state))).collect(), nearest })
    }
}

/// A metric at zero, in the registry.
fn registered<M: Clone + Default + Metric>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn totals(registry: &mut Registry) -> Vec<(Counter, ReadTotal)> {
    let all: [(&str, &str, ReadTotal); 9] = [
        ("airunner_forged", "Well-signed certificates that the registry does not know", |app| {
            app.counters().forged.load(Relaxed)
        }),
        ("airunner_lineage_forks", "Renewals refused because the lineage was forked", |app| {
            app.counters().forked.load(Relaxed)
        }),
        ("airunner_certificates_issued", "Certificates issued to admins' requests", |app| {
            app.counters().issued.load(Relaxed)
        }),
        ("airunner_certificates_renewed", "Certificates renewed", |app| app.counters().renewed.load(Relaxed)),
        ("airunner_certificates_enrolled", "Certificates issued for enrolment tokens", |app| {
            app.counters().enrolled.load(Relaxed)
        }),
        ("airunner_certificates_revoked", "Certificates revoked", |app| app.counters().revoked.load(Relaxed)),
        ("airunner_leases_expired", "Leases that ran out", |app| app.counters().leases_expired.load(Relaxed)),
        ("airunner_jobs_pruned", "Jobs deleted because they were kept for long enough", |app| {
            app.counters().jobs_pruned.load(Relaxed)
        }),
        ("airunner_output_pruned_bytes", "Bytes of output that were let go by age or by the total", |app| {
            app.counters().output_pruned_bytes.load(Relaxed)
        }),
    ];
    all.into_iter().map(|(name, help, read)| (registered(registry, name, help), read)).collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "days of a certificate's life are far below 2^52 milliseconds"
)]
fn days(now: Timestamp, then: Timestamp) -> f64 {
    (then.as_millis() - now.as_millis()) as f64 / 86_400_000.0
}
