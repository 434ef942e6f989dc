//! The limits of heads, bodies, streams and connections: what is over one gets the answer that belongs to it, and what is
//! under it is served.

use std::{net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use airunner_core::PrincipalType;
use airunner_e2e::{
    Answer, AnswerStream, RawClient, TestServer, TestServerOptions, Wire, WireFrame, http, https, https_send,
};
use airunner_host::config::Rate;
use airunner_net::{ClientStream, Limits};
use airunner_proto::principal::v1::SuspendPrincipalRequest;
use airunner_server::router::RateLimits;
use tokio::time::timeout;
use tonic::Code;

use crate::calls::*;

const MANY: usize = 5 * 1024 * 1024;
const JSON: (&str, &str) = ("content-type", "application/json");

/// The status and the body of a GET over HTTP/1.1 and of one over HTTP/2, to the API listener.
async fn get_both(server: &TestServer, path: &str, headers: &[(&str, &str)]) -> [(u16, String); 2] {
    let tls = server.tls(Some(&server.admin));
    let one = https(&tls, server.addresses.api, "GET", path, headers).await.unwrap();
    let two = admin(server).await.http("GET", path, headers, b"").await.unwrap();
    let body = String::from_utf8_lossy(two.body()).into_owned();
    [(one.status.as_u16(), one.body), (two.status().as_u16(), body)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_of_more_than_8_kib_is_414() {
    let server = TestServer::start().await;
    let path = |length: usize| format!("/{}", "x".repeat(length - 1));
    for (status, _) in get_both(&server, &path(8_192), &[]).await {
        assert_eq!(status, 404);
    }
    let query = format!("/v1/principals?page_token={}", "x".repeat(8_192));
    for long in [path(8_193), query] {
        for (status, body) in get_both(&server, &long, &[]).await {
            assert_eq!(status, 414);
            assert!(body.contains(r#""label":"uri-too-long""#), "{body}");
        }
        let public = https(&server.tls(None), server.addresses.public.unwrap(), "GET", &long, &[]).await;
        assert_eq!(public.unwrap().status, 414);
        assert_eq!(http(server.addresses.plain, "GET", &long, &[]).await.unwrap().status, 414);
        assert_eq!(http(server.addresses.metrics.unwrap(), "GET", &long, &[]).await.unwrap().status, 414);
        let refused = admin(&server).await.probe(&long).await.unwrap();
        assert_eq!((refused.code, refused.label.as_str()), (Code::ResourceExhausted, "uri-too-long"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_100_headers_or_16_kib_of_them_are_431() {
    let server = TestServer::start().await;
    let names: Vec<String> = (0..101).map(|n| format!("x-{n}")).collect();
    let headers = |count: usize| names[..count].iter().map(|name| (name.as_str(), "y")).collect::<Vec<_>>();
    // With Host they are one more over HTTP/1.1.
    for (status, _) in get_both(&server, "/nothing", &headers(99)).await {
        assert_eq!(status, 404);
    }
    let [one, two] = get_both(&server, "/nothing", &headers(101)).await;
    assert_eq!((one.0, two.0), (431, 431));
    assert!(two.1.contains(r#""label":"headers-too-large""#), "{two:?}");
    let connect = [&headers(101)[..], &[JSON]].concat();
    let answer = admin(&server).await.http("POST", WHO_AM_I, &connect, b"{}").await.unwrap();
    assert_eq!(answer.status(), 431, "whatever the head belongs to");
    let (fits, large) = ("y".repeat(15_000), "y".repeat(17_000));
    for (status, _) in get_both(&server, "/nothing", &[("x", &fits)]).await {
        assert_eq!(status, 404);
    }
    for (status, _) in get_both(&server, "/nothing", &[("x", &large)]).await {
        assert_eq!(status, 431);
    }
    for headers in [headers(101), vec![("x", large.as_str())]] {
        for address in [server.addresses.plain, server.addresses.metrics.unwrap()] {
            assert_eq!(http(address, "GET", "/ready", &headers).await.unwrap().status, 431);
        }
        let tls = server.tls(None);
        let public = https(&tls, server.addresses.public.unwrap(), "GET", "/v1/health", &headers);
        assert_eq!(public.await.unwrap().status, 431);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_more_than_4_mib_is_413_by_every_door() {
    let server = TestServer::start().await;
    let client = admin(&server).await;
    let body = format!(r#"{{"principalId":"{}"}}"#, "x".repeat(MANY));
    let tls = server.tls(Some(&server.admin));
    for path in [GET_PRINCIPAL, "/v1/principals", "/jobs/start"] {
        let answer = client.http("POST", path, &[JSON], body.as_bytes()).await.unwrap();
        // Connect's table has 429 for what gRPC calls RESOURCE_EXHAUSTED.
        let status = if path == GET_PRINCIPAL { 429 } else { 413 };
        assert_eq!(answer.status(), status, "{path}");
        assert!(String::from_utf8_lossy(answer.body()).contains("4 MiB"), "{path}");
        let answer =
            https_send(&tls, server.addresses.api, "POST", path, &[JSON], body.as_bytes()).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "also to who has not sent all of it yet: {path}");
        let head = [JSON, ("content-length", "1000000000")];
        let answer = https_send(&tls, server.addresses.api, "POST", path, &head, b"").await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "what is announced need not come: {path}");
    }
    server.stop().await;
}

/// Frame by frame on a TLS connection of the admin.
async fn wire(server: &TestServer, address: SocketAddr) -> Wire<ClientStream> {
    let tls = server.tls(Some(&server.admin));
    Wire::begin(airunner_net::connect(tls, "localhost", &address.to_string()).await.unwrap()).await.unwrap()
}

/// A call whose message does not come.
fn call(stream: u32) -> WireFrame {
    let headers = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", TRUST_BUNDLE),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    WireFrame::request(stream, &headers, false)
}

/// The next frame that resets a stream or ends the connection.
async fn next_end(wire: &mut Wire<ClientStream>) -> WireFrame {
    timeout(Duration::from_secs(20), async {
        loop {
            let frame = wire.next().await.unwrap();
            if frame.error_code().is_some() {
                return frame;
            }
        }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_more_than_a_connection_may_have_is_refused_and_the_others_go_on() {
    let server = TestServer::start().await;
    for (address, most) in [
        (server.addresses.api, Limits::default().max_streams),
        (server.addresses.public.unwrap(), Limits::for_strangers().max_streams),
    ] {
        let mut wire = wire(&server, address).await;
        let calls: Vec<_> = (0..=most).map(|n| call(2 * n + 1)).collect();
        wire.send(&calls).await.unwrap();
        let refused = next_end(&mut wire).await;
        assert_eq!(refused.error_code(), Some(WireFrame::REFUSED_STREAM));
        assert_eq!((refused.kind, refused.stream), (WireFrame::RST_STREAM, 2 * most + 1));
        // An empty message in a frame of its own: the first call is answered.
        let data = WireFrame { flags: WireFrame::END_STREAM, ..WireFrame::data(1, &[0; 5]) };
        wire.send(&[data]).await.unwrap();
        while wire.next().await.unwrap().stream != 1 {}
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_streams_to_reset_them_is_sent_away() {
    let server = TestServer::start().await;
    let mut wire = wire(&server, server.addresses.api).await;
    let resets: Vec<_> = (0..2_000).flat_map(|n| [call(2 * n + 1), WireFrame::cancel(2 * n + 1)]).collect();
    // It may be cut while it still writes.
    let _cut = wire.send(&resets).await;
    let end = timeout(Duration::from_secs(20), async {
        loop {
            let frame = wire.next().await.unwrap();
            if frame.kind == WireFrame::GOAWAY {
                return frame;
            }
        }
    });
    assert_eq!(end.await.unwrap().error_code(), Some(WireFrame::ENHANCE_YOUR_CALM));
    assert_eq!(admin(&server).await.probe(WHO_AM_I).await.unwrap().code, Code::Ok, "others are served");
    server.stop().await;
}

async fn watch(client: &RawClient) -> Result<AnswerStream, Answer> {
    let mut stream = client.open(HEALTH_WATCH, &()).await.unwrap();
    stream.next().await.map(|_| stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_principal_has_so_many_streams_over_all_its_connections() {
    let options = TestServerOptions { streams_per_principal: 2, ..Default::default() };
    let server = TestServer::start_with(options).await;
    let (one, credentials) = client(&server, "u1", PrincipalType::User).await;
    let other = server.connect(Some(&credentials)).await.unwrap();
    let first = watch(&one).await.unwrap();
    let _second = watch(&other).await.unwrap();
    for client in [&one, &other] {
        let refused = watch(client).await.err().unwrap();
        assert_eq!((refused.code, refused.label.as_str()), (Code::ResourceExhausted, "limit-reached"));
        assert_eq!(client.probe(WHO_AM_I).await.unwrap().code, Code::Ok, "a call that ends is no stream");
    }
    let path = "/v1/jobs/019aa000-0000-7000-8000-000000000000/events";
    assert_eq!(one.http("GET", path, &[], b"").await.unwrap().status(), 429);
    let (neighbour, _) = client(&server, "u2", PrincipalType::User).await;
    assert!(watch(&neighbour).await.is_ok(), "another principal has its own");
    drop(first);
    eventually("an ended stream makes place", async || watch(&one).await.is_ok()).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_so_many_connections_to_the_open_listeners() {
    let stranger_limits = Limits { max_connections_per_address: Some(2), ..Limits::for_strangers() };
    let server = TestServer::start_with(TestServerOptions { stranger_limits, ..Default::default() }).await;
    let public = server.addresses.public.unwrap().to_string();
    let dial = async || RawClient::connect(server.tls(None), &public).await;
    let (first, second) = (dial().await.unwrap(), dial().await.unwrap());
    for client in [&first, &second] {
        assert_eq!(client.probe(TRUST_BUNDLE).await.unwrap().code, Code::Ok);
    }
    let third = async || match dial().await {
        Ok(client) => client.probe(TRUST_BUNDLE).await.is_ok(),
        Err(_) => false,
    };
    assert!(!third().await);
    for _ in 0..4 {
        assert_eq!(
            admin(&server).await.probe(WHO_AM_I).await.unwrap().code,
            Code::Ok,
            "not those who are known"
        );
    }
    assert_eq!(
        http(server.addresses.plain, "GET", "/health", &[]).await.unwrap().status,
        200,
        "each listener apart"
    );
    drop(first);
    eventually("a closed connection makes place", third).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_does_not_arrive_is_given_up_by_every_door() {
    let options = TestServerOptions { body_timeout: Duration::from_millis(100), ..Default::default() };
    let server = TestServer::start_with(options).await;
    let admin = Arc::new(admin(&server).await);
    let (_never_sent, mut answer) = admin.open_two_way(GET_PRINCIPAL).await.unwrap();
    let refused = answer.end().await;
    assert_eq!((refused.code, refused.label.as_str()), (Code::DeadlineExceeded, "deadline-exceeded"));
    let tls = server.tls(Some(&server.admin));
    for path in [GET_PRINCIPAL, "/v1/principals", "/jobs/start"] {
        let head = [JSON, ("content-length", "10")];
        let answer = https_send(&tls, server.addresses.api, "POST", path, &head, b"{").await.unwrap();
        assert_eq!(answer.status, 504, "{path}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_counts_by_the_address_too() {
    let bucket = Rate { per_second: NonZeroU32::MIN, burst: NonZeroU32::new(5).unwrap() };
    let rates = RateLimits { api_per_address: Some(bucket), ..RateLimits::default() };
    let server = TestServer::start_with(TestServerOptions { rates, ..Default::default() }).await;
    let (suspended, _) = client(&server, "u1", PrincipalType::User).await;
    let request = SuspendPrincipalRequest { principal_id: "u1".to_owned(), reason: String::new() };
    assert_eq!(admin(&server).await.call(SUSPEND, &request).await.unwrap().code, Code::Ok);
    let mut labels = Vec::new();
    for _ in 0..10 {
        labels.push(suspended.probe(WHO_AM_I).await.unwrap().label);
    }
    assert_eq!(labels.first().map(String::as_str), Some("principal-suspended"));
    assert_eq!(labels.last().map(String::as_str), Some("rate-limited"));
    server.stop().await;
}
