//! Which client certificates count, and what the client is told when its own does not.

use std::time::Duration;

use airunner_core::Label;
use airunner_net::{
    ClientTls, Refusal, TlsProfile, bundle_probe_config, client_config, connect, system::SystemClock,
};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use crate::{
    bed::{Bed, Client, Options, soon},
    ca::{Leaf, TestCa},
    openssl::s_client,
};

/// The same refusal, as openssl, our client and the listener's handler see it.
async fn is_refused(bed: &mut Bed, leaf: Option<&Leaf>, alert: &str, label: Label, refusal: Refusal) {
    let said = s_client(bed, leaf, &[]).await;
    assert!(said.contains(alert), "openssl said no {alert:?}: {said}");
    assert_eq!(bed.next_refusal().await, refusal);

    let error = bed.hello(leaf).await.unwrap_err();
    assert_eq!(error.label(), label, "{error}");
    assert_eq!(bed.next_refusal().await, refusal);
    assert!(bed.connections.try_recv().is_err(), "a refused connection was served");
}

#[tokio::test]
async fn a_good_certificate_is_served_and_shown_to_the_handler() {
    let mut bed = Bed::new().await;
    let leaf = bed.ca.client();
    assert_eq!(bed.hello(Some(&leaf)).await.unwrap(), "hello");
    let (peer, _) = bed.next_connection().await;
    assert_eq!(peer.leaf().unwrap().as_ref(), leaf.chain[0]);
    assert_eq!(peer.alpn, Some(airunner_net::Protocol::Http2));
    assert!(peer.address.ip().is_loopback());
}

#[tokio::test]
async fn no_certificate_is_certificate_required() {
    let mut bed = Bed::new().await;
    let alert = "SSL alert number 116";
    is_refused(&mut bed, None, alert, Label::NoCertificate, Refusal::NoCertificate).await;
}

#[tokio::test]
async fn a_foreign_issuer_is_unknown_ca_also_when_it_bears_the_same_name() {
    let mut bed = Bed::new().await;
    let leaf = TestCa::new().client();
    let alert = "alert unknown ca";
    is_refused(&mut bed, Some(&leaf), alert, Label::IssuerDistrusted, Refusal::UnknownIssuer).await;
}

#[tokio::test]
async fn a_certificate_from_a_ca_below_the_issuing_ca_is_unknown_ca() {
    let mut bed = Bed::new().await;
    let mut leaf = bed.ca.below().client();
    leaf.chain.push(bed.ca.issuing_der());
    let error = bed.hello(Some(&leaf)).await.unwrap_err();
    assert_eq!(error.label(), Label::IssuerDistrusted);
    assert_eq!(bed.next_refusal().await, Refusal::UnknownIssuer);
}

#[tokio::test]
async fn a_revoked_certificate_is_certificate_revoked() {
    let mut bed = Bed::new().await;
    let (leaf, other) = (bed.ca.client(), bed.ca.client());
    bed.revoked.serials.lock().unwrap().insert(leaf.serial.clone());
    let alert = "alert certificate revoked";
    is_refused(&mut bed, Some(&leaf), alert, Label::CertificateRevoked, Refusal::Revoked).await;
    assert_eq!(bed.hello(Some(&other)).await.unwrap(), "hello");
}

#[tokio::test]
async fn the_revocation_view_is_asked_by_the_issuers_key_id_and_the_bare_serial() {
    let bed = Bed::new().await;
    let leaf = bed.ca.client();
    bed.hello(Some(&leaf)).await.unwrap();
    let (_, parsed) = X509Certificate::from_der(&leaf.chain[0]).unwrap();
    let named = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(aki) => aki.key_identifier.as_ref().map(|id| id.0.to_vec()),
        _ => None,
    });
    assert_eq!(*bed.revoked.asked.lock().unwrap(), [(named.unwrap(), leaf.serial.clone())]);
}

#[tokio::test]
async fn a_certificate_past_its_time_is_certificate_expired() {
    let mut bed = Bed::new().await;
    let leaf = bed.ca.client();
    assert_eq!(bed.hello(Some(&leaf)).await.unwrap(), "hello");
    bed.next_connection().await;
    bed.clock.advance(Duration::from_hours(13));
    let alert = "alert certificate expired";
    is_refused(&mut bed, Some(&leaf), alert, Label::CertificateExpired, Refusal::Expired).await;
}

