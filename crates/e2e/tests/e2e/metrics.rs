//! What the metrics say: in a form that Prometheus reads, and each moves when what it counts happens.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use airunner_core::PrincipalType;
use airunner_e2e::{TestServer, TestServerOptions, http};
use airunner_host::config::Rate;
use airunner_proto::principal::v1::{
    self as principal, ActivatePrincipalRequest, ActivatePrincipalResponse, CreatePrincipalResponse,
    SuspendPrincipalRequest, SuspendPrincipalResponse,
};
use airunner_server::router::RateLimits;
use airunner_store::{SqliteOptions, SqliteStore};
use tonic::Code;

use crate::{calls::*, worker::*};

/// The metrics of a server, read as Prometheus reads them.
struct Exposition {
    /// By family: its type.
    types: BTreeMap<String, String>,
    /// By name and labels, as they are written.
    samples: Vec<(String, f64)>,
}

impl Exposition {
    async fn of(server: &TestServer) -> Self {
        let answer = http(server.addresses.metrics.unwrap(), "GET", "/metrics", &[]).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        Self::parse(&answer.body)
    }

    /// Reads the text. Every family is described before its samples, once, and they stand together.
    fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").unwrap();
        let mut found = Self { types: BTreeMap::new(), samples: Vec::new() };
        let (mut help, mut family) = (None, String::new());
        for line in body.lines() {
            if let Some(described) = line.strip_prefix("# HELP ") {
                let (name, words) = described.split_once(' ').unwrap();
                assert!(!words.is_empty(), "{name} is not explained");
                help = Some(name.to_owned());
            } else if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, kind) = typed.split_once(' ').unwrap();
                assert_eq!(help.take().as_deref(), Some(name), "help and type are of one family");
                assert!(
                    found.types.insert(name.to_owned(), kind.to_owned()).is_none(),
                    "{name} stands twice"
                );
                name.clone_into(&mut family);
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                let suffix =
                    name.strip_prefix(&family).unwrap_or_else(|| panic!("{name} stands under {family}"));
                let fits = match found.types[&family].as_str() {
                    "counter" => suffix == "_total",
                    "gauge" => suffix.is_empty(),
                    "histogram" => ["_sum", "_count", "_bucket"].contains(&suffix),
                    other => panic!("{family} is a {other}"),
                };
                assert!(fits, "{name} is no sample of {family}");
                found.samples.push((series.to_owned(), value.parse().unwrap()));
            }
        }
        found
    }

    fn find(&self, series: &str) -> Option<f64> {
        self.samples.iter().find(|(name, _)| name == series).map(|(_, value)| *value)
    }

    fn value(&self, series: &str) -> f64 {
        self.find(series).unwrap_or_else(|| panic!("there is no {series}"))
    }

    fn count(&self, series: &str) -> u64 {
        let value = self.value(series);
        assert!(value >= 0.0 && value.fract() == 0.0, "{series} is {value}");
        format!("{value}").parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_text_is_one_that_prometheus_reads_and_every_name_says_its_unit() {
    let server = TestServer::start().await;
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    enqueue(&user, job("true")).await;
    let all = Exposition::of(&server).await;
    for (name, kind) in &all.types {
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert!(kind != "histogram" || name.ends_with("_seconds"), "{name} has no unit");
        assert!(!name.ends_with("_total") && !name.contains("millis"), "{name}");
    }
    // Buckets grow up to the count, which is that of the last.
    let mut last = (String::new(), 0.0);
    for (series, value) in &all.samples {
        let Some((name, labels)) = series.split_once("_bucket{") else { continue };
        let (before, bound) = labels.split_once("le=\"").unwrap();
        let (bound, after) = bound.split_once('"').unwrap();
        let rest = format!("{before}{after}");
        let rest = rest.trim_end_matches('}').trim_matches(',');
        let labels = if rest.is_empty() { String::new() } else { format!("{{{rest}}}") };
        let histogram = format!("{name}{labels}");
        if last.0 == histogram {
            assert!(*value >= last.1, "{series} is less than the bucket before it");
        }
        last = (histogram, *value);
        if bound == "+Inf" {
            assert_eq!(all.value(&format!("{name}_count{labels}")).to_bits(), value.to_bits(), "{series}");
        }
    }
    for (name, kind) in [
        ("airunner_request_seconds", "histogram"),
        ("airunner_revocation_lag_seconds", "histogram"),
        ("airunner_queue_wait_seconds", "histogram"),
        ("airunner_store_seconds", "histogram"),
        ("airunner_store_errors", "counter"),
        ("airunner_clock_skew_seconds", "gauge"),
        ("airunner_issuer_expiry_days", "gauge"),
        ("cert_expiry_days", "gauge"),
        ("mtls_auth", "counter"),
    ] {
        assert_eq!(all.types.get(name).map(String::as_str), Some(kind), "{name}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_is_counted_with_its_lag_when_it_is_in_force_and_its_end_is_not() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    client(&server, "u1", PrincipalType::User).await;
    let count = async || Exposition::of(&server).await.count("airunner_revocation_lag_seconds_count");
    assert_eq!(count().await, 0);
    let principal_id = "u1".to_owned();
    let request = SuspendPrincipalRequest { principal_id: principal_id.clone(), reason: String::new() };
    let _: SuspendPrincipalResponse = admin.ask(SUSPEND, &request).await;
    // The call returns when the denial is in force.
    assert_eq!(count().await, 1);
    let request = ActivatePrincipalRequest { principal_id };
    let _: ActivatePrincipalResponse = admin.ask(ACTIVATE, &request).await;
    assert_eq!(count().await, 1);
    let sum = Exposition::of(&server).await.value("airunner_revocation_lag_seconds_sum");
    assert!(sum < 1.0, "{sum} s");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_s_wait_is_counted_when_a_worker_has_it() {
    let server = TestServer::start().await;
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    enqueue(&user, job("true")).await;
    server.clock.jump(3_000);
    assert_eq!(Exposition::of(&server).await.count("airunner_queue_wait_seconds_count"), 0, "it waits still");
    let mut worker = Worker::open(client(&server, "w1", PrincipalType::Worker).await.0).await;
    worker.claim().await;
    let all = Exposition::of(&server).await;
    assert_eq!(all.count("airunner_queue_wait_seconds_count"), 1);
    let waited = all.value("airunner_queue_wait_seconds_sum");
    assert!((3.0..13.0).contains(&waited), "{waited} s");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_is_measured_by_what_it_is_asked_for() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let asked = async || {
        let all = Exposition::of(&server).await;
        all.find(r#"airunner_store_seconds_count{intent="list_tokens"}"#)
    };
    assert_eq!(asked().await, None, "what was never asked for has no series");
    let request = new_principal("u1", principal::PrincipalType::User);
    let _: CreatePrincipalResponse = admin.ask(CREATE_PRINCIPAL, &request).await;
    for expected in [1.0, 2.0] {
        assert_eq!(admin.probe(LIST_TOKENS).await.unwrap().code, Code::Ok);
        assert_eq!(asked().await, Some(expected));
    }
    let all = Exposition::of(&server).await;
    assert!(all.value(r#"airunner_store_seconds_sum{intent="list_tokens"}"#) > 0.0);
    // A refusal is none of the store's faults.
    let taken = admin.call(CREATE_PRINCIPAL, &request).await.unwrap();
    assert_eq!(taken.code, Code::AlreadyExists);
    for label in ["store-unavailable", "store-full", "internal"] {
        assert_eq!(all.count(&format!(r#"airunner_store_errors_total{{label="{label}"}}"#)), 0);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_is_counted_and_keeps_the_metrics_from_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        SqliteStore::open(SqliteOptions::new(dir.path().join("s.db"), dir.path().join("out"))).unwrap();
    let options = TestServerOptions { stores: Some(store.stores()), ..Default::default() };
    let server = TestServer::start_with(options).await;
    let admin = admin(&server).await;
    assert_eq!(admin.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    assert!(Exposition::of(&server).await.find(r#"airunner_jobs{state="scheduled"}"#).is_some());
    store.close();
    let failures = async || {
        let all = Exposition::of(&server).await;
        (all.count(r#"airunner_store_errors_total{label="store-unavailable"}"#), all)
    };
    let (before, _) = failures().await;
    assert_eq!(admin.probe(LIST_PRINCIPALS).await.unwrap().label, "store-unavailable");
    let (after, all) = failures().await;
    assert!(after > before);
    assert_eq!(all.find(r#"airunner_jobs{state="scheduled"}"#), None, "what can't be counted is not made up");
    assert_eq!(all.count("airunner_live_connections"), 1);
    server.crash();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_s_skew_is_told_with_its_sign() {
    let server = TestServer::start().await;
    let skew = async || {
        server.app.fleet.beat().await.unwrap();
        Exposition::of(&server).await.value("airunner_clock_skew_seconds")
    };
    assert!(skew().await.abs() < 1.0);
    server.clock.jump(-10_000);
    let behind = skew().await;
    assert!((-10.5..-5.0).contains(&behind), "{behind}");
    server.clock.jump(10_000);
    assert!(skew().await.abs() < 1.0);
    server.clock.jump(60_000);
    let ahead = skew().await;
    assert!((59.0..61.0).contains(&ahead), "{ahead}");
    server.clock.jump(-60_000);
    assert!(skew().await.abs() < 1.0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_those_who_come_too_fast_count_as_such() {
    let rate = Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::new(3).unwrap() };
    let rates =
        RateLimits { per_principal: Some(rate), public_per_address: Some(rate), ..Default::default() };
    let server = TestServer::start_with(TestServerOptions { rates, ..Default::default() }).await;
    let count = async || Exposition::of(&server).await.count("airunner_rate_limited_total");
    let admin = admin(&server).await;
    let large = admin.call_bytes(CREATE_PRINCIPAL, &vec![0; 5 << 20]).await.unwrap();
    assert_eq!((large.code, large.label.as_str()), (Code::ResourceExhausted, "too-large"));
    assert_eq!(count().await, 0);
    let fast = tokio::time::timeout(Duration::from_secs(10), async {
        while admin.probe(WHO_AM_I).await.unwrap().label != "rate-limited" {}
    });
    fast.await.unwrap();
    assert_eq!(count().await, 1);
    let plain = tokio::time::timeout(Duration::from_secs(10), async {
        while http(server.addresses.plain, "GET", "/health", &[]).await.unwrap().status != 429 {}
    });
    plain.await.unwrap();
    assert_eq!(count().await, 2);
    server.stop().await;
}
