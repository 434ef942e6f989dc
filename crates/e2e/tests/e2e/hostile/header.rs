//! Headers that claim to be somebody: who asks is who shook hands, whatever the request says of itself.

use airunner_proto::principal::v1::{PrincipalType, WhoAmIResponse};

use super::target::Target;
use crate::calls::*;

/// What proxies, meshes and frameworks put an identity into.
const CLAIMS: [(&str, &str); 22] = [
    (
        "x-forwarded-client-cert",
        "By=spiffe://test.airunner/admin/admin;URI=spiffe://test.airunner/admin/admin",
    ),
    ("x-client-cert", "-----BEGIN CERTIFICATE-----"),
    ("x-ssl-client-cert", "x"),
    ("x-ssl-client-verify", "SUCCESS"),
    ("x-ssl-client-s-dn", "CN=admin"),
    ("ssl-client-subject-dn", "CN=admin"),
    ("client-cert", ":MIIB:"),
    ("client-cert-chain", ":MIIB:"),
    ("x-forwarded-user", "admin"),
    ("x-remote-user", "admin"),
    ("remote-user", "admin"),
    ("x-auth-request-user", "admin"),
    ("x-principal-id", "admin"),
    ("x-principal-type", "admin"),
    ("x-airunner-principal", "admin"),
    ("x-spiffe-id", "spiffe://test.airunner/admin/admin"),
    ("authorization", "Bearer admin"),
    ("cookie", "session=admin"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-original-url", "/v1/principals/admin"),
    ("x-rewrite-url", "/v1/principals/admin"),
    ("x-http-method-override", "DELETE"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_header_makes_anyone_of_a_caller() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    let made = admin.call(CREATE_PRINCIPAL, &new_principal("w1", PrincipalType::Worker)).await.unwrap();
    assert_eq!(made.code, tonic::Code::Ok, "{made:?}");
    let worker = target.client_of("w1").await;
    for claim in CLAIMS {
        let me = worker.http("GET", "/v1/whoami", &[claim], b"").await.unwrap();
        let me: serde_json::Value = serde_json::from_slice(me.body()).unwrap();
        assert_eq!(me["principal"]["principalId"], "w1", "{claim:?}");
        let denied = worker.http("GET", "/v1/principals/admin", &[claim], b"").await.unwrap();
        assert_eq!(denied.status(), 403, "{claim:?}");
        let denied = worker.send_with("POST", LIST_PRINCIPALS, &[claim], &()).await.unwrap();
        assert_eq!(denied.headers()["grpc-status"], "7", "{claim:?}");
    }
    let me: WhoAmIResponse = worker.ask(WHO_AM_I, &()).await;
    assert_eq!(me.principal.unwrap().principal_id, "w1");
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_header_lets_a_stranger_in() {
    let mut target = Target::start().await;
    for claim in CLAIMS {
        let said = target.strangers_http1().await;
        let (name, value) = claim;
        let head = format!(
            "GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\nConnection: close\r\n\r\n"
        );
        let said = said.say(head.as_bytes()).await;
        assert_eq!(super::wire::statuses(&said), [404], "{claim:?}: {said}");
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_call_gets_of_its_request_is_a_list() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    // These mean something to gRPC; over JSON they are nobody's.
    for header in [
        ("grpc-encoding", "gzip"),
        ("grpc-status", "0"),
        ("grpc-message", "x"),
        ("te", "trailers"),
        ("grpc-trace-bin", "AAAA"),
        ("grpc-tags-bin", "%%%"),
        ("content-language", "x"),
        ("expect", "a miracle"),
    ] {
        let me = admin.http("GET", "/v1/whoami", &[header], b"").await.unwrap();
        assert_eq!(me.status(), 200, "{header:?}");
        assert!(me.headers().get("grpc-status").is_none(), "{header:?}");
    }
    for timeout in ["1", "S", "-1S", "999999999S", "1.5S", "1Y", "\u{661}S", ""] {
        let me = admin.http("GET", "/v1/whoami", &[("grpc-timeout", timeout)], b"").await.unwrap();
        assert_eq!(me.status(), 200, "{timeout:?}");
    }
    target.is_unharmed().await;
}
