//! The lint against certificates that say something else than was asked: each is refused, by the check meant for it.

use std::task::{Context, Poll, Waker};

use airunner_core::{DnsName, KeyAlgorithm, PrincipalId, PrincipalType, Serial, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyIdMethod, KeyUsagePurpose, NameConstraints, SanType,
    SerialNumber,
};

use super::*;
use crate::{CaParams, OidArc, PrivateKey, encode, prepare_issuing, prepare_root};

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const END: Timestamp = Timestamp::from_millis(1_900_000_000_000);

/// Everything that a service's leaf is made of: the profile with the most fields.
struct Fixture {
    issuer: IssuerCertificate,
    key: PrivateKey,
    arc: OidArc,
    principal: (PrincipalType, PrincipalId),
    dns_names: Vec<DnsName>,
    ip_addresses: Vec<IpAddr>,
    serial: Serial,
}

impl Fixture {
    fn new() -> Self {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let params = |subject: &str| CaParams {
            serial: Serial::from_bytes(&[1]).unwrap(),
            subject: subject.to_owned(),
            public_key: key.subject_public_key().clone(),
            not_before: START,
            not_after: END,
        };
        let ca = |prepared: crate::Prepared| {
            let Poll::Ready(signed) =
                std::pin::pin!(prepared.sign(&key)).poll(&mut Context::from_waker(Waker::noop()))
            else {
                panic!("a key in memory signs at once");
            };
            IssuerCertificate::parse(signed.unwrap().der()).unwrap()
        };
        let root = ca(prepare_root(&params("root")).unwrap());
        Self {
            issuer: ca(prepare_issuing(&root, &params("issuing")).unwrap()),
            key: PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap(),
            arc: OidArc::default(),
            principal: (PrincipalType::Service, "billing".parse().unwrap()),
            dns_names: vec!["a.example".parse().unwrap(), "b.example".parse().unwrap()],
            ip_addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            serial: Serial::from_bytes(&[0x81, 2, 3]).unwrap(),
        }
    }

    fn draft(&self) -> Draft<'_> {
        Draft {
            usage: Usage::Leaf(Profile::Service),
            uri: Some("spiffe://example.com/service/billing"),
            dns_names: &self.dns_names,
            ip_addresses: &self.ip_addresses,
            principal: Some((&self.arc, &self.principal)),
            ..Draft::new(Some(&self.issuer), self.serial, "billing", self.key.subject_public_key())
                .valid(START, END)
        }
    }

    /// What the lint says of the draft as written after `spoil`; empty if it passes.
    fn finding(&self, spoil: impl FnOnce(&mut CertificateParams)) -> String {
        let draft = self.draft();
        let mut params = encode::params(&draft).unwrap();
        spoil(&mut params);
        finding(&encode::write(&params, draft.public_key, &draft).unwrap(), &draft)
    }
}

fn finding(tbs: &[u8], draft: &Draft<'_>) -> String {
    check(tbs, draft).err().map(|error| error.cause().unwrap().to_string()).unwrap_or_default()
}

#[track_caller]
fn assert_found(found: &str, rule: &str) {
    assert!(found.contains(rule), "expected {rule:?}, the lint said {found:?}");
}

#[test]
fn what_was_asked_for_passes() {
    let fixture = Fixture::new();
    assert_eq!(fixture.finding(|_| ()), "");
    let ca = Draft::new(None, fixture.serial, "root", fixture.key.subject_public_key()).valid(START, END);
    assert_eq!(finding(&encode::to_be_signed(&ca).unwrap(), &ca), "");
}

#[test]
fn serial_and_time_are_those_given() {
    let fixture = Fixture::new();
    for wrong in [&[0x81, 2, 4][..], &[0], &[1; 21]] {
        let found = fixture.finding(|params| params.serial_number = Some(SerialNumber::from_slice(wrong)));
        assert_found(&found, "serial");
    }
    let second = time::Duration::SECOND;
    assert_found(&fixture.finding(|params| params.not_before += second), "validity as given");
    assert_found(&fixture.finding(|params| params.not_after -= second), "validity as given");
    let early = Draft { not_before: Timestamp::from_millis(0), ..fixture.draft() };
    assert_found(&finding(&encode::to_be_signed(&early).unwrap(), &early), "within the issuer's");
    let late = Draft { not_after: END.plus(std::time::Duration::from_secs(1)), ..fixture.draft() };
    assert_found(&finding(&encode::to_be_signed(&late).unwrap(), &late), "within the issuer's");
}

