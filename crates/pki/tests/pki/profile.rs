//! What leaves say, and what may not be asked for.

use std::time::Duration;

use airunner_core::{Error, Label, PrincipalType, Profile, Timestamp};
use airunner_pki::{LeafParams, OidArc, parse_certificate, prepare_leaf, sha256};
use airunner_testkit::{TestCa, sign};

use crate::openssl::OpenSsl;

#[test]
fn a_clients_leaf_reads_as_documented() {
    let ca = TestCa::new();
    let key = ca.key();
    let params = LeafParams {
        email: Some("alice@example.com".to_owned()),
        ..ca.params(PrincipalType::User, "alice@example.com", &key)
    };
    let leaf = ca.issue(&params, key);
    let files = OpenSsl::new();
    files.write("leaf.der", leaf.der());
    let text = files.run("x509 -inform DER -in leaf.der -noout -text -certopt ext_parse");
    for said in [
        "Version: 3 (0x2)",
        "Issuer: CN = airunner test issuing",
        "Subject: CN = alice@example.com",
        "Key Usage: critical\n                Digital Signature\n",
        "Extended Key Usage: \n                TLS Web Client Authentication\n",
        "URI:spiffe://test.airunner.internal/user/alice_40example.com, email:alice@example.com\n",
        "Basic Constraints: critical\n                CA:FALSE\n",
        "1.3.6.1.4.1.99999.1.1: \n    0:d=0  hl=2 l=   4 prim: UTF8STRING        :user\n",
        "1.3.6.1.4.1.99999.1.2: \n    0:d=0  hl=2 l=  17 prim: UTF8STRING        :alice@example.com\n",
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
    let ids =
        files.run("x509 -inform DER -in leaf.der -noout -ext authorityKeyIdentifier,subjectKeyIdentifier");
    let issuing: Vec<_> = ca.issuing().subject_key_id().iter().map(|byte| format!("{byte:02X}")).collect();
    assert!(ids.contains(&issuing.join(":")), "{ids}");
}

#[test]
fn a_services_leaf_is_client_and_server() {
    let ca = TestCa::new();
    let key = ca.key();
    let params = LeafParams {
        dns_names: vec!["billing.example".parse().unwrap(), "*.billing.example".parse().unwrap()],
        ip_addresses: vec!["2001:db8::1".parse().unwrap()],
        ..ca.params(PrincipalType::Service, "billing", &key)
    };
    let leaf = ca.issue(&params, key);
    let files = OpenSsl::new();
    files.write("leaf.der", leaf.der());
    let text = files.run("x509 -inform DER -in leaf.der -noout -text");
    assert!(text.contains("TLS Web Client Authentication, TLS Web Server Authentication"), "{text}");
    let names = "URI:spiffe://test.airunner.internal/service/billing, DNS:billing.example, DNS:*.billing.example, \
                 IP Address:2001:DB8:0:0:0:0:0:1\n";
    assert!(text.contains(names), "{text}");
}

#[test]
fn what_was_signed_reads_back() {
    let ca = TestCa::new();
    let leaf = ca.issue_client(PrincipalType::Worker, "w-1", Timestamp::from_millis(1_800_000_000_999));
    let signed = leaf.certificate();
    let parsed = parse_certificate(leaf.der(), ca.arc()).unwrap();
    assert_eq!((parsed.serial, parsed.fingerprint), (signed.serial(), signed.fingerprint()));
    assert_eq!(parsed.fingerprint.as_bytes(), &sha256(leaf.der()));
    assert_eq!(parsed.authority_key_id.as_deref(), Some(ca.issuing().subject_key_id()));
    assert_eq!((parsed.subject_dn.as_str(), signed.subject_dn()), ("CN=w-1", "CN=w-1"));
    assert_eq!(parsed.common_name.as_deref(), Some("w-1"));
    assert_eq!(&parsed.public_key, leaf.key().subject_public_key());
    assert_eq!(parsed.principal, Some((PrincipalType::Worker, "w-1".parse().unwrap())));
    assert_eq!(parsed.not_before, TestCa::NOT_BEFORE);
    assert_eq!(parsed.not_after, Timestamp::from_millis(1_800_000_000_000));
    assert_eq!(parsed.uris, ["spiffe://test.airunner.internal/worker/w-1"]);
    assert!(!parsed.is_ca && parsed.dns_names.is_empty() && parsed.ip_addresses.is_empty());

    let server = ca.server(&["api.example", "192.0.2.1"]);
    let parsed = parse_certificate(server.der(), ca.arc()).unwrap();
    assert_eq!(parsed.principal, None);
    assert_eq!(parsed.dns_names, ["api.example".parse().unwrap()]);
    assert_eq!(parsed.ip_addresses, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn the_arc_is_a_setting() {
    let ca = TestCa::new();
    let arc: OidArc = "2.999.4294967295".parse().unwrap();
    let params = ca.params(PrincipalType::Admin, "root", &ca.key());
    let leaf = sign(prepare_leaf(ca.issuing(), &params, &arc).unwrap(), &*ca.issuing_key());
    let files = OpenSsl::new();
    files.write("leaf.der", leaf.der());
    let text = files.run("x509 -inform DER -in leaf.der -noout -text");
    assert!(text.contains("2.999.4294967295.1: ") && text.contains("2.999.4294967295.2: "), "{text}");
    assert!(parse_certificate(leaf.der(), &arc).unwrap().principal.is_some());
    assert!(parse_certificate(leaf.der(), ca.arc()).unwrap().principal.is_none());
}

/// The error for a client's params after `change`.
#[track_caller]
fn refusal(change: impl FnOnce(&mut LeafParams)) -> Error {
    let ca = TestCa::new();
    let mut params = ca.params(PrincipalType::User, "u", &ca.key());
    change(&mut params);
    let error = prepare_leaf(ca.issuing(), &params, ca.arc()).unwrap_err();
    assert_eq!(error.label(), Label::InvalidArgument);
    error
}

#[test]
fn each_profile_has_its_fields_and_no_others() {
    let dns = || vec!["x.example".parse().unwrap()];
    let fields = [
        refusal(|params| params.uri = None),
        refusal(|params| params.principal = None),
        refusal(|params| params.dns_names = dns()),
        refusal(|params| params.ip_addresses = vec!["192.0.2.1".parse().unwrap()]),
        refusal(|params| params.profile = Profile::Server),
        refusal(|params| (params.profile, params.dns_names) = (Profile::Server, dns())),
        refusal(|params| {
            (params.profile, params.dns_names, params.uri) = (Profile::Server, dns(), None);
        }),
        refusal(|params| (params.profile, params.email) = (Profile::Service, Some("a@b".to_owned()))),
        refusal(|params| (params.profile, params.uri) = (Profile::Job, None)),
        refusal(|params| (params.profile, params.principal) = (Profile::Job, None)),
        refusal(|params| (params.profile, params.dns_names) = (Profile::Job, dns())),
        refusal(|params| (params.profile, params.email) = (Profile::Job, Some("a@b".to_owned()))),
    ];
    let named: Vec<_> = fields.iter().map(|error| error.field().unwrap()).collect();
    assert_eq!(
        named,
        [
            "uri",
            "principal",
            "dns_names",
            "dns_names",
            "dns_names",
            "uri",
            "principal",
            "email",
            "uri",
            "principal",
            "dns_names",
            "email"
        ]
    );
}

#[test]
fn malformed_names_are_refused() {
    for name in ["", "a\nb", "a\0", &"x".repeat(65)] {
        assert_eq!(refusal(|params| params.common_name = name.to_owned()).field(), Some("common_name"));
    }
    for uri in ["", "https://x/y", "spiffe://x/ y", "spiffe://x/é", &format!("spiffe://{}", "x".repeat(2048))]
    {
        assert_eq!(refusal(|params| params.uri = Some(uri.to_owned())).field(), Some("uri"));
    }
    for email in ["", "a", "@b", "a@", "a@b@c", "a b@c", "é@c", &format!("{}@c", "a".repeat(254))] {
        assert_eq!(refusal(|params| params.email = Some(email.to_owned())).field(), Some("email"));
    }
    let many = (0..101).map(|number| format!("h{number}.example").parse().unwrap()).collect();
    let error = refusal(|params| (params.profile, params.dns_names) = (Profile::Service, many));
    assert_eq!(error.field(), Some("dns_names"));
}

#[test]
fn no_leaf_outlives_its_issuer() {
    let second = Duration::from_secs(1);
    let late = refusal(|params| params.not_after = TestCa::NOT_AFTER.plus(second));
    assert!(late.message().contains("2044-01-01T00:00:00Z"), "{late}");
    let early = refusal(|params| params.not_before = TestCa::NOT_BEFORE.minus(Duration::from_millis(1)));
    assert_eq!(early.field(), Some("not_before"));
    let empty = refusal(|params| params.not_after = params.not_before.plus(Duration::from_millis(999)));
    assert_eq!(empty.field(), Some("not_after"));
    for time in [i64::MIN, -1, i64::MAX] {
        refusal(|params| params.not_after = Timestamp::from_millis(time));
        refusal(|params| params.not_before = Timestamp::from_millis(time));
    }
}
