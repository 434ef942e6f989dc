//! HTTP/1.1 in bytes: bodies of two lengths, requests hidden in bodies, and heads that are none.

use super::{target::Target, wire::statuses};

const WHO: &str = "POST /airunner.principal.v1.PrincipalService/WhoAmI HTTP/1.1\r\nHost: localhost\r\n";
const HIDDEN: &str = "DELETE /v1/principals/admin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_has_one_length_or_there_is_no_request() {
    let mut target = Target::start().await;
    let json = "Content-Type: application/json\r\n";
    for (name, lengths) in [
        ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("a list of lengths", "Content-Length: 5, 6\r\n"),
        ("a length below nothing", "Content-Length: -1\r\n"),
        ("a length with a sign", "Content-Length: +5\r\n"),
        ("a length in hex", "Content-Length: 0x5\r\n"),
        ("a length beyond numbers", "Content-Length: 99999999999999999999999\r\n"),
        ("another coding", "Transfer-Encoding: identity\r\n"),
        ("a coding that only looks so", "Transfer-Encoding: xchunked\r\n"),
        ("chunks that are not last", "Transfer-Encoding: chunked, identity\r\n"),
        ("a name with a space after it", "Transfer-Encoding : chunked\r\n"),
        ("a name on two lines", "Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n"),
    ] {
        let bytes = format!("{WHO}{json}{lengths}\r\n0\r\n\r\n{HIDDEN}");
        let said = target.http1().await.say(bytes.as_bytes()).await;
        assert!(matches!(statuses(&said)[..], [] | [400]), "{name}: {said}");
        target.is_unharmed().await;
    }
}

/// Chunks count where a length is said too, and the connection ends with that request (RFC 9112 section 6.3): nothing
/// that stands behind it is taken for another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_beside_chunks_makes_a_request_the_last() {
    let mut target = Target::start().await;
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding:\tchunked\r\nContent-Length: 5\r\n",
        "transfer-encoding: CHUNKED\r\ncontent-length: 400\r\n",
    ] {
        let bytes = format!("{WHO}Content-Type: application/json\r\n{lengths}\r\n0\r\n\r\n{HIDDEN}");
        let said = target.http1().await.say(bytes.as_bytes()).await;
        assert!(is_the_last(&said), "{lengths}: {said}");
        target.is_unharmed().await;
    }
}

fn is_the_last(said: &str) -> bool {
    match statuses(said)[..] {
        [] | [400] => true,
        [200] => said.contains("connection: close"),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_lie_end_the_connection_with_what_they_hide() {
    let mut target = Target::start().await;
    let head = format!("{WHO}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    let extension = format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(20_000));
    for (name, chunks) in [
        ("a size beyond numbers", "FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n"),
        ("the largest size", "7FFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n"),
        ("a size below nothing", "-2\r\n{}\r\n0\r\n\r\n"),
        ("a size that is none", "zz\r\n{}\r\n0\r\n\r\n"),
        ("no size", "\r\n{}\r\n0\r\n\r\n"),
        ("a size with 0x", "0x2\r\n{}\r\n0\r\n\r\n"),
        ("a chunk longer than its size", "2\r\n{}x\r\n0\r\n\r\n"),
        ("a line end of one byte in a size", "2\n{}\r\n0\r\n\r\n"),
        ("an extension without end", extension.as_str()),
    ] {
        let said = target.http1().await.say(format!("{head}{chunks}{HIDDEN}").as_bytes()).await;
        let told = statuses(&said);
        assert!(matches!(told[..], [] | [400]), "{name}: {said}");
        target.is_unharmed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_nobody_reads_is_not_taken_for_a_request() {
    let mut target = Target::start().await;
    for path in ["/nothing", "/v1/principals/admin:revoke/x", "/openapi.json"] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n");
        let bytes = format!("{head}Content-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len());
        let said = target.http1().await.say(bytes.as_bytes()).await;
        assert!(matches!(statuses(&said)[..], [404 | 405]), "{path}: {said}");
    }
    // Requests one after the other are requests, and each is answered.
    let bytes = "GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(3);
    let said = target.http1().await.say(bytes.as_bytes()).await;
    assert_eq!(statuses(&said), [200; 3], "{said}");
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_are_none_are_refused() {
    let mut target = Target::start().await;
    let large = format!("GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(70_000));
    let many = format!("GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "x: y\r\n".repeat(200));
    for (name, head) in [
        ("a name with a zero", "GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\na\0b: 1\r\n\r\n"),
        ("a value with a zero", "GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n"),
        ("a value with a bare return", "GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n"),
        ("a line of a head goes on", "GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n"),
        ("no colon", "GET /v1/whoami HTTP/1.1\r\nHost localhost\r\n\r\n"),
        ("no name", "GET /v1/whoami HTTP/1.1\r\n: localhost\r\n\r\n"),
        ("no version", "GET /v1/whoami\r\n\r\n"),
        ("version 0.9", "GET /v1/whoami HTTP/0.9\r\nHost: localhost\r\n\r\n"),
        ("version 3", "GET /v1/whoami HTTP/3.0\r\nHost: localhost\r\n\r\n"),
        ("a space in the path", "GET /v1/who ami HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a zero in the path", "GET /v1/who\0ami HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a verb that is none", "G(T /v1/whoami HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a head too large", large.as_str()),
        ("a path too long", long.as_str()),
        ("too many lines", many.as_str()),
        ("bytes that are no HTTP", "\u{1}\u{2}\u{3}\u{4}\r\n\r\n"),
    ] {
        let said = target.http1().await.say(head.as_bytes()).await;
        assert!(matches!(statuses(&said)[..], [] | [400 | 414 | 431 | 505]), "{name}: {said}");
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_protocols_are_not_switched_to() {
    let mut target = Target::start().await;
    for (name, head) in [
        (
            "h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        ),
        (
            "websocket",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        ),
    ] {
        let bytes = format!("GET /v1/whoami HTTP/1.1\r\nHost: localhost\r\n{head}\r\n");
        let said = target.http1().await.say(bytes.as_bytes()).await;
        assert_eq!(statuses(&said), [200], "{name}: {said}");
        assert!(!said.to_ascii_lowercase().contains("upgrade"), "{name}: {said}");
    }
    for verb in ["CONNECT localhost:443", "TRACE /v1/whoami", "OPTIONS *", "PRI *", "PROPFIND /v1/whoami"] {
        let bytes = format!("{verb} HTTP/1.1\r\nHost: localhost\r\nX-Secret: 1\r\nConnection: close\r\n\r\n");
        let said = target.http1().await.say(bytes.as_bytes()).await;
        assert!(matches!(statuses(&said)[..], [] | [400 | 404 | 405]), "{verb}: {said}");
        assert!(!said.contains("X-Secret"), "{verb} echoes: {said}");
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doors_of_strangers_take_no_more_than_the_others() {
    let mut target = Target::start().await;
    let both = format!("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}");
    let bundle = format!(
        "POST /airunner.ca.v1.CertificateService/GetTrustBundle HTTP/1.1\r\nHost: localhost\r\n{both}"
    );
    let said = target.strangers_http1().await.say(bundle.as_bytes()).await;
    assert!(is_the_last(&said), "{said}");
    let health = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{both}");
    let said = target.plain_http1().await.say(health.as_bytes()).await;
    assert!(is_the_last(&said), "{said}");
    let body = format!(
        "GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{}",
        "x".repeat(1 << 20)
    );
    let said = target.plain_http1().await.say(body.as_bytes()).await;
    assert!(matches!(statuses(&said)[..], [] | [200]), "{said}");
    target.is_unharmed().await;
}