#[tokio::test]
async fn a_servers_certificate_is_none_of_a_clients() {
    let mut bed = Bed::new().await;
    let leaf = bed.ca.server();
    let alert = "alert unsupported certificate";
    is_refused(&mut bed, Some(&leaf), alert, Label::UnknownCertificate, Refusal::BadCertificate).await;
}

#[tokio::test]
async fn a_p256_certificate_is_refused_under_p384() {
    let mut bed = Bed::with(Options { profile: TlsProfile::P384, ..Options::default() }).await;
    let leaf = TestCa::new().client();
    let said = s_client(&bed, Some(&leaf), &[]).await;
    // openssl finds no signature that the server would take, and shows nothing.
    assert!(said.contains("SSL alert number 116"), "{said}");
    assert_eq!(bed.next_refusal().await, Refusal::NoCertificate);
}

#[tokio::test]
async fn the_alert_arrives_though_the_client_goes_on_writing() {
    use tokio::io::AsyncWriteExt;
    let bed = Bed::new().await;
    let leaf = bed.ca.client();
    bed.revoked.serials.lock().unwrap().insert(leaf.serial.clone());
    let mut stream = bed.dial(Some(&leaf)).await.unwrap();
    let failure = soon(async {
        loop {
            if let Err(error) = stream.write_all(&[0; 16 * 1024]).await {
                return airunner_net::tls_failure(&error)
                    .unwrap_or_else(|| panic!("the alert was lost: {error}"));
            }
        }
    });
    assert_eq!(failure.await.label(), Label::CertificateRevoked);
    assert_eq!(stream.failure().get(), Some(airunner_net::TlsFailure::Revoked));
}

#[tokio::test]
async fn where_no_certificate_is_asked_for_anyone_is_served() {
    let mut bed = Bed::with(Options { anyone: true, ..Options::default() }).await;
    assert_eq!(bed.hello(None).await.unwrap(), "hello");
    let (peer, _) = bed.next_connection().await;
    assert!(peer.certificates.is_empty());
}

#[tokio::test]
async fn the_client_trusts_its_roots_only_and_the_right_name_only() {
    let mut bed = Bed::new().await;
    let dial = async |roots: Vec<u8>, name: &str| {
        let tls = ClientTls { profile: TlsProfile::Default, roots: vec![roots], identity: None };
        let config = client_config(tls, std::sync::Arc::new(SystemClock)).unwrap();
        soon(connect(config, name, &bed.address.to_string())).await.unwrap_err()
    };
    let error = dial(TestCa::new().root_der(), "localhost").await;
    assert_eq!(error.label(), Label::Unreachable);
    assert!(error.message().contains("trust bundle"), "{error}");
    let error = dial(bed.ca.root_der(), "example.com").await;
    assert_eq!(error.label(), Label::Unreachable);
    assert!(error.message().contains("another name"), "{error}");
    assert_eq!(bed.next_refusal().await, Refusal::ByClient);
}

#[tokio::test]
async fn nobody_there_is_unreachable_with_advice() {
    let bed = Bed::new().await;
    bed.shutdown.cancel();
    soon(bed.served).await.unwrap();
    let tls = ClientTls { profile: TlsProfile::Default, roots: vec![bed.ca.root_der()], identity: None };
    let config = client_config(tls, std::sync::Arc::new(SystemClock)).unwrap();
    let error = soon(connect(config, "localhost", &bed.address.to_string())).await.unwrap_err();
    assert_eq!(error.label(), Label::Unreachable);
    for part in [&bed.address.to_string(), "refused", "check that the server runs"] {
        assert!(error.message().contains(part), "{error}");
    }
}

#[tokio::test]
async fn the_bundle_probe_takes_any_server_and_keeps_what_it_showed() {
    let bed = Bed::with(Options { anyone: true, ..Options::default() }).await;
    let probe = bundle_probe_config(TlsProfile::Default).unwrap();
    let address = bed.address.to_string();
    let stream = soon(connect(probe.unverified_config(), "whatever.example", &address)).await.unwrap();
    let mut client = Client::over(stream).await;
    assert_eq!(client.get("/hello").await.unwrap(), "hello");
    assert_eq!(probe.server_chain(), bed.identity.chain());
}
