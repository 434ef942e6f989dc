//! A certificate chain with its private key, and the server's own, which can be exchanged while it is in use. Reading
//! files and watching them is the host's job.

use std::{fmt, sync::Arc};

use airunner_core::{Error, Label, Result, Secret};
use arc_swap::ArcSwap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::TlsProfile;

/// What one side proves itself with: its certificate, the certificates above it, and the key.
#[derive(Clone)]
pub struct TlsIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
}

impl TlsIdentity {
    /// An identity of this chain (DER, leaf first, at least one) and the leaf's private key (PKCS#8, RFC 5958,
    /// unencrypted). `file` when the key can't be read, is not the leaf's, or is too weak for `profile`.
    pub fn from_der(chain: Vec<Vec<u8>>, pkcs8: &Secret, profile: TlsProfile) -> Result<Self> {
        if chain.is_empty() {
            return Err(Error::new(
                Label::File,
                "the certificate chain is empty: it needs the leaf at least",
            ));
        }
        let chain: Vec<CertificateDer<'static>> = chain.into_iter().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8.expose().to_vec()));
        // The provider wipes its copy of the key's bytes.
        let certified = CertifiedKey::from_der(chain, key, &profile.provider()).map_err(unusable)?;
        if !profile.allows_key(certified.key.as_ref()) {
            return Err(Error::new(
                Label::File,
                format!("the TLS profile {profile} does not allow a key of this type: make a new one"),
            ));
        }
        Ok(Self { chain: certified.cert, key: certified.key })
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn into_certified(self) -> CertifiedKey {
        CertifiedKey::new(self.chain, self.key)
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsIdentity({} certificates)", self.chain.len())
    }
}

fn unusable(error: rustls::Error) -> Error {
    let message = match error {
        rustls::Error::InconsistentKeys(_) => {
            "the private key is not that of the first certificate in the chain: they must be a pair, leaf first"
        }
        rustls::Error::InvalidCertificate(_) => {
            "the first certificate in the chain is not a DER X.509 certificate"
        }
        _ => "the private key can't be used: it must be an unencrypted PKCS#8 key",
    };
    Error::new(Label::File, message).with_cause(error)
}

/// The server's identity. Clones share it; a replacement is used by the next handshake and leaves open connections
/// alone.
#[derive(Clone)]
pub struct ServerIdentity(Arc<ArcSwap<CertifiedKey>>);

impl ServerIdentity {
    /// Begins with `identity`.
    pub fn new(identity: TlsIdentity) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(identity.into_certified())))
    }

    /// Shows `identity` from the next handshake on.
    pub fn replace(&self, identity: TlsIdentity) {
        self.0.store(Arc::new(identity.into_certified()));
    }

    /// The chain that the next handshake shows, leaf first.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.0.load().cert.clone()
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerIdentity")
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};

    use super::*;

    fn self_signed(algorithm: &'static rcgen::SignatureAlgorithm) -> (Vec<Vec<u8>>, Secret) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(vec!["x".into()]).unwrap().self_signed(&key).unwrap();
        (vec![certificate.der().to_vec()], Secret::new(key.serialize_der()))
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (chain, _) = self_signed(&PKCS_ECDSA_P256_SHA256);
        let (_, other) = self_signed(&PKCS_ECDSA_P256_SHA256);
        let error = TlsIdentity::from_der(chain, &other, TlsProfile::Default).unwrap_err();
        assert_eq!(error.label(), Label::File);
        assert!(error.message().contains("must be a pair"), "{error}");
    }

    #[test]
    fn p384_refuses_a_p256_key() {
        let (chain, key) = self_signed(&PKCS_ECDSA_P256_SHA256);
        assert!(TlsIdentity::from_der(chain.clone(), &key, TlsProfile::Default).is_ok());
        let error = TlsIdentity::from_der(chain, &key, TlsProfile::P384).unwrap_err();
        assert!(error.message().contains("p384"), "{error}");

        let (chain, key) = self_signed(&PKCS_ECDSA_P384_SHA384);
        assert!(TlsIdentity::from_der(chain, &key, TlsProfile::P384).is_ok());
    }

    #[test]
    fn nothing_and_nonsense_are_refused_by_name() {
        let (chain, key) = self_signed(&PKCS_ECDSA_P256_SHA256);
        for (chain, key, says) in [
            (vec![], key.clone(), "empty"),
            (chain, Secret::new(b"nonsense".to_vec()), "PKCS#8"),
            (vec![b"nonsense".to_vec()], key, "X.509"),
        ] {
            let error = TlsIdentity::from_der(chain, &key, TlsProfile::Default).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
    }
}
