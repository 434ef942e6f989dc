//! Chains to test with: root, issuing CA, leaves.

use airunner_core::Secret;
use airunner_net::{TlsIdentity, TlsProfile};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SerialNumber, SignatureAlgorithm,
};
use time::{Duration, OffsetDateTime};

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A root and the issuing CA under it.
pub(crate) struct TestCa {
    pub(crate) algorithm: &'static SignatureAlgorithm,
    root: Issuer,
    issuing: Issuer,
}

/// A leaf with its chain and key, in the forms that rustls and openssl take.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: Secret,
    pub(crate) serial: Vec<u8>,
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
}

impl TestCa {
    pub(crate) fn new() -> Self {
        Self::of(&PKCS_ECDSA_P256_SHA256)
    }

    pub(crate) fn p384() -> Self {
        Self::of(&PKCS_ECDSA_P384_SHA384)
    }

    fn of(algorithm: &'static SignatureAlgorithm) -> Self {
        let key = || KeyPair::generate_for(algorithm).unwrap();
        let root = Issuer::self_signed(ca_params("Test Root"), key()).unwrap();
        let issuing = Issuer::signed_by(ca_params("Test Issuing"), key(), &root).unwrap();
        Self { algorithm, root, issuing }
    }

    /// A CA that stands under this one's issuing CA, where none should.
    pub(crate) fn below(&self) -> Self {
        let key = || KeyPair::generate_for(self.algorithm).unwrap();
        let root = Issuer::signed_by(ca_params("Test Issuing"), key(), &self.root).unwrap();
        let issuing = Issuer::signed_by(ca_params("Test Sub-CA"), key(), &self.issuing).unwrap();
        Self { algorithm: self.algorithm, root, issuing }
    }

    pub(crate) fn root_der(&self) -> Vec<u8> {
        self.root.der().to_vec()
    }

    pub(crate) fn root_pem(&self) -> String {
        self.root.pem()
    }

    pub(crate) fn issuing_der(&self) -> Vec<u8> {
        self.issuing.der().to_vec()
    }

    /// A leaf for `localhost` and 127.0.0.1.
    pub(crate) fn server(&self) -> Leaf {
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.leaf(params)
    }

    /// A leaf for a client, good for a day around now.
    pub(crate) fn client(&self) -> Leaf {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.leaf(params)
    }

    fn leaf(&self, mut params: CertificateParams) -> Leaf {
        let key = KeyPair::generate_for(self.algorithm).unwrap();
        // The high bit is set, so that DER puts a zero before it.
        let serial = [&[0x80], &key.public_key_raw()[1..12]].concat();
        (params.not_before, params.not_after) = around_now(Duration::hours(12));
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let leaf = params.signed_by(&key, &self.issuing).unwrap();
        Leaf {
            chain: vec![leaf.der().to_vec(), self.issuing.der().to_vec()],
            key: Secret::new(key.serialize_der()),
            serial,
            chain_pem: leaf.pem() + &self.issuing.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

impl Leaf {
    pub(crate) fn identity(&self, profile: TlsProfile) -> TlsIdentity {
        TlsIdentity::from_der(self.chain.clone(), &self.key, profile).unwrap()
    }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = around_now(Duration::days(365));
    params
}

fn around_now(half: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let now = airunner_core::Clock::now(&airunner_net::system::SystemClock).as_secs();
    let now = OffsetDateTime::from_unix_timestamp(now).unwrap();
    (now - half, now + half)
}
