//! Paths: a path is what it says, byte by byte. Nothing is resolved, folded or decoded twice on the way to its RPC.

use super::{target::Target, wire::statuses};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_not_there_is_not_made_into_one_that_is() {
    let mut target = Target::start().await;
    for path in [
        "//v1/whoami",
        "/v1//whoami",
        "/v1/./whoami",
        "/v1/x/../whoami",
        "/../v1/whoami",
        "/v1/whoami/",
        "/v1/whoami/.",
        "/v1/whoami;a=b",
        "/v1/whoami%00",
        "/v1/whoami%20",
        "/v1/whoami.json",
        "/V1/whoami",
        "/v1/WhoAmI",
        "/v1/%77hoami",
        "/v1%2fwhoami",
        "/%76%31/whoami",
        "/v1/%2e/whoami",
        "/v1/x/%2e%2e/whoami",
        "/v1/..%2fv1/whoami",
        "/v1\\whoami",
        "/v1/whoami\\..\\x",
        "/.;/v1/whoami",
        "/v1/principals/admin/../admin",
        "/v1/principals//admin",
        "/airunner.principal.v1.PrincipalService/whoami",
        "/airunner.principal.v1.PrincipalService/WhoAmI/",
        "/airunner.principal.v1.PrincipalService//WhoAmI",
        "/airunner.principal.v1.PrincipalService%2FWhoAmI",
        "/airunner.principal.v1.PrincipalService.WhoAmI",
        "/AIRUNNER.PRINCIPAL.V1.PRINCIPALSERVICE/WHOAMI",
        "/metrics",
        "/debug/pprof",
        "/.git/config",
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%c0%af..%c0%afetc/passwd",
        "/v1/whoami#x",
    ] {
        for verb in ["GET", "POST"] {
            let head = format!("{verb} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let said = target.http1().await.say(head.as_bytes()).await;
            let told = statuses(&said);
            // What stands behind # never leaves a client that knows URIs, and is not looked at.
            let is_fragment = path.contains('#') && told == [if verb == "GET" { 200 } else { 405 }];
            assert!(matches!(told[..], [400 | 404 | 405]) || is_fragment, "{verb} {path}: {said}");
            assert!(!said.contains("principalId") || is_fragment, "{verb} {path}: {said}");
        }
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_in_a_path_is_decoded_once_and_is_a_name() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    let found = admin.http("GET", "/v1/principals/%61dmin", &[], b"").await.unwrap();
    assert_eq!(found.status(), 200);
    for id in [
        "%2561dmin",
        "..",
        ".",
        "%2e%2e",
        "%2E%2E%2Fadmin",
        "admin%00",
        "%00",
        "admin%0a",
        "admin%20",
        "+admin",
        "a%2fb",
        "a%5cb",
        "%c0%ae",
        "%ff",
        "%ed%a0%80",
        "%e2%80%ae",
        "%",
        "%zz",
        "%u0061dmin",
        "admin;x",
        "admin'--",
        "admin\"",
        "{principal_id}",
        "*",
        "**",
    ] {
        for path in [format!("/v1/principals/{id}"), format!("/jobs/status/{id}"), format!("/v1/jobs/{id}")] {
            let refused = admin.http("GET", &path, &[], b"").await.unwrap();
            assert_eq!(refused.status(), 400, "{path}");
            let told: serde_json::Value = serde_json::from_slice(refused.body()).unwrap();
            assert!(told.to_string().contains("invalid-argument"), "{path}: {told}");
        }
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_after_the_colon_is_the_last_and_is_written_out() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    for path in [
        "/v1/principals/admin%3Arevoke",
        "/v1/principals/admin:REVOKE",
        "/v1/principals/admin:revoke:",
        "/v1/principals/admin:revoke/",
        "/v1/principals/:revoke",
        "/v1/principals/admin:",
        "/v1/principals/admin::revoke",
    ] {
        let refused = admin.http("POST", path, &[("content-type", "application/json")], b"{}").await.unwrap();
        assert!(matches!(refused.status().as_u16(), 400 | 404 | 405), "{path}: {}", refused.status());
    }
    assert_eq!(admin.http("GET", "/v1/whoami", &[], b"").await.unwrap().status(), 200);
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_in_absolute_form_is_the_path_in_it() {
    let mut target = Target::start().await;
    for (uri, told) in [
        ("https://localhost/v1/whoami", 200),
        ("http://localhost/v1/whoami", 200),
        ("https://evil.example/v1/whoami", 403),
        ("https://localhost", 404),
        ("ftp://localhost/v1/whoami", 200),
    ] {
        let head = format!("GET {uri} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let said = target.http1().await.say(head.as_bytes()).await;
        assert_eq!(statuses(&said), [told], "{uri}: {said}");
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_something_long_is_short() {
    let mut target = Target::start().await;
    let admin = target.admin().await;
    let long = "x".repeat(12_000);
    for path in [format!("/{long}"), format!("/v1/principals/{long}"), format!("/v1/principals?{long}=1")] {
        let refused = admin.http("GET", &path, &[], b"").await.unwrap();
        assert!(
            refused.status().is_client_error() && refused.body().len() < 4_096,
            "{}",
            refused.body().len()
        );
        let refused = admin.send_with("POST", &path, &[], &()).await.unwrap();
        let told: usize = refused.headers().values().map(http::HeaderValue::len).sum();
        assert!(refused.headers().contains_key("grpc-status") && told < 8_192, "{told}");
    }
    let path = format!("/{}", "ä\u{1f980}".repeat(1_500));
    let encoded: Vec<String> = path.bytes().skip(1).map(|byte| format!("%{byte:02x}")).collect();
    let encoded = encoded.concat();
    let refused = admin.http("GET", &format!("/v1/principals/{encoded}"), &[], b"").await;
    // 27,000 bytes are more than a head may have.
    assert!(refused.is_err() || refused.unwrap().status().is_client_error());
    target.is_unharmed().await;
}
