//! TLS: what is no handshake, half of one, or more than one.

use std::{process::Stdio, sync::Arc, time::Duration};

use airunner_pki::PrivateKey;
use rustls::{
    ClientConfig,
    client::ResolvesClientCert,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use super::target::{PATIENCE, Target};

const SERVED: &str = "HTTP/1.1 404 Not Found";
const REQUEST: &[u8] = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// What openssl says to the API listener, as the first admin.
async fn s_client(target: &Target, arguments: &str, input: &[u8]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &target.api.to_string(), "-CAfile", "root.pem"]);
    command.args(["-cert", "chain.pem", "-cert_chain", "chain.pem", "-key", "key.pem"]);
    command.args(arguments.split(' ').filter(|argument| !argument.is_empty()));
    command.current_dir(target.folder()).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A handshake that fails early closes this pipe.
    let _ = stdin.write_all(input).await;
    let ended = timeout(PATIENCE, child.wait_with_output()).await;
    drop(stdin);
    let output = ended.unwrap_or_else(|_| panic!("s_client {arguments} does not end")).unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Sends bytes before any handshake, and returns what comes until the server hangs up.
async fn raw(target: &Target, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(target.api).await.unwrap();
    let _ = timeout(PATIENCE, tcp.write_all(bytes)).await.expect("a server that reads or hangs up");
    let mut said = Vec::new();
    let _ = timeout(PATIENCE, tcp.read_to_end(&mut said)).await.expect("a server that hangs up");
    said
}