#[test]
fn subject_and_key_are_those_given() {
    let fixture = Fixture::new();
    let other = |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, "root");
    assert_found(&fixture.finding(other), "subject is");
    let more = |params: &mut CertificateParams| params.distinguished_name.push(DnType::OrganizationName, "x");
    assert_found(&fixture.finding(more), "subject is");
    let none = |params: &mut CertificateParams| params.distinguished_name = rcgen::DistinguishedName::new();
    assert_found(&fixture.finding(none), "subject is");

    let draft = fixture.draft();
    let params = encode::params(&draft).unwrap();
    for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384] {
        let foreign = PrivateKey::generate(algorithm).unwrap();
        let tbs = encode::write(&params, foreign.subject_public_key(), &draft).unwrap();
        assert_found(&finding(&tbs, &draft), "public key");
    }
    let key_id = |params: &mut CertificateParams| {
        params.key_identifier_method = KeyIdMethod::PreSpecified(vec![1; 20]);
    };
    assert_found(&fixture.finding(key_id), "subject key id");
}

#[test]
fn the_issuer_is_the_one_that_signs() {
    let fixture = Fixture::new();
    let (draft, other) = (fixture.draft(), Fixture::new());
    let tbs = encode::to_be_signed(&Draft { issuer: Some(&other.issuer), ..fixture.draft() }).unwrap();
    assert_found(&finding(&tbs, &draft), "authority key id");
    let tbs = encode::to_be_signed(&Draft { issuer: None, ..fixture.draft() }).unwrap();
    assert_found(&finding(&tbs, &draft), "issuer is");
    let no_id = |params: &mut CertificateParams| params.use_authority_key_identifier_extension = false;
    assert_found(&fixture.finding(no_id), "just the profile's extensions");
    let p384 = PrivateKey::generate(KeyAlgorithm::EcdsaP384).unwrap();
    let self_signed = Draft { issuer: None, public_key: p384.subject_public_key(), ..fixture.draft() };
    assert_found(&finding(&encode::to_be_signed(&self_signed).unwrap(), &draft), "signature algorithm");
}

#[test]
fn usages_are_the_profiles_alone() {
    let fixture = Fixture::new();
    let agreement = |params: &mut CertificateParams| params.key_usages.push(KeyUsagePurpose::KeyAgreement);
    assert_found(&fixture.finding(agreement), "key usage is");
    let sign = |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    assert_found(&fixture.finding(sign), "key usage is");
    assert_found(&fixture.finding(|params| params.key_usages.clear()), "just the profile's extensions");
    for purpose in [
        ExtendedKeyUsagePurpose::Any,
        ExtendedKeyUsagePurpose::CodeSigning,
        ExtendedKeyUsagePurpose::OcspSigning,
        ExtendedKeyUsagePurpose::Other(vec![1, 2, 3]),
    ] {
        let found = fixture.finding(|params| params.extended_key_usages.push(purpose));
        assert_found(&found, "extended key usage");
    }
    let less = |params: &mut CertificateParams| params.extended_key_usages.truncate(1);
    assert_found(&fixture.finding(less), "extended key usage");
    let ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert_found(&fixture.finding(ca), "CA bit");
    assert_found(&fixture.finding(|params| params.is_ca = IsCa::NoCa), "just the profile's extensions");
    let root = Draft {
        usage: Usage::Ca { path_len: None },
        ..Draft::new(None, fixture.serial, "root", fixture.key.subject_public_key())
    }
    .valid(START, END);
    let mut params = encode::params(&root).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    assert_found(&finding(&encode::write(&params, root.public_key, &root).unwrap(), &root), "path length");
}

