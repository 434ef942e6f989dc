//! A CA for tests: root, issuing CA and leaves made by the product's own code, from keys that live as long as the test.
//! Nothing is recorded anywhere: to a store these leaves are unknown.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]

use std::{
    future::Future,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use airunner_core::{DnsName, KeyAlgorithm, PrincipalId, PrincipalType, Profile, Serial, Signer, Timestamp};
use airunner_pki::{
    CaParams, IssuerCertificate, LeafParams, OidArc, Prepared, PrivateKey, SignedCertificate,
    certificate_to_pem, prepare_issuing, prepare_leaf, prepare_root,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A root and an issuing CA, with their keys. Methods panic where the product would return an error.
#[derive(Debug)]
pub struct TestCa {
    algorithm: KeyAlgorithm,
    arc: OidArc,
    root: IssuerCertificate,
    root_key: Arc<PrivateKey>,
    issuing: IssuerCertificate,
    issuing_key: Arc<PrivateKey>,
    serials: AtomicU64,
}

impl TestCa {
    /// From when both CA certificates count, and leaves unless said otherwise: 2024-01-01.
    pub const NOT_BEFORE: Timestamp = Timestamp::from_millis(1_704_067_200_000);
    /// Until when: 2044-01-01.
    pub const NOT_AFTER: Timestamp = Timestamp::from_millis(2_335_219_200_000);
    /// The domain of its leaves' SPIFFE ids.
    pub const TRUST_DOMAIN: &'static str = "test.airunner.internal";

    /// A CA with P-256 keys.
    pub fn new() -> Self {
        Self::with(KeyAlgorithm::EcdsaP256)
    }

    /// A CA whose keys, and those of its leaves, are of this type.
    pub fn with(algorithm: KeyAlgorithm) -> Self {
        let root_key = PrivateKey::generate(algorithm).unwrap();
        let issuing_key = PrivateKey::generate(algorithm).unwrap();
        let root = prepare_root(&ca_params("airunner test root", 1, &root_key)).unwrap();
        let root = parse(&sign(root, &root_key));
        let issuing = prepare_issuing(&root, &ca_params("airunner test issuing", 2, &issuing_key)).unwrap();
        let issuing = parse(&sign(issuing, &root_key));
        Self {
            algorithm,
            arc: OidArc::default(),
            root,
            root_key: Arc::new(root_key),
            issuing,
            issuing_key: Arc::new(issuing_key),
            serials: AtomicU64::new(3),
        }
    }

    /// The trust anchor.
    pub fn root(&self) -> &IssuerCertificate {
        &self.root
    }

    /// The anchor's key.
    pub fn root_key(&self) -> Arc<PrivateKey> {
        Arc::clone(&self.root_key)
    }

    /// The CA that signs leaves.
    pub fn issuing(&self) -> &IssuerCertificate {
        &self.issuing
    }

    /// The issuing CA's key.
    pub fn issuing_key(&self) -> Arc<PrivateKey> {
        Arc::clone(&self.issuing_key)
    }

    /// The arc of the private extensions in its leaves.
    pub fn arc(&self) -> &OidArc {
        &self.arc
    }

    /// The trust anchor in PEM.
    pub fn root_pem(&self) -> String {
        certificate_to_pem(self.root.der())
    }

    /// A serial number that no other leaf of this CA has.
    pub fn next_serial(&self) -> Serial {
        serial(self.serials.fetch_add(1, Ordering::Relaxed))
    }

    /// What a principal's leaf says, in the profile of its type, valid as long as the CA: for tests to change.
    pub fn params(&self, principal_type: PrincipalType, id: &str, key: &PrivateKey) -> LeafParams {
        let id: PrincipalId = id.parse().unwrap();
        LeafParams {
            serial: self.next_serial(),
            public_key: key.subject_public_key().clone(),
            common_name: id.to_string(),
            profile: Profile::from(principal_type),
            uri: Some(format!("spiffe://{}/{principal_type}/{}", Self::TRUST_DOMAIN, id.uri_segment())),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            email: None,
            principal: Some((principal_type, id)),
            not_before: Self::NOT_BEFORE,
            not_after: Self::NOT_AFTER,
        }
    }

    /// A leaf that says what `params` say, whose public key must be that of `key`.
    pub fn issue(&self, params: &LeafParams, key: PrivateKey) -> TestLeaf {
        let prepared = prepare_leaf(&self.issuing, params, &self.arc).unwrap();
        let certificate = sign(prepared, &*self.issuing_key);
        TestLeaf { certificate, issuing: self.issuing.der().to_vec(), key }
    }

    /// A principal's leaf (a service's has no DNS names), valid until `not_after`, with a new key.
    pub fn issue_client(&self, principal_type: PrincipalType, id: &str, not_after: Timestamp) -> TestLeaf {
        let key = self.key();
        self.issue(&LeafParams { not_after, ..self.params(principal_type, id, &key) }, key)
    }

    /// A principal's leaf, valid as long as the CA, with a new key.
    pub fn client(&self, principal_type: PrincipalType, id: &str) -> TestLeaf {
        self.issue_client(principal_type, id, Self::NOT_AFTER)
    }

    /// A server's leaf for these DNS names and IP addresses, the first of which is its common name.
    pub fn server(&self, names: &[&str]) -> TestLeaf {
        let key = self.key();
        let ip_addresses: Vec<IpAddr> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let dns_names = names.iter().filter(|name| name.parse::<IpAddr>().is_err());
        let dns_names: Vec<DnsName> = dns_names.map(|name| name.parse().unwrap()).collect();
        let params = LeafParams {
            common_name: names[0].to_owned(),
            profile: Profile::Server,
            uri: None,
            principal: None,
            dns_names,
            ip_addresses,
            ..self.params(PrincipalType::Service, "server", &key)
        };
        self.issue(&params, key)
    }

    /// A new key of the CA's type.
    pub fn key(&self) -> PrivateKey {
        PrivateKey::generate(self.algorithm).unwrap()
    }
}

impl Default for TestCa {
    fn default() -> Self {
        Self::new()
    }
}

/// A leaf with its key and its issuer.
#[derive(Debug)]
pub struct TestLeaf {
    certificate: SignedCertificate,
    issuing: Vec<u8>,
    key: PrivateKey,
}

impl TestLeaf {
    /// The certificate.
    pub fn certificate(&self) -> &SignedCertificate {
        &self.certificate
    }

    /// The certificate's DER.
    pub fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    /// Its key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// What a TLS peer sends: leaf and issuing CA.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.der().to_vec().into(), self.issuing.clone().into()]
    }

    /// The key for rustls.
    pub fn private_key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.to_pkcs8().expose().to_vec()).into()
    }

    /// The content of a cert.pem: leaf and issuing CA.
    pub fn chain_pem(&self) -> String {
        certificate_to_pem(self.der()) + &certificate_to_pem(&self.issuing)
    }

    /// The content of a key.pem, not encrypted.
    pub fn key_pem(&self) -> String {
        String::from_utf8(self.key.to_pem(None).unwrap().expose().to_vec()).unwrap()
    }
}

/// Signs with a key that never makes its caller wait, as those in memory don't; usable outside of a runtime.
pub fn sign(prepared: Prepared, signer: &dyn Signer) -> SignedCertificate {
    match pin!(prepared.sign(signer)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(signed) => signed.unwrap(),
        Poll::Pending => panic!("this signer waits: await Prepared::sign instead"),
    }
}

fn ca_params(subject: &str, number: u64, key: &PrivateKey) -> CaParams {
    CaParams {
        serial: serial(number),
        subject: subject.to_owned(),
        public_key: key.subject_public_key().clone(),
        not_before: TestCa::NOT_BEFORE,
        not_after: TestCa::NOT_AFTER,
    }
}

fn parse(signed: &SignedCertificate) -> IssuerCertificate {
    IssuerCertificate::parse(signed.der()).unwrap()
}

/// 16 bytes, like those of the product, which sort as their numbers do.
fn serial(number: u64) -> Serial {
    let mut bytes = [0; 16];
    bytes[0] = 1;
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Serial::from_bytes(&bytes).unwrap()
}
