//! JSON bodies: deep, doubled, huge, and not text.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use super::target::Target;
use crate::calls::*;

const JSON: (&str, &str) = ("content-type", "application/json");
const GZIP: (&str, &str) = ("content-encoding", "gzip");

/// The status of a refusal, and its label over REST or its code over Connect.
fn told(answer: &http::Response<bytes::Bytes>) -> (u16, String) {
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_else(|_| panic!("{answer:?}"));
    assert!(answer.body().len() < 8_192, "a refusal of {} bytes", answer.body().len());
    let label = body["error"]["label"].as_str().or(body["code"].as_str());
    (answer.status().as_u16(), label.unwrap_or_default().replace('_', "-"))
}

/// Bodies that are refused at both doors, each with what its refusal says.
fn bodies() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let twice = r#"{"principalId":"p1","type":"PRINCIPAL_TYPE_USER","type":"PRINCIPAL_TYPE_ADMIN"}"#;
    let by_both = r#"{"principalId":"p1","principal_id":"p2","type":"PRINCIPAL_TYPE_USER"}"#;
    let key = r#"{"principalId":"p1","type":"PRINCIPAL_TYPE_USER","metadata":{"a":"1","a":"2"}}"#;
    vec![
        ("a field twice", text(twice), "is said twice"),
        ("a field by both its names", text(by_both), "is said twice"),
        ("a key twice", text(key), "is said twice"),
        ("an unknown field", text(r#"{"principalId":"p1","admin":true}"#), "admin"),
        (
            "an unknown value",
            text(r#"{"principalId":"p1","type":"PRINCIPAL_TYPE_ROOT"}"#),
            "PRINCIPAL_TYPE_ROOT",
        ),
        ("too deep a list", "[".repeat(100_000).into_bytes(), ""),
        ("too deep an object", r#"{"principalId":"#.repeat(100_000).into_bytes(), "recursion"),
        ("too deep in a field", [b"{\"metadata\":".to_vec(), b"[".repeat(5_000)].concat(), "recursion"),
        ("a number for a text", text(r#"{"principalId":1}"#), ""),
        ("an object for a text", text(r#"{"principalId":{}}"#), ""),
        ("a list for a message", text("[]"), ""),
        ("a text for a message", text(r#""x""#), ""),
        ("a number beyond numbers", text(r#"{"maxCertificates":1e400}"#), ""),
        (
            "a number of a million digits",
            format!(r#"{{"maxCertificates":{}}}"#, "9".repeat(1_000_000)).into_bytes(),
            "",
        ),
        ("a number beyond its field", text(r#"{"maxCertificates":4294967296}"#), ""),
        ("a number below its field", text(r#"{"maxCertificates":-1}"#), ""),
        ("half a number", text(r#"{"maxCertificates":0.5}"#), ""),
        ("no number", text(r#"{"maxCertificates":NaN}"#), ""),
        ("a number in hex", text(r#"{"maxCertificates":0x10}"#), ""),
        ("a number with zeros before it", text(r#"{"maxCertificates":007}"#), ""),
        ("a lone surrogate", text(r#"{"principalId":"\ud800"}"#), "hex escape"),
        ("surrogates the wrong way round", text(r#"{"principalId":"\udc00\ud800"}"#), ""),
        ("a surrogate in bytes", b"{\"principalId\":\"\xed\xa0\x80\"}".to_vec(), ""),
        ("bytes that are no UTF-8", b"{\"principalId\":\"\xff\"}".to_vec(), ""),
        ("UTF-16", b"{\0\"\0p\0\"\0:\0{\0}\0".to_vec(), ""),
        ("a byte order mark", b"\xef\xbb\xbf{}".to_vec(), ""),
        ("a line end in a text", text("{\"principalId\":\"a\nb\"}"), ""),
        ("a comment", text("{/* x */}"), ""),
        ("a comma too many", text(r#"{"principalId":"a",}"#), ""),
        ("single quotes", text("{'principalId':'a'}"), ""),
        ("something after it", text("{} {}"), ""),
        ("a zero after it", text("{}\0"), ""),
        ("half of it", text(r#"{"principalId":"a"#), ""),
        ("white space alone", text("   "), ""),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_can_be_read_in_two_ways_or_none_is_refused() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    for (name, body, said) in bodies() {
        for path in [CREATE_PRINCIPAL, "/v1/principals"] {
            let refused = admin.http("POST", path, &[JSON], &body).await.unwrap();
            assert_eq!(told(&refused), (400, "invalid-argument".to_owned()), "{name} at {path}");
            let text = String::from_utf8_lossy(refused.body()).into_owned();
            assert!(text.contains(said), "{name} at {path}: {text}");
        }
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_has_one_type_and_one_packing() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    for headers in [
        &[("content-type", "text/plain")][..],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "multipart/form-data; boundary=x")],
        &[("content-type", "application/json; charset=utf-7")],
        &[("content-type", "application/json; charset=utf-16")],
        &[("content-type", "application/jsonp")],
        &[("content-type", "")],
        &[JSON, ("content-encoding", "gzip, gzip")],
        &[JSON, ("content-encoding", "br")],
        &[JSON, ("content-encoding", "GZIP ")],
        &[JSON, GZIP, ("content-encoding", "identity")],
        &[JSON, ("content-encoding", "identity"), GZIP],
        &[JSON, ("content-type", "text/plain")],
    ] {
        let refused =
            admin.http("POST", GET_PRINCIPAL, headers, br#"{"principalId":"admin"}"#).await.unwrap();
        let (status, _) = told(&refused);
        assert!(matches!(status, 400 | 415), "{headers:?}: {status}");
    }
    target.is_unharmed().await;
}

fn packed(pieces: usize, piece: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..pieces {
        packer.write_all(piece).unwrap();
    }
    packer.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bomb_is_unpacked_no_further_than_the_limit() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    let bomb = packed(1_024, &vec![b' '; 1 << 20]);
    assert!(bomb.len() < 2 << 20);
    for path in [GET_PRINCIPAL, "/v1/principals", "/jobs/start"] {
        let refused = admin.http("POST", path, &[JSON, GZIP], &bomb).await.unwrap();
        // Connect's table has no 413.
        let status = if path == GET_PRINCIPAL { 429 } else { 413 };
        assert_eq!(refused.status(), status, "{path}");
    }
    let good = packed(1, br#"{"principalId":"admin"}"#);
    assert_eq!(admin.http("POST", GET_PRINCIPAL, &[JSON, GZIP], &good).await.unwrap().status(), 200);
    let mut wrong_sum = good.clone();
    let at = good.len() - 8;
    wrong_sum[at] ^= 1;
    for (name, body) in [
        ("half of it", good[..good.len() / 2].to_vec()),
        ("without its sum", good[..at].to_vec()),
        ("with another sum", wrong_sum),
        ("with bytes after it", [good.clone(), b"x".to_vec()].concat()),
        ("twice", good.repeat(2)),
        ("packed twice", packed(1, &good)),
        ("not packed", br#"{"principalId":"admin"}"#.to_vec()),
    ] {
        let refused = admin.http("POST", GET_PRINCIPAL, &[JSON, GZIP], &body).await.unwrap();
        assert_eq!(told(&refused), (400, "invalid-argument".to_owned()), "{name}");
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_beyond_the_limit_is_not_kept() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    let large = format!(r#"{{"principalId":"{}"}}"#, "x".repeat(5 << 20));
    for (path, status, label) in
        [(GET_PRINCIPAL, 429, "resource-exhausted"), ("/v1/principals", 413, "too-large")]
    {
        let refused = admin.http("POST", path, &[JSON], large.as_bytes()).await.unwrap();
        assert_eq!(told(&refused), (status, label.to_owned()), "{path}");
    }
    let many = format!(r#"{{"jobs":[{}]}}"#, vec![r#"{"command":"true"}"#; 65].join(","));
    let refused = admin.http("POST", ENQUEUE, &[JSON], many.as_bytes()).await.unwrap();
    assert_eq!(told(&refused), (400, "invalid-argument".to_owned()));
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_says_each_thing_once_and_in_text() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    for query in [
        "page_size=1&page_size=2",
        "page_size=1&pageSize=2",
        "page_size=-1",
        "page_size=1e3",
        "page_size=99999999999",
        "page_size=%31%00",
        "page_size=",
        "nothing=1",
        "page_size[]=1",
        "page_size.x=1",
        "status=%ff",
        "%ff=1",
        "status=PRINCIPAL_STATUS_ROOT",
    ] {
        let refused = admin.http("GET", &format!("/v1/principals?{query}"), &[], b"").await.unwrap();
        assert_eq!(told(&refused), (400, "invalid-argument".to_owned()), "{query}");
    }
    assert_eq!(admin.http("GET", "/v1/principals?page_size=1", &[], b"").await.unwrap().status(), 200);
    target.is_unharmed().await;
}