#[test]
fn names_are_those_given_and_none_else() {
    let fixture = Fixture::new();
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let extra = [
        dns("c.example"),
        SanType::URI("spiffe://example.com/admin/root".try_into().unwrap()),
        SanType::Rfc822Name("a@example.com".try_into().unwrap()),
        SanType::IpAddress("192.0.2.9".parse().unwrap()),
        SanType::OtherName((vec![1, 2, 3], rcgen::OtherNameValue::Utf8String("x".to_owned()))),
    ];
    for name in extra {
        assert_found(&fixture.finding(|params| params.subject_alt_names.push(name)), "names are");
    }
    let given = encode::params(&fixture.draft()).unwrap().subject_alt_names.len();
    for place in 0..given {
        let missing = |params: &mut CertificateParams| drop(params.subject_alt_names.remove(place));
        assert_found(&fixture.finding(missing), "names are");
    }
    let twice = |params: &mut CertificateParams| params.subject_alt_names[2] = dns("a.example");
    assert_found(&fixture.finding(twice), "names are");
    assert_found(
        &fixture.finding(|params| params.subject_alt_names.clear()),
        "just the profile's extensions",
    );
    let nameless =
        Draft { usage: Usage::Leaf(Profile::Server), dns_names: &[], ip_addresses: &[], ..fixture.draft() };
    assert_found(&finding(&encode::to_be_signed(&nameless).unwrap(), &nameless), "names are");
    let hosted_client = Draft { usage: Usage::Leaf(Profile::Client), ..fixture.draft() };
    assert_found(&finding(&encode::to_be_signed(&hosted_client).unwrap(), &hosted_client), "names are");
}

#[test]
fn extensions_are_unique_known_and_as_critical_as_they_must_be() {
    let fixture = Fixture::new();
    let again =
        |params: &mut CertificateParams| params.custom_extensions.push(params.custom_extensions[0].clone());
    assert_found(&fixture.finding(again), "just the profile's extensions");
    let unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1], vec![5, 0]);
    assert_found(
        &fixture.finding(|params| params.custom_extensions.push(unknown)),
        "just the profile's extensions",
    );
    let critical = |params: &mut CertificateParams| params.custom_extensions[0].set_criticality(true);
    assert_found(&fixture.finding(critical), "just the profile's extensions");
    // basicConstraints a second time, which would say CA:TRUE.
    let smuggled = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 3, 1, 1, 0xff]);
    assert_found(
        &fixture.finding(|params| params.custom_extensions.push(smuggled)),
        "just the profile's extensions",
    );
    let crl = CrlDistributionPoint { uris: vec!["http://x/".to_owned()] };
    assert_found(
        &fixture.finding(|params| params.crl_distribution_points.push(crl)),
        "just the profile's extensions",
    );
    let subtree = GeneralSubtree::DnsName("x".to_owned());
    let constraints = NameConstraints { permitted_subtrees: vec![subtree], excluded_subtrees: Vec::new() };
    assert_found(
        &fixture.finding(|params| params.name_constraints = Some(constraints)),
        "just the profile's extensions",
    );
}

#[test]
fn the_principal_is_the_one_given() {
    let fixture = Fixture::new();
    let admin = (PrincipalType::Admin, fixture.principal.1.clone());
    let root = (PrincipalType::Service, "root".parse().unwrap());
    for other in [admin, root] {
        let tbs = encode::to_be_signed(&Draft { principal: Some((&fixture.arc, &other)), ..fixture.draft() })
            .unwrap();
        assert_found(&finding(&tbs, &fixture.draft()), "principal");
    }
    let nobody = Draft { principal: None, ..fixture.draft() };
    assert_found(&finding(&encode::to_be_signed(&nobody).unwrap(), &nobody), "principal");
    let server = Draft { usage: Usage::Leaf(Profile::Server), uri: None, ..fixture.draft() };
    assert_found(&finding(&encode::to_be_signed(&server).unwrap(), &server), "principal");
}

#[test]
fn other_versions_unique_identifiers_and_garbage_are_seen() {
    let fixture = Fixture::new();
    let draft = fixture.draft();
    let tbs = encode::to_be_signed(&draft).unwrap();
    let mut version_2 = tbs.clone();
    assert_eq!(version_2[4..9], [0xa0, 3, 2, 1, 2]);
    version_2[8] = 1;
    assert_found(&finding(&version_2, &draft), "version 3");

    let spki = draft.public_key.spki();
    let at = tbs.windows(spki.len()).position(|window| window == spki).unwrap() + spki.len();
    let mut with_id = tbs.clone();
    with_id.splice(at..at, [0x81, 2, 0, 1]);
    let len = u16::try_from(with_id.len() - 4).unwrap().to_be_bytes();
    with_id[2..4].copy_from_slice(&len);
    assert_found(&finding(&with_id, &draft), "unique identifiers");

    assert_found(&finding(&tbs[..tbs.len() - 1], &draft), "no TBSCertificate");
    assert_found(&finding(&[tbs.as_slice(), &[0]].concat(), &draft), "no TBSCertificate");
    assert_found(&finding(&[], &draft), "no TBSCertificate");
}
