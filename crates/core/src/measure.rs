//! What is measured where it happens: durations and failures, counted by atomics alone, so that measuring costs next to
//! nothing. How they are shown is the server's business.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{Label, Result};

/// Buckets of a [`Durations`], the one without a bound left out.
const BUCKETS: usize = 20;

/// Durations, counted in buckets: the first holds those of at most `FIRST` microseconds, each further one those of at
/// most twice as long as the one before.
#[derive(Debug)]
pub struct Durations<const FIRST: u64> {
    /// The last holds what is longer than every bound.
    counts: [AtomicU64; BUCKETS + 1],
    sum_micros: AtomicU64,
}

impl<const FIRST: u64> Default for Durations<FIRST> {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)), sum_micros: AtomicU64::new(0) }
    }
}

impl<const FIRST: u64> Durations<FIRST> {
    /// Counts one.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[Self::bucket(micros)].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(micros, Relaxed);
    }

    /// How many there were of each bucket, by its bound in seconds; the last bound is infinite.
    pub fn counts(&self) -> Vec<(f64, u64)> {
        let bounds = (0..BUCKETS).map(|n| Duration::from_micros(FIRST << n).as_secs_f64());
        bounds.chain([f64::INFINITY]).zip(self.counts.iter().map(|count| count.load(Relaxed))).collect()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros.load(Relaxed))
    }

    fn bucket(micros: u64) -> usize {
        let firsts = micros.div_ceil(FIRST).max(1);
        // The exponent of the next power of two.
        let doublings = (u64::BITS - (firsts - 1).leading_zeros()) as usize;
        doublings.min(BUCKETS)
    }
}

