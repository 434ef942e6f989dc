//! Certificates and anchors that change under a running server.

use airunner_core::Label;
use airunner_net::{ServerIdentity, TrustAnchors};

use crate::{bed::Bed, ca::TestCa};

#[tokio::test]
async fn a_new_server_certificate_is_shown_from_the_next_handshake_on() {
    let bed = Bed::new().await;
    let leaf = bed.ca.client();
    let mut before = bed.client().await;
    let renewed = bed.ca.server();
    let shown = async || {
        let stream = bed.dial(Some(&leaf)).await.unwrap();
        stream.session().peer_certificates().unwrap()[0].to_vec()
    };
    assert_ne!(shown().await, renewed.chain[0]);

    bed.identity.replace(renewed.identity(bed.profile));

    assert_eq!(shown().await, renewed.chain[0]);
    assert_eq!(before.get("/hello").await.unwrap(), "hello", "the open connection was cut");
}

#[tokio::test]
async fn clones_of_an_identity_change_together() {
    let ca = TestCa::new();
    let identity = ServerIdentity::new(ca.server().identity(airunner_net::TlsProfile::Default));
    let (clone, renewed) = (identity.clone(), ca.server());
    identity.replace(renewed.identity(airunner_net::TlsProfile::Default));
    assert_eq!(clone.chain()[0].as_ref(), renewed.chain[0]);
}

#[tokio::test]
async fn new_anchors_count_from_the_next_handshake_on() {
    let bed = Bed::new().await;
    let (ours, successor) = (bed.ca.client(), TestCa::new());
    let theirs = successor.client();
    let mut before = bed.client().await;
    assert_eq!(bed.hello(Some(&theirs)).await.unwrap_err().label(), Label::IssuerDistrusted);

    bed.anchors.replace(vec![bed.ca.issuing_der(), successor.issuing_der()]).unwrap();
    assert_eq!(bed.hello(Some(&theirs)).await.unwrap(), "hello");
    assert_eq!(bed.hello(Some(&ours)).await.unwrap(), "hello");

    bed.anchors.replace(vec![successor.issuing_der()]).unwrap();
    assert_eq!(bed.hello(Some(&ours)).await.unwrap_err().label(), Label::IssuerDistrusted);
    assert_eq!(before.get("/hello").await.unwrap(), "hello", "the open connection was cut");

    bed.anchors.replace(vec![]).unwrap();
    assert_eq!(bed.hello(Some(&theirs)).await.unwrap_err().label(), Label::IssuerDistrusted);
}

#[tokio::test]
async fn what_is_no_ca_certificate_does_not_become_an_anchor() {
    let ca = TestCa::new();
    let anchors = TrustAnchors::new(vec![ca.issuing_der()]).unwrap();
    for bad in [ca.client().chain[0].clone(), b"nonsense".to_vec(), vec![]] {
        let error = anchors.replace(vec![ca.issuing_der(), ca.root_der(), bad]).unwrap_err();
        assert_eq!(error.label(), Label::File);
        assert_eq!(anchors.len(), 1, "half of a bad set was taken");
    }
}
