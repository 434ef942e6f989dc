//! Clients that we did not write: openssl against the handshake, grpcurl against reflection and health.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use airunner_core::PrincipalType;
use airunner_e2e::{Credentials, TestServer, TestServerOptions};
use airunner_net::TlsProfile;
use airunner_pki::certificate_to_pem;
use airunner_proto::ca::v1::{
    IssueCertificateRequest, IssueCertificateResponse, RevokeCertificatesRequest, RevokeCertificatesResponse,
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::calls::*;

/// A request for something that is not there: that it is answered says that the connection is served.
const REQUEST: &[u8] = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const SERVED: &str = "HTTP/1.1 404 Not Found";

/// Another program's view of a server, in a folder of its own.
pub(crate) struct Other {
    folder: TempDir,
    address: String,
    has_certificate: bool,
}

impl Other {
    pub(crate) fn new(server: &TestServer, who: Option<&Credentials>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("root.pem", server.roots_pem().as_bytes());
        if let Some(who) = who {
            let chain: String = who.chain.iter().map(|der| certificate_to_pem(der)).collect();
            write("chain.pem", chain.as_bytes());
            write("key.pem", who.key.to_pem(None).unwrap().expose());
        }
        Self { folder, address: server.addresses.api.to_string(), has_certificate: who.is_some() }
    }

    /// All that s_client says until the server hangs up.
    async fn s_client(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &self.address, "-CAfile", "root.pem", "-verify_return_error"]);
        command.args([
            "-servername",
            "localhost",
            "-verify_hostname",
            "localhost",
            "-ign_eof",
            "-nocommands",
        ]);
        if self.has_certificate {
            command.args(["-cert", "chain.pem", "-cert_chain", "chain.pem", "-key", "key.pem"]);
        }
        command.args(arguments).stdin(Stdio::piped());
        let output = self.run(command, REQUEST).await;
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// What grpcurl prints; it must succeed.
    async fn grpcurl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(tool("grpcurl"));
        command.args(["-cacert", "root.pem", "-cert", "chain.pem", "-key", "key.pem", "-max-time", "10"]);
        command.args(arguments);
        let output = self.run(command, b"").await;
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What curl prints; it must succeed.
    async fn curl(&self, path: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("curl");
        let identity = ["--cacert", "root.pem", "--cert", "chain.pem", "--key", "key.pem"];
        command.args(["--silent", "--show-error", "--max-time", "10"]).args(identity).args(arguments);
        let port = self.address.rsplit_once(':').unwrap().1;
        command.arg(format!("https://localhost:{port}{path}"));
        let output = self.run(command, b"").await;
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn run(&self, command: Command, input: &[u8]) -> Output {
        self.run_for(command, input, Duration::from_secs(20)).await
    }

    /// Runs `command` among the files, and waits that long for its end.
    pub(crate) async fn run_for(&self, mut command: Command, input: &[u8], limit: Duration) -> Output {
        command.current_dir(self.folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        if let Some(stdin) = &mut child.stdin {
            // A handshake that fails early closes this pipe.
            let _closed = stdin.write_all(input).await;
        }
        let stdin = child.stdin.take();
        let ended = tokio::time::timeout(limit, child.wait_with_output()).await;
        drop(stdin);
        ended.unwrap_or_else(|_| panic!("{command:?} does not end")).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Where a tool of the tests is: in the folder that is named, on the path, or where `make test-tools` puts it.
pub(crate) fn tool(name: &str) -> PathBuf {
    let named = std::env::var_os("AIRUNNER_TEST_TOOLS").map(PathBuf::from);
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = named.into_iter().chain(std::env::split_paths(&path)).chain([made]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("these tests need {name}: run `make test-tools`, or name its folder in AIRUNNER_TEST_TOOLS")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_verifies_the_chain_and_is_served() {
    let server = TestServer::start().await;
    let said = Other::new(&server, Some(&server.admin)).s_client(&["-showcerts"]).await;
    for part in [
        "Verify return code: 0 (ok)",
        "Verified peername: localhost",
        "TLSv1.3",
        "Requested Signature Algorithms",
        SERVED,
        "unknown-method",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    for old in ["-tls1_2", "-tls1_1"] {
        let said = Other::new(&server, Some(&server.admin)).s_client(&[old]).await;
        assert!(said.contains("SSL alert number") && !said.contains(SERVED), "{said}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_of_another_environment_verifies_nothing() {
    let (server, other) = (TestServer::start().await, TestServer::start().await);
    let view = Other::new(&server, Some(&server.admin));
    std::fs::write(view.path("root.pem"), other.roots_pem()).unwrap();
    let said = view.s_client(&[]).await;
    assert!(said.contains("verify error") && !said.contains(SERVED), "{said}");
    server.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_profiles_allow_their_key_exchanges_and_no_others() {
    let p384 = TestServerOptions { profile: TlsProfile::P384, ..Default::default() };
    for (server, allowed, refused) in [
        (TestServer::start().await, vec!["X25519", "P-256", "P-384"], vec!["P-521"]),
        (TestServer::start_with(p384).await, vec!["P-384", "P-521"], vec!["X25519", "P-256"]),
    ] {
        for group in allowed {
            let said = Other::new(&server, Some(&server.admin)).s_client(&["-groups", group]).await;
            assert!(said.contains(SERVED), "{group}: {said}");
        }
        for group in refused {
            let said = Other::new(&server, Some(&server.admin)).s_client(&["-groups", group]).await;
            assert!(said.contains("alert handshake failure") && !said.contains(SERVED), "{group}: {said}");
        }
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p384_is_p384_all_the_way() {
    let options = TestServerOptions { profile: TlsProfile::P384, ..Default::default() };
    let server = TestServer::start_with(options).await;
    let view = Other::new(&server, Some(&server.admin));
    let said = view.s_client(&[]).await;
    assert!(
        said.contains("TLS_AES_256_GCM_SHA384") && said.contains("Peer signing digest: SHA384"),
        "{said}"
    );
    for other in ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"] {
        let said = view.s_client(&["-ciphersuites", other]).await;
        assert!(said.contains("alert handshake failure") && !said.contains(SERVED), "{said}");
    }
    let mut command = Command::new("openssl");
    command.args(["x509", "-in", "chain.pem", "-noout", "-text"]);
    let text = String::from_utf8(view.run(command, b"").await.stdout).unwrap();
    assert!(text.contains("ecdsa-with-SHA384") && text.contains("P-384"), "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_session_to_resume_and_no_early_data() {
    let server = TestServer::start().await;
    let mut view = Other::new(&server, Some(&server.admin));
    let public = server.addresses.public.unwrap().to_string();
    for address in [view.address.clone(), public] {
        view.address = address;
        let said = view.s_client(&["-sess_out", "session.pem"]).await;
        assert!(said.contains(SERVED) && said.contains("New, TLSv1.3"), "{said}");
        assert!(!said.contains("Session Ticket arrived"), "{said}");
        assert!(!view.path("session.pem").exists(), "a session was given");
        std::fs::write(view.path("early"), "GET /early HTTP/1.1\r\n\r\n").unwrap();
        let said = view.s_client(&["-early_data", "early"]).await;
        assert!(said.contains("Early data was not sent"), "{said}");
        assert!(!said.contains("Early data was accepted"), "{said}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_gets_the_alert_that_names_the_reason() {
    let (server, other) = (TestServer::start().await, TestServer::start().await);
    let admin = admin(&server).await;
    let revoked = server.principal("revoked", PrincipalType::User).await;
    let request = RevokeCertificatesRequest { principal_id: "revoked".to_owned(), ..Default::default() };
    let _: RevokeCertificatesResponse = admin.ask(REVOKE, &request).await;
    server.principal("expired", PrincipalType::User).await;
    let (key, csr) = key_and_csr();
    let validity = seconds(300);
    let request =
        IssueCertificateRequest { principal_id: "expired".to_owned(), csr, validity, ..Default::default() };
    let issued: IssueCertificateResponse = admin.ask(ISSUE, &request).await;
    let expired = server.credentials("expired", &issued.certificate.unwrap().pem, &issued.chain_pem, key);
    server.turn_ahead(Duration::from_mins(6)).await;

    for (who, alert) in [
        (Some(&revoked), "alert certificate revoked"),
        (Some(&expired), "alert certificate expired"),
        (None, "alert certificate required"),
        (Some(&other.admin), "alert unknown ca"),
    ] {
        let said = Other::new(&server, who).s_client(&[]).await;
        assert!(said.contains(alert) && !said.contains(SERVED), "no {alert:?} in {said}");
    }
    server.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcurl_finds_its_way_by_reflection() {
    let server = TestServer::start().await;
    let view = Other::new(&server, Some(&server.admin));
    let address = view.address.as_str();
    let services = view.grpcurl(&[address, "list"]).await;
    for service in [
        "airunner.audit.v1.AuditService",
        "airunner.ca.v1.CertificateService",
        "airunner.ca.v1.EnrollmentService",
        "airunner.ca.v1.IssuerService",
        "airunner.job.v1.JobEventsService",
        "airunner.job.v1.JobService",
        "airunner.principal.v1.PrincipalService",
        "grpc.health.v1.Health",
    ] {
        assert!(services.lines().any(|line| line == service), "{services}");
    }
    let me = view.grpcurl(&[address, "airunner.principal.v1.PrincipalService/WhoAmI"]).await;
    assert!(
        me.contains(r#""principalId": "admin""#) && me.contains("spiffe://test.airunner/admin/admin"),
        "{me}"
    );
    let request = r#"{"page_size": 1}"#;
    let list = "airunner.principal.v1.PrincipalService/ListPrincipals";
    let all = view.grpcurl(&["-d", request, address, list]).await;
    assert!(all.contains(r#""type": "PRINCIPAL_TYPE_ADMIN""#), "{all}");
    let described = view.grpcurl(&[address, "describe", "airunner.job.v1.JobService.CancelJob"]).await;
    assert!(described.contains("CancelJobRequest"), "{described}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_reads_writes_and_follows_over_both_versions_of_http() {
    let server = TestServer::start().await;
    let view = Other::new(&server, Some(&server.admin));
    let large = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(large.path(), vec![b' '; 6 << 20]).unwrap();
    for (n, version) in ["--http1.1", "--http2"].into_iter().enumerate() {
        let me = view.curl("/v1/whoami", &[version]).await;
        assert!(me.contains(r#""principalId":"admin""#), "{me}");
        let body = format!(r#"{{"principalId": "w{n}", "type": "PRINCIPAL_TYPE_WORKER"}}"#);
        let made = ["--json", &body, "--write-out", "%{http_code} %{http_version}"];
        let made = view.curl("/v1/principals", &[&[version], &made[..]].concat()).await;
        assert!(made.ends_with(if n == 0 { "200 1.1" } else { "200 2" }), "{made}");
        let packed = view.curl("/v1/principals", &[version, "--compressed"]).await;
        assert!(packed.contains(&format!(r#""principalId":"w{n}""#)), "{packed}");
        let lines = view.curl("/v1/audit?count=1", &[version, "--no-buffer"]).await;
        assert!(lines.ends_with("{\"end\":{}}\n"), "{lines}");
        let head = view.curl("/v1/whoami", &[version, "--head"]).await;
        assert!(head.contains("200") && head.contains("no-store"), "{head}");
        let connect = "/airunner.principal.v1.PrincipalService/GetPrincipal";
        let found = view.curl(connect, &[version, "--json", r#"{"principal_id": "w0"}"#]).await;
        assert!(found.contains("PRINCIPAL_TYPE_WORKER"), "{found}");
        // This curl gives up where it is cut off while it sends.
        let large = format!("@{}", large.path().display());
        let sent = ["--json", &large, "--write-out", "%{http_code}"];
        let refused = view.curl("/v1/principals", &[&[version], &sent[..]].concat()).await;
        assert!(refused.ends_with("413") && refused.contains("too-large"), "{version}: {refused}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpcurl_asks_for_health() {
    let server = TestServer::start().await;
    let view = Other::new(&server, Some(&server.admin));
    let check = [view.address.as_str(), "grpc.health.v1.Health/Check"];
    eventually("a server that serves", async || {
        view.grpcurl(&check).await.contains(r#""status": "SERVING""#)
    })
    .await;
    server.app.fleet.drain();
    eventually("a server that drains", async || view.grpcurl(&check).await.contains("NOT_SERVING")).await;
    server.stop().await;
}
