//! What each listener serves, to whom, how often, and how it goes away.

use std::{net::SocketAddr, num::NonZeroU32};

use airunner_core::PrincipalType;
use airunner_e2e::{HttpAnswer, RawClient, TestServer, TestServerOptions, http, https};
use airunner_host::config::Rate;
use airunner_proto::{
    job::v1::{
        PublishEventsRequest, PublishEventsResponse, StartJobRequest, StartJobResponse,
        dequeue_jobs_response::Message,
    },
    principal::v1::{WhoAmIRequest, WhoAmIResponse},
};
use airunner_server::router::RateLimits;
use prost::Message as _;
use tonic::Code;

use crate::{calls::*, worker::*};

async fn get(address: SocketAddr, path: &str) -> HttpAnswer {
    http(address, "GET", path, &[]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plain_listener_says_whether_the_server_lives_and_is_ready() {
    let server = TestServer::start().await;
    let plain = server.addresses.plain;
    let health = get(plain, "/health").await;
    assert_eq!((health.status.as_u16(), health.body.as_str()), (200, r#"{"status":"ok"}"#));
    assert_eq!(health.header("content-type"), "application/json");
    for path in ["/ready", "/ready?verbose"] {
        let ready = get(plain, path).await;
        assert_eq!((ready.status.as_u16(), ready.body.as_str()), (200, "ready\n"), "{path}");
    }
    server.app.fleet.drain();
    let draining = get(plain, "/ready?verbose").await;
    assert_eq!(
        (draining.status.as_u16(), draining.body.as_str()),
        (503, "draining\n"),
        "a word, and no more"
    );
    assert_eq!(get(plain, "/health").await.status, 200, "it lives all the same");
    for path in ["/", "/metrics", "/health/", "/HEALTH", "/v1/health", "/ready/x", "/openapi.json"] {
        assert_eq!(get(plain, path).await.status, 404, "{path}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_listener_says_what_is_wrong_and_counts() {
    let server = TestServer::start().await;
    let metrics = server.addresses.metrics.unwrap();
    let admin = admin(&server).await;
    assert_eq!(admin.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    enqueue(&user, job("true")).await;
    let answer = get(metrics, "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    for line in [
        r#"mtls_auth_total{result="ok",principal_type="admin"} 1"#,
        r#"mtls_cache_hits_total{type="admin"} 1"#,
        r#"cert_expiry_days{principal_id="admin",serial=""#,
        "airunner_live_connections 2",
        r#"airunner_jobs{state="scheduled"} 1"#,
        r#"airunner_jobs{state="running"} 0"#,
        "airunner_leases_expired_total 0",
        "airunner_jobs_pruned_total 0",
        "airunner_output_pruned_bytes_total 0",
        "airunner_output_kept_bytes 0",
        "airunner_rate_limited_total 0",
        "airunner_forged_total 0",
        "airunner_lineage_forks_total 0",
        "airunner_certificates_issued_total 0",
        r#"airunner_issuer_expiry_days{issuer=""#,
        r"airunner_request_seconds_bucket{le=",
        r#"airunner_requests_total{path="/airunner.principal.v1.PrincipalService/WhoAmI",status="0"} 1"#,
        "# EOF",
    ] {
        assert!(answer.body.lines().any(|one| one.starts_with(line)), "no {line} in {}", answer.body);
    }
    assert_eq!(get(metrics, "/ready?verbose").await.body, "ready\n");
    server.app.fleet.drain();
    let draining = get(metrics, "/ready?verbose").await;
    assert_eq!(
        (draining.status.as_u16(), draining.body.as_str()),
        (503, "draining\ndraining: this server is shutting down\n")
    );
    for path in ["/", "/health", "/metrics/"] {
        assert_eq!(get(metrics, path).await.status, 404, "{path}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_of_a_strangers_own_gets_no_series_of_its_own() {
    let server = TestServer::start().await;
    let anyone = server.connect_public().await;
    assert_eq!(anyone.probe("/made.up.Service/Nothing").await.unwrap().code, Code::Unimplemented);
    let body = get(server.addresses.metrics.unwrap(), "/metrics").await.body;
    assert!(!body.contains("made.up") && body.contains(r#"path="other""#), "{body}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_is_all_that_the_open_listeners_allow() {
    let server = TestServer::start().await;
    let metrics = server.addresses.metrics.unwrap();
    for (address, path) in
        [(server.addresses.plain, "/health"), (server.addresses.plain, "/ready"), (metrics, "/metrics")]
    {
        let head = http(address, "HEAD", path, &[]).await.unwrap();
        assert_eq!((head.status.as_u16(), head.body.as_str()), (200, ""), "{path}");
        for verb in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let refused = http(address, verb, path, &[]).await.unwrap();
            assert_eq!(
                (refused.status.as_u16(), refused.header("allow")),
                (405, "GET, HEAD"),
                "{verb} {path}"
            );
        }
    }
    // An RPC is a POST of gRPC.
    let tls = server.tls(Some(&server.admin));
    for verb in ["GET", "HEAD", "PUT", "OPTIONS"] {
        let refused = https(&tls, server.addresses.api, verb, WHO_AM_I, &[]).await.unwrap();
        assert_eq!((refused.status.as_u16(), refused.header("allow")), (405, "POST"), "{verb}");
    }
    let refused =
        https(&tls, server.addresses.api, "POST", WHO_AM_I, &[("content-type", "text/xml")]).await.unwrap();
    assert_eq!(refused.status, 415);
    assert_eq!(https(&tls, server.addresses.api, "GET", "/nothing", &[]).await.unwrap().status, 404);
    server.stop().await;
}

/// Headers of requests that pages of other sites send, and whether a listener that has no `Host` rule lets them pass.
const CROSS_SITE: &[(&[(&str, &str)], bool)] = &[
    (&[("sec-fetch-site", "cross-site")], false),
    (&[("sec-fetch-site", "same-site")], false),
    (&[("sec-fetch-site", "nonsense")], false),
    (&[("origin", "https://evil.example")], false),
    (&[("origin", "null")], false),
    (&[("origin", "https://localhost.evil.example")], false),
    (&[("origin", "https://192.168.7.7:8443")], false),
    (&[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")], false),
    (&[("host", "evil.example")], true),
    (&[("host", "localhost.evil.example:8443")], true),
];

/// Headers of requests that are our own, or no page's.
const OWN: &[&[(&str, &str)]] = &[
    &[],
    &[("sec-fetch-site", "none")],
    &[("sec-fetch-site", "same-origin"), ("origin", "https://localhost:8443"), ("host", "localhost:8443")],
    &[("host", "localhost:8443")],
    &[("host", "LOCALHOST")],
    &[("host", "127.0.0.1")],
    &[("host", "10.1.2.3:8443")],
    &[("host", "[::1]:8443")],
];

fn check_no_cors(answer: &HttpAnswer) {
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_other_sites_are_refused_over_tls() {
    let server = TestServer::start().await;
    let (known, nobody) = (server.tls(Some(&server.admin)), server.tls(None));
    for (tls, address) in [(known, server.addresses.api), (nobody, server.addresses.public.unwrap())] {
        for verb in ["GET", "POST", "OPTIONS"] {
            for (headers, _) in CROSS_SITE {
                let answer = https(&tls, address, verb, TRUST_BUNDLE, headers).await.unwrap();
                assert_eq!(answer.status, 403, "{verb} {headers:?}");
                assert!(answer.body.contains(r#""label":"cross-site""#), "{}", answer.body);
                check_no_cors(&answer);
            }
        }
        for headers in OWN {
            let answer = https(&tls, address, "GET", "/nothing", headers).await.unwrap();
            assert_eq!(answer.status, 404, "{headers:?}");
            check_no_cors(&answer);
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_other_sites_are_refused_over_http_2() {
    let server = TestServer::start().await;
    for client in [admin(&server).await, server.connect_public().await] {
        for (headers, _) in CROSS_SITE {
            // In HTTP/2 the host is a pseudo-header.
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (if *name == "host" { ":authority" } else { *name }, *value))
                .collect();
            let answer = client.send_with("POST", TRUST_BUNDLE, &headers, &WhoAmIRequest {}).await.unwrap();
            assert_eq!(answer.status(), 403, "{headers:?}");
        }
        let answer =
            client.send_with("POST", TRUST_BUNDLE, &[(":authority", "localhost")], &WhoAmIRequest {}).await;
        assert_eq!(answer.unwrap().status(), 200);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_open_listeners_refuse_other_sites_by_their_origin_alone() {
    let server = TestServer::start().await;
    for (address, path) in
        [(server.addresses.plain, "/health"), (server.addresses.metrics.unwrap(), "/metrics")]
    {
        for (headers, passes) in CROSS_SITE {
            let answer = http(address, "GET", path, headers).await.unwrap();
            assert_eq!(answer.status.as_u16(), if *passes { 200 } else { 403 }, "{headers:?}");
            check_no_cors(&answer);
        }
        for headers in OWN {
            let answer = http(address, "GET", path, headers).await.unwrap();
            assert_eq!(answer.status, 200, "{headers:?}");
        }
    }
    server.stop().await;
}

/// One a second, after a burst.
fn bucket(burst: u32) -> Option<Rate> {
    Some(Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::new(burst)? })
}

/// Calls until the call is refused for coming too fast.
async fn calls_until_refused(client: &RawClient) -> u32 {
    for passed in 0..100 {
        let answer = client.probe(TRUST_BUNDLE).await.unwrap();
        if answer.code != Code::Ok {
            assert_eq!((answer.code, answer.label.as_str()), (Code::ResourceExhausted, "rate-limited"));
            assert!(answer.retry_after.is_some_and(|after| !after.is_zero()), "{answer:?}");
            return passed;
        }
    }
    panic!("100 calls passed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_comes_too_often_is_slowed_down() {
    let rates =
        RateLimits { api_per_address: bucket(5), public_per_address: bucket(5), ..RateLimits::default() };
    let server = TestServer::start_with(TestServerOptions { rates, ..Default::default() }).await;
    let admin = admin(&server).await;
    assert!(calls_until_refused(&admin).await >= 5, "the burst passes");
    assert!(calls_until_refused(&server.connect_public().await).await >= 5, "the listeners count apart");
    let plain = get(server.addresses.plain, "/health").await;
    assert_eq!((plain.status.as_u16(), plain.header("retry-after")), (429, "1"));
    let tls = server.tls(Some(&server.admin));
    let json = https(&tls, server.addresses.api, "GET", "/nothing", &[]).await.unwrap();
    assert_eq!((json.status.as_u16(), json.header("retry-after")), (429, "1"));
    assert_eq!(get(server.addresses.metrics.unwrap(), "/metrics").await.status, 200, "never counted");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_principal_that_comes_too_often_is_slowed_down_and_no_other() {
    let rates = RateLimits { per_principal: bucket(5), ..RateLimits::default() };
    let server = TestServer::start_with(TestServerOptions { rates, ..Default::default() }).await;
    let (one, credentials) = client(&server, "u1", PrincipalType::User).await;
    assert!(calls_until_refused(&one).await >= 5);
    let again = server.connect(Some(&credentials)).await.unwrap();
    assert_eq!(
        again.probe(WHO_AM_I).await.unwrap().label,
        "rate-limited",
        "another connection is no way out"
    );
    let (other, _) = client(&server, "u2", PrincipalType::User).await;
    assert_eq!(other.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
    let body = get(server.addresses.metrics.unwrap(), "/metrics").await.body;
    assert!(body.contains("airunner_rate_limited_total 2"), "{body}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loopback_is_spared_where_that_is_asked_for() {
    let rates = RateLimits {
        api_per_address: bucket(1),
        public_per_address: bucket(1),
        spare_loopback: true,
        ..RateLimits::default()
    };
    let server = TestServer::start_with(TestServerOptions { rates, ..Default::default() }).await;
    let admin = admin(&server).await;
    for _ in 0..10 {
        assert_eq!(admin.probe(WHO_AM_I).await.unwrap().code, Code::Ok);
        assert_eq!(get(server.addresses.plain, "/health").await.status, 200);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_auth_serves_everyone_on_loopback_as_a_local_admin() {
    let server = TestServer::start_with(TestServerOptions { no_auth: true, ..Default::default() }).await;
    assert!(server.addresses.api.ip().is_loopback());
    assert!(server.addresses.public.is_none() && server.addresses.metrics.is_none());
    let anyone = RawClient::connect_plain(&server.addresses.api.to_string()).await.unwrap();
    let me: WhoAmIResponse = anyone.ask(WHO_AM_I, &WhoAmIRequest {}).await;
    assert_eq!(me.principal.unwrap().principal_id, "local");
    assert!(me.permissions.iter().any(|permission| permission == "principals:manage"));
    assert_eq!(anyone.probe(LIST_PRINCIPALS).await.unwrap().code, Code::Ok);
    enqueue(&anyone, job("true")).await;
    for (headers, _) in CROSS_SITE {
        let answer = http(server.addresses.api, "POST", LIST_PRINCIPALS, headers).await.unwrap();
        assert_eq!(answer.status, 403, "{headers:?}");
    }
    assert_eq!(get(server.addresses.plain, "/health").await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_sends_workers_away_and_finishes_what_is_open() {
    let server = TestServer::start().await;
    let (user, _) = client(&server, "u1", PrincipalType::User).await;
    let mut worker = Worker::open(client(&server, "w1", PrincipalType::Worker).await.0).await;
    worker.waiting().await;
    let (up, mut acks) = worker.client.open_two_way(PUBLISH_STREAM).await.unwrap();
    let start = StartJobRequest { job: Some(job("true")), ..Default::default() };
    let starting = tokio::spawn(async move { user.ask::<StartJobResponse>(START, &start).await });
    let claim = worker.claim().await;

    let (api, public) = (server.addresses.api, server.addresses.public.unwrap());
    let (tls, now) = (server.tls(Some(&server.admin)), airunner_core::Clock::now(&*server.clock));
    let stopping = tokio::spawn(server.stop());
    assert!(matches!(worker.next().await, Message::Drain(_)));
    assert_eq!(worker.end().await.code, Code::Ok);
    for address in [api, public] {
        assert!(https(&tls, address, "GET", "/", &[]).await.is_err(), "nobody new is served");
    }
    let batch = PublishEventsRequest { task_token: claim.task_token, events: vec![started(1, 1, now)] };
    up.send(batch.encode_to_vec().into()).await.unwrap();
    let ack: PublishEventsResponse = acks.message().await;
    assert_eq!(ack.error_label, "");
    assert_eq!(starting.await.unwrap().process_id, 4_711, "the open call was answered");
    drop(up);
    assert_eq!(acks.end().await.code, Code::Ok);
    stopping.await.unwrap();
}
