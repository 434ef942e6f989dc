//! Root, issuing CA and leaves as chains, to openssl with its strictest settings and to webpki.

use std::time::Duration;

use airunner_core::{DnsName, KeyAlgorithm, PrincipalType, Timestamp};
use airunner_pki::{
    CaParams, IssuerCertificate, LeafParams, PrivateKey, certificate_to_pem, parse_certificate,
    prepare_issuing, prepare_leaf, prepare_root, prepare_single, verify_issued_by,
};
use airunner_testkit::{TestCa, TestLeaf, sign};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::openssl::OpenSsl;

const ALL: [KeyAlgorithm; 4] =
    [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::EcdsaP521, KeyAlgorithm::Ed25519];

/// Seconds since the epoch of a day in 2030, when every certificate here is valid.
const DAY: u64 = 1_900_000_000;

fn service(ca: &TestCa) -> TestLeaf {
    let key = ca.key();
    let params = LeafParams {
        dns_names: vec!["billing.example".parse::<DnsName>().unwrap()],
        ip_addresses: vec!["192.0.2.7".parse().unwrap()],
        ..ca.params(PrincipalType::Service, "billing", &key)
    };
    ca.issue(&params, key)
}

/// Each leaf with the purposes that it is good for.
fn leaves(ca: &TestCa) -> Vec<(TestLeaf, &'static [&'static str])> {
    let mut leaves: Vec<(TestLeaf, &'static [&'static str])> = vec![
        (ca.server(&["api.example", "localhost", "127.0.0.1", "::1"]), &["sslserver"]),
        (service(ca), &["sslclient", "sslserver"]),
    ];
    for principal_type in [PrincipalType::Admin, PrincipalType::User, PrincipalType::Worker] {
        leaves.push((ca.client(principal_type, "someone"), &["sslclient"]));
    }
    leaves
}

#[test]
fn openssl_accepts_every_profile_for_its_purposes_and_no_other() {
    for algorithm in ALL {
        let ca = TestCa::with(algorithm);
        let files = OpenSsl::new();
        files.write("root.pem", ca.root_pem());
        files.write("issuing.pem", certificate_to_pem(ca.issuing().der()));
        for (leaf, purposes) in leaves(&ca) {
            files.write("leaf.pem", certificate_to_pem(leaf.der()));
            for purpose in ["sslclient", "sslserver", "smimesign", "crlsign"] {
                let line = format!(
                    "verify -x509_strict -check_ss_sig -attime {DAY} -purpose {purpose} -CAfile root.pem -no-CApath \
                     -no-CAstore -untrusted issuing.pem leaf.pem"
                );
                if purposes.contains(&purpose) {
                    assert_eq!(files.run(&line), "leaf.pem: OK\n");
                } else {
                    let complaint = files.refused(&line);
                    let unsuitable = complaint.contains("unsuitable certificate purpose");
                    assert!(unsuitable, "{algorithm:?} {purpose}: {complaint}");
                }
            }
        }
    }
}

#[test]
fn webpki_accepts_clients_and_servers() {
    for algorithm in ALL {
        let ca = TestCa::with(algorithm);
        for (leaf, purposes) in leaves(&ca) {
            for (purpose, usage) in
                [("sslclient", KeyUsage::client_auth()), ("sslserver", KeyUsage::server_auth())]
            {
                let accepted = webpki_accepts(&ca, &leaf, usage);
                assert_eq!(accepted.is_ok(), purposes.contains(&purpose), "{purpose}: {accepted:?}");
            }
        }
    }
    let ca = TestCa::new();
    let server = ca.server(&["api.example", "localhost", "127.0.0.1", "::1"]);
    let certificate = server.der().into();
    let entity = EndEntityCert::try_from(&certificate).unwrap();
    for name in ["api.example", "localhost", "127.0.0.1", "::1"] {
        entity.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap()).unwrap();
    }
    let foreign = ServerName::try_from("other.example").unwrap();
    assert!(entity.verify_is_valid_for_subject_name(&foreign).is_err());
}

