//! What a browser with an admin's certificate sends when it visits a page of someone else, as Chromium writes it:
//! refused, whatever it is and wherever it goes, and nothing has changed.

use std::net::SocketAddr;

use airunner_core::PrincipalType;
use airunner_e2e::{HttpAnswer, RawClient, TestServer, TestServerOptions, http_send, https_send};
use airunner_proto::principal::v1::SuspendPrincipalRequest;
use prost::Message as _;
use tonic::Code;

use crate::calls::*;

type Headers = &'static [(&'static str, &'static str)];

/// How a page makes a browser send something.
struct Vehicle {
    what: &'static str,
    /// The method that it is bound to; the call's own where it is not.
    verb: Option<&'static str>,
    headers: Headers,
    /// The content type that it is bound to; the call's own where it is not.
    content_type: Option<&'static str>,
    /// HTTP/2 has no `Upgrade` (RFC 9113 section 8.2.2).
    only_http_1: bool,
}

const fn vehicle(what: &'static str, verb: Option<&'static str>, headers: Headers) -> Vehicle {
    Vehicle { what, verb, headers, content_type: None, only_http_1: false }
}

const fn form(what: &'static str, content_type: &'static str, headers: Headers) -> Vehicle {
    Vehicle { what, verb: Some("POST"), headers, content_type: Some(content_type), only_http_1: false }
}

const EVIL: (&str, &str) = ("origin", "https://evil.example");
const CROSS: (&str, &str) = ("sec-fetch-site", "cross-site");
const NAVIGATION: Headers = &[
    CROSS,
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-user", "?1"),
    ("upgrade-insecure-requests", "1"),
];
const FORM: Headers =
    &[EVIL, CROSS, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("sec-fetch-user", "?1")];
const NO_CORS: Headers =
    &[EVIL, CROSS, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "empty"), ("accept", "*/*")];
const CORS: Headers =
    &[EVIL, CROSS, ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("accept", "*/*")];
const URL_ENCODED: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=----WebKitFormBoundaryx";
const TEXT: &str = "text/plain;charset=UTF-8";