macro_rules! intents {
    ($($name:ident = $text:literal,)+) => {
        /// What a store is asked for: a method of one of its ports.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is the method of its name")]
        pub enum Intent { $($name,)+ }

        impl Intent {
            /// Every intent there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The method's name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

intents! {
    CreatePrincipal = "create_principal",
    GetPrincipal = "get_principal",
    ListPrincipals = "list_principals",
    UpdatePrincipal = "update_principal",
    SetRoles = "set_roles",
    SetStatus = "set_status",
    RecordIssued = "record_issued",
    Identity = "identity",
    Identities = "identities",
    MarkSeen = "mark_seen",
    GetBySerial = "get_by_serial",
    GetByFingerprint = "get_by_fingerprint",
    ListCertificates = "list_certificates",
    WouldRevoke = "would_revoke",
    Revoke = "revoke",
    NearestExpiries = "nearest_expiries",
    CreateToken = "create_token",
    GetToken = "get_token",
    ListTokens = "list_tokens",
    DeleteToken = "delete_token",
    FoundCa = "found_ca",
    SucceedIssuer = "succeed_issuer",
    ListIssuers = "list_issuers",
    CreateKeyring = "create_keyring",
    AddDataKey = "add_data_key",
    GetKeyring = "get_keyring",
    EnqueueJobs = "enqueue_jobs",
    LeaseJobs = "lease_jobs",
    ExtendLeases = "extend_leases",
    CompleteJobs = "complete_jobs",
    CancelJob = "cancel_job",
    WriteInput = "write_input",
    InputsAfter = "inputs_after",
    EndLeasesOf = "end_leases_of",
    ExpireLeases = "expire_leases",
    GetJob = "get_job",
    ListJobs = "list_jobs",
    JobControls = "job_controls",
    NextVisible = "next_visible",
    CountJobs = "count_jobs",
    Publish = "publish",
    EventsAfter = "events_after",
    LastPublished = "last_published",
    AppendOutput = "append_output",
    OutputAfter = "output_after",
    LastOutput = "last_output",
    AppendChange = "append_change",
    RecordAudit = "record_audit",
    TailAudit = "tail_audit",
    AuditAfter = "audit_after",
    ChangesAfter = "changes_after",
    Denials = "denials",
    PruneChanges = "prune_changes",
    Heartbeat = "heartbeat",
    Servers = "servers",
    Leave = "leave",
    PruneServers = "prune_servers",
    HoldHousekeeping = "hold_housekeeping",
    ResetTime = "reset_time",
}

/// What was asked of a store that answers over a network.
#[derive(Debug, Default)]
pub struct Traffic {
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    /// Adds requests, each try counted, and the bytes of their bodies and of the answers'.
    pub fn add(&self, requests: u64, sent: u64, received: u64) {
        self.requests.fetch_add(requests, Relaxed);
        self.sent.fetch_add(sent, Relaxed);
        self.received.fetch_add(received, Relaxed);
    }

    /// Requests, bytes sent and bytes received so far.
    pub fn totals(&self) -> (u64, u64, u64) {
        (self.requests.load(Relaxed), self.sent.load(Relaxed), self.received.load(Relaxed))
    }
}

/// How a store does: how long it takes for each intent, and how often it failed. An intent that was refused, by a
/// conflict or a limit, is no failure of the store.
#[derive(Debug)]
pub struct StoreMeasures {
    /// By intent: a number that fits the enumeration.
    latency: [Durations<50>; Intent::ALL.len()],
    failures: [AtomicU64; Self::FAILURES.len()],
    traffic: [Traffic; Intent::ALL.len()],
    unanswering: Mutex<BTreeSet<&'static str>>,
}

impl Default for StoreMeasures {
    fn default() -> Self {
        Self {
            latency: std::array::from_fn(|_| Durations::default()),
            failures: std::array::from_fn(|_| AtomicU64::new(0)),
            traffic: std::array::from_fn(|_| Traffic::default()),
            unanswering: Mutex::default(),
        }
    }
}

impl StoreMeasures {
    /// The labels of what counts as a failure of the store.
    pub const FAILURES: &'static [Label] = &[Label::StoreUnavailable, Label::StoreFull, Label::Internal];

    /// Waits for an intent, from its asking to its answer, and counts it. One that is given up before is not counted.
    ///
    /// # Errors
    /// Those of `act`.
    pub async fn observe<T>(&self, intent: Intent, act: impl Future<Output = Result<T>>) -> Result<T> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a measurement decides nothing, and no test sets its time"
        )]
        let began = Instant::now();
        let result = act.await;
        self.latency(intent).record(began.elapsed());
        if let Err(error) = &result
            && let Some(n) = Self::FAILURES.iter().position(|label| *label == error.label())
        {
            self.failures[n].fetch_add(1, Relaxed);
        }
        result
    }

    /// Notes whether a part of the store, a table of it, answers.
    pub fn note_answering(&self, part: &'static str, answers: bool) {
        let mut unanswering = self.unanswering.lock().unwrap_or_else(PoisonError::into_inner);
        if answers {
            unanswering.remove(part);
        } else {
            unanswering.insert(part);
        }
    }

    /// The parts of the store that do not answer: what needs them is refused at once, and this server is not ready.
    pub fn unanswering(&self) -> Vec<&'static str> {
        self.unanswering.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// How long an intent takes.
    pub fn latency(&self, intent: Intent) -> &Durations<50> {
        &self.latency[intent as usize]
    }

    /// What an intent asked of a store that answers over a network; nothing of one that is here.
    pub fn traffic(&self, intent: Intent) -> &Traffic {
        &self.traffic[intent as usize]
    }

    /// How often the store failed, by label.
    pub fn failures(&self) -> impl Iterator<Item = (Label, u64)> {
        Self::FAILURES.iter().copied().zip(self.failures.iter().map(|count| count.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_at_the_first_bound_that_it_does_not_pass() {
        let bucket = |micros| {
            let durations = Durations::<50>::default();
            durations.record(Duration::from_micros(micros));
            assert_eq!(durations.sum(), Duration::from_micros(micros));
            let (bound, _) = durations.counts().into_iter().find(|(_, count)| *count == 1).unwrap();
            bound
        };
        for (micros, bound) in [
            (0, 0.000_05),
            (50, 0.000_05),
            (51, 0.000_1),
            (100, 0.000_1),
            (101, 0.000_2),
            (150, 0.000_2),
            (50 << 19, 26.214_4),
            ((50 << 19) + 1, f64::INFINITY),
            (u64::MAX, f64::INFINITY),
        ] {
            let found = bucket(micros);
            let is_same = (found - bound).abs() < 1e-9 || (found.is_infinite() && bound.is_infinite());
            assert!(is_same, "{micros} us are counted at {found} s");
        }
    }
}