fn webpki_accepts(ca: &TestCa, leaf: &TestLeaf, usage: KeyUsage) -> Result<(), webpki::Error> {
    let (root, issuing) = (CertificateDer::from(ca.root().der()), CertificateDer::from(ca.issuing().der()));
    let anchor = anchor_from_trusted_cert(&root)?;
    let leaf = leaf.der().into();
    EndEntityCert::try_from(&leaf)?
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[anchor],
            &[issuing],
            UnixTime::since_unix_epoch(Duration::from_secs(DAY)),
            usage,
            None,
            None,
        )
        .map(|_| ())
}

#[test]
fn the_p384_profile_is_sha384_all_the_way() {
    let ca = TestCa::with(KeyAlgorithm::EcdsaP384);
    let leaf = ca.client(PrincipalType::Worker, "w");
    let files = OpenSsl::new();
    for der in [ca.root().der(), ca.issuing().der(), leaf.der()] {
        files.write("cert.der", der);
        let text = files.run("x509 -inform DER -in cert.der -noout -text");
        assert_eq!(text.matches("Signature Algorithm: ecdsa-with-SHA384").count(), 2, "{text}");
        assert!(text.contains("NIST CURVE: P-384"), "{text}");
    }
}

#[test]
fn ca_certificates_say_what_they_are() {
    let ca = TestCa::new();
    let files = OpenSsl::new();
    files.write("root.der", ca.root().der());
    let root = files.run("x509 -inform DER -in root.der -noout -text");
    assert!(root.contains("Basic Constraints: critical\n                CA:TRUE\n"), "{root}");
    assert!(root.contains("Key Usage: critical\n                Certificate Sign, CRL Sign\n"), "{root}");
    assert!(ca.root().is_self_signed());

    files.write("issuing.der", ca.issuing().der());
    let issuing = files.run("x509 -inform DER -in issuing.der -noout -text");
    assert!(issuing.contains("CA:TRUE, pathlen:0\n"), "{issuing}");
    assert!(!ca.issuing().is_self_signed());
    assert_eq!(ca.issuing().subject_dn(), "CN=airunner test issuing");
    assert_eq!(ca.issuing().subject_key_id().len(), 20);
}

fn params(subject: &str, key: &PrivateKey) -> CaParams {
    CaParams {
        serial: TestCa::new().next_serial(),
        subject: subject.to_owned(),
        public_key: key.subject_public_key().clone(),
        not_before: TestCa::NOT_BEFORE,
        not_after: TestCa::NOT_AFTER,
    }
}

#[test]
fn a_single_ca_signs_leaves_but_no_ca() {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let single = sign(prepare_single(&params("single", &key)).unwrap(), &key);
    let single = IssuerCertificate::parse(single.der()).unwrap();
    assert!(single.is_self_signed());
    let error = prepare_issuing(&single, &params("issuing", &key)).unwrap_err();
    assert!(error.message().contains("path length 0"), "{error}");

    let ca = TestCa::new();
    let leaf_params = ca.params(PrincipalType::User, "u", &ca.key());
    let leaf = sign(prepare_leaf(&single, &leaf_params, ca.arc()).unwrap(), &key);
    let files = OpenSsl::new();
    files.write("single.pem", certificate_to_pem(single.der()));
    files.write("leaf.pem", certificate_to_pem(leaf.der()));
    files.run(&format!("verify -x509_strict -attime {DAY} -purpose sslclient -CAfile single.pem leaf.pem"));
}