const VEHICLES: &[Vehicle] = &[
    vehicle("a link or a redirect at the top", Some("GET"), NAVIGATION),
    vehicle("a frame", Some("GET"), &[CROSS, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")]),
    form("a form, urlencoded", URL_ENCODED, FORM),
    form("a form, multipart", MULTIPART, FORM),
    form("a form, as text", "text/plain", FORM),
    form(
        "a form in a sandboxed frame",
        URL_ENCODED,
        &[("origin", "null"), CROSS, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
    ),
    form("a form of a browser that knows Origin alone", URL_ENCODED, &[EVIL]),
    vehicle("an image", Some("GET"), &[CROSS, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")]),
    vehicle("a script", Some("GET"), &[CROSS, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")]),
    form("fetch without CORS", TEXT, NO_CORS),
    form("a beacon with text", TEXT, NO_CORS),
    form("a beacon with a form", URL_ENCODED, NO_CORS),
    vehicle(
        "the preflight of a fetch",
        Some("OPTIONS"),
        &[
            EVIL,
            CROSS,
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "empty"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
            ("access-control-request-private-network", "true"),
        ],
    ),
    vehicle("a fetch, had its preflight passed", None, CORS),
    vehicle("a beacon without a type", None, NO_CORS),
    vehicle(
        "an event source",
        Some("GET"),
        &[
            EVIL,
            CROSS,
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "empty"),
            ("accept", "text/event-stream"),
        ],
    ),
    Vehicle {
        what: "a web socket",
        verb: Some("GET"),
        headers: &[
            EVIL,
            CROSS,
            ("sec-fetch-mode", "websocket"),
            ("sec-fetch-dest", "empty"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ],
        content_type: None,
        only_http_1: true,
    },
    vehicle(
        "a page of the same site",
        None,
        &[("origin", "https://other.localhost"), ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")],
    ),
    vehicle(
        "a page of another port of this machine",
        None,
        &[("origin", "http://localhost:3000"), ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")],
    ),
    vehicle("the same, in a browser that knows Origin alone", None, &[("origin", "http://localhost:3000")]),
    vehicle(
        "a rebound name",
        None,
        &[
            ("host", "evil.example"),
            ("origin", "https://evil.example"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "cors"),
        ],
    ),
    vehicle("a rebound name, in a browser that says nothing of itself", None, &[("host", "evil.example")]),
    vehicle("two sites in one header", None, &[("sec-fetch-site", "none"), CROSS]),
];

/// A call that changes something: it suspends the victim, or starts a job.
struct Spelling {
    what: &'static str,
    path: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
}

fn spellings() -> Vec<Spelling> {
    let suspend = SuspendPrincipalRequest { principal_id: "victim".to_owned(), reason: "x".to_owned() };
    let message = suspend.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(&message);
    let json = "application/json";
    let of =
        |what, path, content_type, body: &[u8]| Spelling { what, path, content_type, body: body.to_vec() };
    vec![
        of("gRPC", SUSPEND, "application/grpc", &framed),
        of("Connect", SUSPEND, json, br#"{"principalId":"victim","reason":"x"}"#),
        of("Connect, protobuf", SUSPEND, "application/proto", &message),
        of("REST", "/v1/principals/victim:suspend", json, br#"{"reason":"x"}"#),
        of("REST of jobs", "/jobs/start", json, br#"{"cmd":"true"}"#),
    ]
}

/// A listener, and how to speak to it.
struct Target {
    name: &'static str,
    address: SocketAddr,
    tls: Option<std::sync::Arc<rustls::ClientConfig>>,
}

impl Target {
    async fn over_http_1(&self, verb: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> HttpAnswer {
        match &self.tls {
            Some(tls) => https_send(tls, self.address, verb, path, headers, body).await.unwrap(),
            None => http_send(self.address, verb, path, headers, body).await.unwrap(),
        }
    }

    async fn http_2(&self) -> RawClient {
        let address = self.address.to_string();
        match &self.tls {
            Some(tls) => RawClient::connect(tls.clone(), &address).await.unwrap(),
            None => RawClient::connect_plain(&address).await.unwrap(),
        }
    }
}

/// Everything that a call could have changed: every write has its entry in the audit log.
async fn state(admin: &RawClient) -> Vec<Vec<bytes::Bytes>> {
    let mut all = Vec::new();
    for path in [LIST_PRINCIPALS, LIST_CERTIFICATES, LIST_JOBS, LIST_TOKENS, TAIL_AUDIT] {
        let answer = admin.call_bytes(path, &[]).await.unwrap();
        assert_eq!(answer.code, Code::Ok, "{path}: {answer:?}");
        all.push(answer.messages);
    }
    all
}

/// Sends every call by every vehicle over both versions of HTTP.
async fn visit_a_hostile_page(target: &Target) {
    let client = target.http_2().await;
    for vehicle in VEHICLES {
        for call in spellings() {
            let what = format!("{} as {} to the {} listener", vehicle.what, call.what, target.name);
            let verb = vehicle.verb.unwrap_or("POST");
            let mut headers = vehicle.headers.to_vec();
            let body: &[u8] = if verb == "POST" { &call.body } else { b"" };
            if verb == "POST" && vehicle.what != "a beacon without a type" {
                headers.push(("content-type", vehicle.content_type.unwrap_or(call.content_type)));
            }
            let answer = target.over_http_1(verb, call.path, &headers, body).await;
            assert_refused(&what, answer.status.as_u16(), &answer.headers, &answer.body);
            if vehicle.only_http_1 {
                continue;
            }
            let headers: Vec<_> = headers
                .into_iter()
                .map(|(name, value)| (if name == "host" { ":authority" } else { name }, value))
                .collect();
            let answer = client.http(verb, call.path, &headers, body).await.unwrap();
            let text = String::from_utf8_lossy(answer.body());
            assert_refused(&format!("{what}, HTTP/2"), answer.status().as_u16(), answer.headers(), &text);
        }
    }
}

fn assert_refused(what: &str, status: u16, headers: &http::HeaderMap, body: &str) {
    assert_eq!(status, 403, "{what}: {body}");
    assert!(body.contains(r#""label":"cross-site""#), "{what}: {body}");
    let allows = headers.keys().any(|name| name.as_str().starts_with("access-control-"));
    assert!(!allows && !headers.contains_key("upgrade"), "{what}: {headers:?}");
}

/// The same calls do what they say when no page sends them: what was refused above would have worked.
async fn calls_are_good(target: &Target, admin: &RawClient) {
    let client = target.http_2().await;
    for call in spellings() {
        let before = state(admin).await;
        let headers = [("content-type", call.content_type)];
        let answer = client.http("POST", call.path, &headers, &call.body).await.unwrap();
        let started = call.path == "/jobs/start";
        // Without a worker a start fails, after it was let in.
        assert_eq!(answer.status().as_u16(), if started { 503 } else { 200 }, "{}", call.what);
        if !started {
            assert_ne!(state(admin).await, before, "{}", call.what);
            let activate = format!(r#"{{"principalId":"{}"}}"#, "victim");
            let headers = [("content-type", "application/json")];
            let activated = client.http("POST", ACTIVATE, &headers, activate.as_bytes()).await.unwrap();
            assert_eq!(activated.status().as_u16(), 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admins_browser_on_a_hostile_page_changes_nothing() {
    let options = TestServerOptions { has_grpc_listener: true, ..Default::default() };
    let server = TestServer::start_with(options).await;
    server.principal("victim", PrincipalType::User).await;
    let admin = admin(&server).await;
    let tls = Some(server.tls(Some(&server.admin)));
    let api = Target { name: "API", address: server.addresses.api, tls: tls.clone() };
    let grpc = Target { name: "further", address: server.addresses.grpc.unwrap(), tls };
    let before = state(&admin).await;
    for target in [&api, &grpc] {
        visit_a_hostile_page(target).await;
    }
    assert_eq!(state(&admin).await, before);
    for target in [&api, &grpc] {
        calls_are_good(target, &admin).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_on_a_hostile_page_changes_nothing_without_authentication_either() {
    let server = TestServer::start_with(TestServerOptions { no_auth: true, ..Default::default() }).await;
    server.principal("victim", PrincipalType::User).await;
    let local = Target { name: "open", address: server.addresses.api, tls: None };
    let anyone = local.http_2().await;
    let before = state(&anyone).await;
    visit_a_hostile_page(&local).await;
    assert_eq!(state(&anyone).await, before);
    calls_are_good(&local, &anyone).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_listener_knows_no_hostile_page_either() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let tls = Some(server.tls(None));
    let public = Target { name: "public", address: server.addresses.public.unwrap(), tls };
    let before = state(&admin).await;
    visit_a_hostile_page(&public).await;
    assert_eq!(state(&admin).await, before);
    server.stop().await;
}

/// A browser from before Origin and Sec-Fetch-Site says nothing of itself. What is left to its pages: to read nothing, and
/// forms, whose types no call takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_says_nothing_of_itself_changes_nothing() {
    let server = TestServer::start().await;
    server.principal("victim", PrincipalType::User).await;
    let admin = admin(&server).await;
    let tls = Some(server.tls(Some(&server.admin)));
    let api = Target { name: "API", address: server.addresses.api, tls };
    let job = enqueue(&admin, job("true")).await;
    let before = state(&admin).await;
    let stop = format!("/jobs/stop/{job}");
    let mut paths: Vec<_> = spellings().iter().map(|call| call.path).collect();
    paths.push(&stop);
    for path in paths {
        for content_type in [URL_ENCODED, MULTIPART, "text/plain"] {
            let body = br#"{"principalId":"victim","reason":"="}"#;
            let answer = api.over_http_1("POST", path, &[("content-type", content_type)], body).await;
            assert_eq!(answer.status, 415, "{path} {content_type}");
        }
        let answer = api.over_http_1("GET", path, &[], b"").await;
        assert!(matches!(answer.status.as_u16(), 400 | 405), "{path}");
    }
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let answer = api.over_http_1("GET", "/v1/whoami", &upgrade, b"").await;
    assert_eq!(answer.status, 200, "there is nothing to upgrade to: it is read");
    assert_eq!(state(&admin).await, before);
    server.stop().await;
}

/// GET and HEAD change nothing, so a link that is typed or followed by hand does not either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_every_path_changes_nothing() {
    let server = TestServer::start().await;
    let admin = admin(&server).await;
    let before = state(&admin).await;
    for path in [
        "/v1/principals",
        "/v1/principals/admin",
        "/v1/whoami",
        "/v1/certificates",
        "/v1/enrollments",
        "/v1/jobs",
        "/v1/audit",
        "/v1/trust-bundle",
        "/v1/health",
        "/openapi.json",
    ] {
        for verb in ["GET", "HEAD"] {
            let answer = admin.http(verb, path, &[("sec-fetch-site", "none")], b"").await.unwrap();
            assert_eq!(answer.status(), 200, "{verb} {path}");
        }
    }
    assert_eq!(state(&admin).await, before);
    server.stop().await;
}