/// A record (RFC 8446 section 5.1).
fn record(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_handshake_gets_an_alert_or_nothing() {
    let mut target = Target::start().await;
    let hello = [&[1, 0, 0, 200][..], &[0; 200]].concat();
    for (name, bytes) in [
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("SSH", b"SSH-2.0-x\r\n".to_vec()),
        ("SSL 2", vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10]),
        ("zeros", vec![0; 1 << 16]),
        ("a record that is too long", [vec![22, 3, 1, 0xff, 0xff], vec![0; 0xffff]].concat()),
        ("a record of an unknown kind", record(99, b"x")),
        ("data before the handshake", record(23, &[0; 100])),
        ("a hello that is none", record(22, &hello)),
        (
            "a hello of 16 MiB",
            [record(22, &[1, 0xff, 0xff, 0xff]), record(22, &[0; 16_000]).repeat(100)].concat(),
        ),
        ("another message of the handshake", record(22, &[11, 0, 0, 3, 0, 0, 0])),
        ("empty records", record(22, b"").repeat(20_000)),
        ("alerts", record(21, &[1, 90]).repeat(10_000)),
        ("changes of cipher", record(20, &[1]).repeat(10_000)),
    ] {
        let said = raw(&target, &bytes).await;
        assert!(said.is_empty() || said[0] == 21, "{name}: {:?}", &said[..said.len().min(40)]);
        assert!(said.len() < 100, "{name}: {} bytes", said.len());
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_versions_and_weak_suites_get_an_alert() {
    let mut target = Target::start().await;
    for arguments in [
        "-tls1_2",
        "-tls1_1 -cipher DEFAULT@SECLEVEL=0",
        "-tls1 -cipher DEFAULT@SECLEVEL=0",
        "-tls1_2 -cipher NULL-SHA256:@SECLEVEL=0",
        "-ciphersuites TLS_AES_128_CCM_SHA256",
        "-sigalgs RSA-PSS+SHA256",
        "-groups P-521",
        "-groups ffdhe2048",
    ] {
        let said = s_client(&target, arguments, REQUEST).await;
        assert!(!said.contains(SERVED), "{arguments}: {said}");
        assert!(said.contains("alert"), "{arguments}: {said}");
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alpn_is_ours_or_there_is_no_connection() {
    let mut target = Target::start().await;
    for other in ["http/1.0", "spdy/3", "h3", "ftp", "smtp,imap", "h2c"] {
        let said = s_client(&target, &format!("-alpn {other}"), REQUEST).await;
        assert!(said.contains("alert no application protocol") && !said.contains(SERVED), "{other}: {said}");
    }
    for ours in ["", "-alpn http/1.1", "-alpn spdy/3,http/1.1"] {
        let said = s_client(&target, ours, REQUEST).await;
        assert!(said.contains(SERVED), "{ours}: {said}");
    }
    // Who has chosen h2 and speaks HTTP/1.1 is answered in it: the first bytes decide, and both go the same way.
    let said = s_client(&target, "-alpn h2", REQUEST).await;
    assert!(said.contains(SERVED) || !said.contains("HTTP/1.1 200"), "{said}");
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_that_a_client_asks_for_decides_nothing() {
    let mut target = Target::start().await;
    let long = format!("-servername {}", vec!["a".repeat(60); 4].join("."));
    for name in [
        "-noservername",
        "-servername evil.example",
        "-servername localhost.",
        "-servername LOCALHOST",
        &long,
    ] {
        let said = s_client(&target, name, REQUEST).await;
        assert!(said.contains(SERVED) && said.contains("Verify return code: 0"), "{name}: {said}");
    }
    for name in [
        "-servername 127.0.0.1",
        "-servername a..b",
        "-servername *.x",
        "-servername a/b",
        "-servername \u{e4}.example",
    ] {
        let said = s_client(&target, name, REQUEST).await;
        assert!(said.contains(SERVED) || said.contains("alert"), "{name}: {said}");
    }
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_renegotiated_and_keys_are_not_changed_without_end() {
    let mut target = Target::start().await;
    // A line of R asks openssl to renegotiate, which ends what it has.
    let said = s_client(&target, "", b"R\n").await;
    assert!(said.contains("RENEGOTIATING") && said.contains("wrong ssl version"), "{said}");
    for (times, answered) in [(1, true), (20_000, false)] {
        let mut tls = target.tls();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tcp = std::net::TcpStream::connect(target.api).unwrap();
        let said = tokio::task::spawn_blocking(move || change_keys(tls, tcp, times)).await.unwrap();
        assert_eq!(said.contains(SERVED), answered, "after {times} changes of keys: {said}");
    }
    target.is_unharmed().await;
}

/// Changes keys so many times, and then asks for something. Returns the answer.
fn change_keys(tls: ClientConfig, mut tcp: std::net::TcpStream, times: u32) -> String {
    use std::io::{Read as _, Write as _};
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(tls), "localhost".try_into().unwrap()).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut tcp).unwrap();
    }
    for _ in 0..times {
        if client.refresh_traffic_keys().is_err() || client.write_tls(&mut tcp).is_err() {
            return String::new();
        }
    }
    let mut said = Vec::new();
    let mut stream = rustls::Stream::new(&mut client, &mut tcp);
    // Whoever is hung up on gets a reset, or an alert.
    let _ = stream.write_all(REQUEST).and_then(|()| stream.read_to_end(&mut said));
    String::from_utf8_lossy(&said).into_owned()
}

/// Shows a chain with a key, whether or not they belong together.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn showing(target: &Target, chain: Vec<Vec<u8>>, key: &PrivateKey) -> ClientConfig {
    let pkcs8 = PrivatePkcs8KeyDer::from(key.to_pkcs8().expose().to_vec());
    let key = any_supported_type(&pkcs8.into()).unwrap();
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let mut tls = target.tls();
    tls.client_auth_cert_resolver = Arc::new(Shows(Arc::new(CertifiedKey::new(chain, key))));
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls
}

/// What comes of a request on a connection that shows this.
async fn told(target: &Target, tls: ClientConfig) -> String {
    let connected = airunner_net::connect(Arc::new(tls), "localhost", &target.api.to_string()).await;
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    let mut said = Vec::new();
    let asked = async {
        stream.write_all(REQUEST).await?;
        stream.read_to_end(&mut said).await
    };
    match timeout(PATIENCE, asked).await.expect("an answer") {
        Ok(_) => String::from_utf8_lossy(&said).into_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_is_small_and_its_leaf_is_proven() {
    let mut target = Target::start().await;
    let chain = target.chain();
    let key = PrivateKey::from_pem(&std::fs::read(target.folder().join("key.pem")).unwrap(), None).unwrap();
    let other = PrivateKey::generate(airunner_core::KeyAlgorithm::EcdsaP256).unwrap();
    assert!(told(&target, showing(&target, chain.clone(), &key)).await.contains(SERVED));
    let mut tampered = chain.clone();
    let last = tampered[0].len() - 1;
    tampered[0][last] ^= 1;
    let many = [vec![chain[0].clone()], vec![chain[1].clone(); 100]].concat();
    let large = [chain.clone(), vec![vec![0x30; 60_000]; 20]].concat();
    for (name, shown, key) in [
        ("another's leaf", chain.clone(), &other),
        ("a leaf with a changed signature", tampered, &key),
        ("the chain the wrong way round", chain.iter().rev().cloned().collect(), &key),
        ("the CA alone", vec![chain[1].clone()], &key),
        ("no certificate at all", Vec::new(), &key),
        ("bytes that are no certificate", vec![vec![0x30; 2_000]], &key),
        ("an empty certificate", vec![Vec::new()], &key),
        ("a megabyte", large, &key),
    ] {
        let said = told(&target, showing(&target, shown, key)).await;
        assert!(!said.contains("HTTP/1.1"), "{name}: {said}");
    }
    // More than is needed is passed over.
    let said = told(&target, showing(&target, many, &key)).await;
    assert!(said.contains(SERVED) || !said.contains("HTTP/1.1"), "{said}");
    target.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_handshake_costs_its_own_place_and_no_other() {
    let mut target = Target::start().await;
    let mut halves = Vec::new();
    for n in 0..400 {
        let Ok(mut tcp) = TcpStream::connect(target.api).await else { break };
        // Nothing, the head of a record, and most of a hello.
        let begun =
            [&b""[..], &[22, 3, 1, 2, 0], &[[22, 3, 1, 2, 0, 1, 0, 1, 0xfc].as_slice(), &[3; 300]].concat()];
        let _ = tcp.write_all(begun[n % 3]).await;
        halves.push(tcp);
    }
    timeout(Duration::from_secs(20), target.is_unharmed())
        .await
        .expect("the next caller is served meanwhile");
    drop(halves);
    target.is_unharmed().await;
}