#[test]
fn an_issuer_made_by_openssl_is_repeated_byte_for_byte() {
    let files = OpenSsl::new();
    files.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out key.pem");
    files.run(
        "req -x509 -key key.pem -sha384 -days 9000 -set_serial 77 -subj /C=DE/O=Example/OU=Unit/CN=Root \
         -addext keyUsage=critical,keyCertSign,cRLSign -outform DER -out root.der",
    );
    let root = IssuerCertificate::parse(&files.read("root.der")).unwrap();
    assert_eq!(root.subject_dn(), "CN=Root,OU=Unit,O=Example,C=DE");
    assert!(root.is_self_signed());
    let key = PrivateKey::from_pem(&files.read("key.pem"), None).unwrap();

    let issuing_key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let issuing = CaParams {
        not_before: root.not_before(),
        not_after: root.not_before().plus(Duration::from_hours(24)),
        ..params("issuing", &issuing_key)
    };
    let issuing = sign(prepare_issuing(&root, &issuing).unwrap(), &key);
    verify_issued_by(issuing.der(), &root).unwrap();
    let when = root.not_before().as_secs() + 60;
    files.run("x509 -inform DER -in root.der -out root.pem");
    files.write("issuing.pem", certificate_to_pem(issuing.der()));
    files.run(&format!("verify -x509_strict -attime {when} -CAfile root.pem issuing.pem"));
}

#[test]
fn an_issuer_whose_name_can_not_be_repeated_is_refused_before_it_signs() {
    let files = OpenSsl::new();
    files.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem");
    files.run("req -x509 -key key.pem -days 9000 -subj /OU=a/OU=b/CN=Root -outform DER -out root.der");
    let root = IssuerCertificate::parse(&files.read("root.der")).unwrap();
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let (not_before, not_after) = (root.not_before(), root.not_after());
    let error = prepare_issuing(&root, &CaParams { not_before, not_after, ..params("x", &key) }).unwrap_err();
    assert_eq!(error.field(), Some("certificate"));
    assert!(error.message().contains("repeat"), "{error}");
}

#[test]
fn who_signed_is_checked_by_name_and_by_key() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let leaf = ca.client(PrincipalType::User, "u");
    verify_issued_by(leaf.der(), ca.issuing()).unwrap();
    // Same names, other keys.
    let error = verify_issued_by(leaf.der(), other.issuing()).unwrap_err();
    assert!(error.message().contains("signature"), "{error}");
    let error = verify_issued_by(leaf.der(), ca.root()).unwrap_err();
    assert!(error.message().contains("another issuer"), "{error}");
    let mut changed = leaf.der().to_vec();
    *changed.last_mut().unwrap() ^= 1;
    assert!(verify_issued_by(&changed, ca.issuing()).is_err());
}

#[tokio::test]
async fn only_the_issuers_own_key_signs() {
    let ca = TestCa::new();
    let prepare = || {
        let params = ca.params(PrincipalType::User, "u", &ca.key());
        prepare_leaf(ca.issuing(), &params, ca.arc()).unwrap()
    };
    let (prepared, key) = (prepare(), ca.issuing_key());
    tokio::spawn(async move { prepared.sign(&*key).await }).await.unwrap().unwrap();
    let error = prepare().sign(&*ca.root_key()).await.unwrap_err();
    assert!(error.message().contains("belong together"), "{error}");
}

#[test]
fn certificates_reach_past_2050() {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let end = Timestamp::from_millis(4_102_444_799_999);
    let root = sign(prepare_root(&CaParams { not_after: end, ..params("root", &key) }).unwrap(), &key);
    let files = OpenSsl::new();
    files.write("root.der", root.der());
    let dates = files.run("x509 -inform DER -in root.der -noout -dates");
    assert_eq!(dates, "notBefore=Jan  1 00:00:00 2024 GMT\nnotAfter=Dec 31 23:59:59 2099 GMT\n");
    let shown = files.run("asn1parse -inform DER -in root.der");
    assert!(shown.contains("UTCTIME           :240101000000Z"), "{shown}");
    assert!(shown.contains("GENERALIZEDTIME   :20991231235959Z"), "{shown}");
    let parsed = parse_certificate(root.der(), TestCa::new().arc()).unwrap();
    assert_eq!(parsed.not_after, end.floor_second());
    assert_eq!(root.not_after(), parsed.not_after);
    assert!(parsed.is_ca);
}
