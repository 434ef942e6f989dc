//! What the profiles allow, and that nothing is resumed.

use std::sync::Arc;

use airunner_core::Label;
use airunner_net::{TlsProfile, connect, server_config};
use rustls::{ServerConfig, server::ServerSessionMemoryCache};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpListener};
use tokio_rustls::TlsAcceptor;

use crate::{
    bed::{Bed, Options, soon},
    openssl::{SClient, s_client},
};

async fn p384_bed() -> Bed {
    Bed::with(Options { profile: TlsProfile::P384, ..Options::default() }).await
}

#[tokio::test]
async fn our_own_client_exchanges_keys_with_the_hybrid_group() {
    let bed = Bed::new().await;
    let stream = bed.dial(Some(&bed.ca.client())).await.unwrap();
    let group = stream.session().negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(stream.session().alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn the_default_profile_takes_openssl_on_each_of_its_curves() {
    let bed = Bed::new().await;
    let leaf = bed.ca.client();
    for (group, shown) in [("X25519", "X25519, 253 bits"), ("P-256", "prime256v1"), ("P-384", "secp384r1")] {
        let said = s_client(&bed, Some(&leaf), &["-groups", group]).await;
        assert!(
            said.contains(&format!("Server Temp Key: {shown}")) || said.contains(shown),
            "{group}: {said}"
        );
        assert!(said.contains("Verify return code: 0 (ok)"), "{group}: {said}");
        assert!(said.ends_with_hello(), "{group}: {said}");
    }
}

#[tokio::test]
async fn the_p384_profile_takes_p521_and_p384_and_nothing_else() {
    let bed = p384_bed().await;
    let leaf = bed.ca.client();
    for (group, shown) in [("P-521", "secp521r1"), ("P-384", "secp384r1")] {
        let said = s_client(&bed, Some(&leaf), &["-groups", group]).await;
        assert!(said.contains(shown), "{group}: {said}");
        assert!(said.contains("Cipher is TLS_AES_256_GCM_SHA384"), "{group}: {said}");
        assert!(said.ends_with_hello(), "{group}: {said}");
    }
    for arguments in [
        &["-groups", "X25519"][..],
        &["-groups", "P-256"],
        &["-groups", "P-384", "-ciphersuites", "TLS_AES_128_GCM_SHA256"],
        &["-groups", "P-384", "-sigalgs", "ECDSA+SHA256"],
    ] {
        let said = s_client(&bed, Some(&leaf), arguments).await;
        assert!(said.contains("alert handshake failure"), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn our_own_client_exchanges_keys_on_p384_under_that_profile() {
    let bed = p384_bed().await;
    let stream = bed.dial(Some(&bed.ca.client())).await.unwrap();
    let group = stream.session().negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), rustls::NamedGroup::secp384r1);
    assert_eq!(bed.hello(Some(&bed.ca.client())).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_client_without_a_common_key_exchange_is_pointed_to_the_profile() {
    let bed = p384_bed().await;
    let mut provider = (*TlsProfile::Default.provider()).clone();
    provider.kx_groups.retain(|group| group.name() == rustls::NamedGroup::X25519);
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let error = soon(connect(Arc::new(config), "localhost", &bed.address.to_string())).await.unwrap_err();
    assert_eq!(error.label(), Label::Unreachable);
    assert!(error.message().contains("TLS profile"), "{error}");
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let bed = Bed::new().await;
    let said = s_client(&bed, Some(&bed.ca.client()), &["-tls1_2"]).await;
    assert!(said.contains("alert protocol version"), "{said}");
}

#[tokio::test]
async fn nothing_is_given_that_could_be_resumed() {
    let bed = Bed::new().await;
    let client = SClient::new(&bed, Some(&bed.ca.client()));
    let said = client.says(&bed.address.to_string(), &["-sess_out", "session"]).await;
    assert!(said.ends_with_hello(), "{said}");
    assert!(!client.has("session"), "the server gave a session ticket");
}

#[tokio::test]
async fn a_session_that_is_offered_all_the_same_is_not_resumed_and_its_early_data_is_rejected() {
    let bed = Bed::new().await;
    let client = SClient::new(&bed, Some(&bed.ca.client()));
    let generous = generous_server(&bed).await;
    let said = client.says(&generous, &["-sess_out", "session"]).await;
    assert!(client.has("session"), "no session to offer: {said}");
    let said = client.says(&generous, &["-sess_in", "session"]).await;
    assert!(said.contains("Reused, TLSv1.3"), "a session that nobody would resume proves nothing: {said}");

    client.says(&generous, &["-sess_out", "session"]).await;
    let said = client.says(&bed.address.to_string(), &["-sess_in", "session"]).await;
    assert!(said.contains("New, TLSv1.3"), "{said}");
    assert!(said.ends_with_hello(), "{said}");

    std::fs::write(client.path("early"), "GET /early HTTP/1.1\r\n\r\n").unwrap();
    let early = ["-sess_in", "session", "-early_data", "early"];
    let said = client.says(&bed.address.to_string(), &early).await;
    assert!(said.contains("Early data was rejected"), "{said}");
    assert!(said.contains("New, TLSv1.3"), "{said}");
}

/// A server of the same name that does give tickets and takes early data: where it listens.
async fn generous_server(bed: &Bed) -> String {
    let mut config: ServerConfig = (*server_config(bed.profile, bed.identity.clone(), None).unwrap()).clone();
    config.send_tls13_tickets = 2;
    config.session_storage = ServerSessionMemoryCache::new(16);
    config.max_early_data_size = 16_384;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = socket.accept().await {
            let mut stream = acceptor.accept(tcp).await.unwrap();
            stream.read_u8().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    address
}

trait Said {
    fn ends_with_hello(&self) -> bool;
}

impl Said for String {
    /// Whether the answer to the request is there.
    fn ends_with_hello(&self) -> bool {
        self.contains("HTTP/1.1 200 OK") && self.contains("hello")
    }
}
