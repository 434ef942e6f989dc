//! The client's TLS configuration: one that trusts the roots it is given and nobody else, and one that trusts nobody.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use airunner_core::{Clock, Error, Label, Result};
use rustls::{
    ClientConfig, DigitallySignedStruct, PeerIncompatible, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    sign::SingleCertAndKey,
    time_provider::TimeProvider,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{TlsIdentity, TlsProfile, verifier::unix_time};

/// What a client trusts and what it shows.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// What TLS it allows.
    pub profile: TlsProfile,
    /// The roots (DER) under which the server's certificate must stand. The system's own are never used.
    pub roots: Vec<Vec<u8>>,
    /// Its own certificate, for listeners that demand one.
    pub identity: Option<TlsIdentity>,
}

/// A client's TLS: 1.3 only, ALPN h2, no resumption and no early data. `file` when there is no root or one can't be
/// read.
pub fn client_config(tls: ClientTls, clock: Arc<dyn Clock>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for root in tls.roots {
        roots.add(CertificateDer::from(root)).map_err(|error| {
            Error::new(Label::File, "a root in the trust bundle is no certificate: fetch the bundle anew")
                .with_cause(error)
        })?;
    }
    if roots.is_empty() {
        return Err(Error::new(
            Label::File,
            "the trust bundle has no root, so no server can be verified: fetch it anew",
        ));
    }
    let builder = ClientConfig::builder_with_details(tls.profile.provider(), Arc::new(WallTime(clock)))
        .with_protocol_versions(&[&TLS13])
        .map_err(Error::internal)?
        .with_root_certificates(roots);
    let config = match tls.identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.into_certified())))
        }
        None => builder.with_no_client_auth(),
    };
    Ok(finished(config))
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

struct WallTime(Arc<dyn Clock>);

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.as_ref()))
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallTime")
    }
}

/// A connection that verifies **nothing** about the server.
///
/// It is for one purpose: an enrolling client that has only its token fetches the public trust bundle over it, compares
/// the root's hash with the one in the token, and hangs up. Whoever stands in between can read and change all that
/// passes. **Send nothing over it but the request for the bundle; believe nothing of it but what the hash proves.**
#[derive(Clone, Debug)]
pub struct BundleProbe {
    config: Arc<ClientConfig>,
    seen: Arc<OnceLock<Vec<CertificateDer<'static>>>>,
}

impl BundleProbe {
    /// The configuration that takes any server.
    pub fn unverified_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The chain that the first server showed, leaf first: for the words of an error, not for a decision.
    pub fn server_chain(&self) -> &[CertificateDer<'static>] {
        self.seen.get().map_or(&[], Vec::as_slice)
    }
}

/// A probe for the trust bundle; see [`BundleProbe`] for what must not be done with it. It shows no certificate.
pub fn bundle_probe_config(profile: TlsProfile) -> Result<BundleProbe> {
    let seen = Arc::default();
    let anyone = TakesAnyServer { provider: profile.provider(), seen: Arc::clone(&seen) };
    let config = ClientConfig::builder_with_provider(profile.provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(Error::internal)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(anyone))
        .with_no_client_auth();
    Ok(BundleProbe { config: finished(config), seen })
}

struct TakesAnyServer {
    provider: Arc<CryptoProvider>,
    seen: Arc<OnceLock<Vec<CertificateDer<'static>>>>,
}

impl ServerCertVerifier for TakesAnyServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        self.seen.get_or_init(|| chain.map(|certificate| certificate.clone().into_owned()).collect());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for TakesAnyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TakesAnyServer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::SystemClock;

    #[test]
    fn without_a_root_there_is_no_client() {
        for roots in [vec![], vec![b"nonsense".to_vec()]] {
            let tls = ClientTls { profile: TlsProfile::Default, roots, identity: None };
            assert_eq!(client_config(tls, Arc::new(SystemClock)).unwrap_err().label(), Label::File);
        }
    }
}
