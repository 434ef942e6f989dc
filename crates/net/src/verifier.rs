//! Verifies client certificates in the handshake: chain, time, purpose, revocation. Who the client is and what it may
//! do is decided after it, elsewhere.

use std::{fmt, sync::Arc, time::Duration};

use airunner_core::{Clock, Error, Label, Result};
use arc_swap::ArcSwap;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::{extensions::ParsedExtension, prelude::FromDer};

use crate::TlsProfile;

/// The CA certificates whose signature on a client's leaf counts: the issuing CAs themselves, not the roots above
/// them. Clones share the set; a replacement is used by the next handshake.
#[derive(Clone)]
pub struct TrustAnchors(Arc<ArcSwap<AnchorSet>>);

#[derive(Default)]
struct AnchorSet {
    anchors: Vec<TrustAnchor<'static>>,
    /// The subject key identifier of the anchor at the same place.
    key_ids: Vec<Vec<u8>>,
}

impl TrustAnchors {
    /// Trusts these CA certificates (DER).
    pub fn new(certificates: Vec<Vec<u8>>) -> Result<Self> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(AnchorSet::from_der(certificates)?))))
    }

    /// Trusts these and no others from the next handshake on. `file` when one of them is no CA certificate or lacks
    /// the subject key identifier that RFC 5280 section 4.2.1.2 demands; the old set then stays.
    ///
    /// An anchor's own validity is not checked at a handshake: whoever chooses the anchors drops the ended ones.
    pub fn replace(&self, certificates: Vec<Vec<u8>>) -> Result<()> {
        self.0.store(Arc::new(AnchorSet::from_der(certificates)?));
        Ok(())
    }

    /// How many CA certificates are trusted.
    pub fn len(&self) -> usize {
        self.0.load().anchors.len()
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for TrustAnchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustAnchors({})", self.len())
    }
}

impl AnchorSet {
    fn from_der(certificates: Vec<Vec<u8>>) -> Result<Self> {
        let mut set = Self::default();
        for der in certificates.into_iter().map(CertificateDer::from) {
            set.key_ids.push(ca_key_id(&der)?);
            let anchor = anchor_from_trusted_cert(&der)
                .map_err(|error| unusable("can't be read").with_cause(error))?;
            set.anchors.push(anchor.to_owned());
        }
        Ok(set)
    }

    /// The subject key identifier of this anchor, which is the authority key identifier of what it signed.
    fn key_id(&self, anchor: &TrustAnchor<'_>) -> &[u8] {
        let same = |ours: &TrustAnchor<'_>| {
            ours.subject_public_key_info == anchor.subject_public_key_info && ours.subject == anchor.subject
        };
        self.anchors.iter().position(same).map_or(&[], |at| &self.key_ids[at])
    }
}

fn unusable(what: &str) -> Error {
    Error::new(
        Label::File,
        format!("a certificate {what}, so it can't be trusted as a CA: remove or replace it"),
    )
}

/// The subject key identifier of a CA certificate.
fn ca_key_id(der: &[u8]) -> Result<Vec<u8>> {
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(der)
        .map_err(|error| unusable("can't be read").with_cause(error))?;
    if !certificate.is_ca() {
        return Err(unusable("is not that of a CA (basicConstraints lacks CA:TRUE)"));
    }
    let key_id = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    key_id.ok_or_else(|| unusable("has no subject key identifier"))
}

/// Which certificates were revoked. Asked once a handshake, on a runtime thread: it must answer from memory.
pub trait RevocationView: Send + Sync + 'static {
    /// Whether the certificate was revoked that has this serial number (big-endian, without leading zeros) and that
    /// was signed by the CA of this key identifier (RFC 5280 sections 4.1.2.2 and 4.2.1.1).
    fn is_revoked(&self, authority_key_id: &[u8], serial: &[u8]) -> bool;
}

/// Demands a client certificate that one of the anchors signed directly, that is in its time, made for clients
/// (extended key usage clientAuth) and not revoked. Other certificates that the client sends are not looked at, so
/// no intermediate can stand between.
pub struct ClientVerifier {
    algorithms: WebPkiSupportedAlgorithms,
    anchors: TrustAnchors,
    revocations: Arc<dyn RevocationView>,
    clock: Arc<dyn Clock>,
}

impl ClientVerifier {
    /// A verifier of what `profile` allows, at the time that `clock` tells.
    pub fn new(
        profile: TlsProfile,
        anchors: TrustAnchors,
        revocations: Arc<dyn RevocationView>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let algorithms = profile.provider().signature_verification_algorithms;
        Self { algorithms, anchors, revocations, clock }
    }

    fn verify(&self, der: &CertificateDer<'_>) -> Result<(), CertificateError> {
        let leaf = EndEntityCert::try_from(der).map_err(refusal)?;
        let trusted = self.anchors.0.load();
        let (now, usage) = (unix_time(self.clock.as_ref()), KeyUsage::client_auth());
        let path = leaf
            .verify_for_usage(self.algorithms.all, &trusted.anchors, &[], now, usage, None, None)
            .map_err(refusal)?;
        if self.revocations.is_revoked(trusted.key_id(path.anchor()), significant(leaf.serial())) {
            return Err(CertificateError::Revoked);
        }
        Ok(())
    }
}

/// What `clock` tells, as rustls and webpki take it.
pub(crate) fn unix_time(clock: &dyn Clock) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(clock.now().as_millis()).unwrap_or(0)))
}

/// A DER integer's bytes without the zeros that only keep it positive.
fn significant(serial: &[u8]) -> &[u8] {
    let start = serial.iter().position(|byte| *byte != 0).unwrap_or(serial.len());
    &serial[start..]
}

/// Why webpki refused, in the terms from which rustls chooses the alert (RFC 8446 section 6.2).
fn refusal(error: webpki::Error) -> CertificateError {
    use webpki::Error as E;
    match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        // A signature that the key of an anchor of that name did not make is a foreign CA that bears its name.
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => CertificateError::UnknownIssuer,
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // The anchors change while we run, and a client has one certificate to show anyway.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity)?;
        Ok(ClientCertVerified::assertion())
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
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientVerifier({:?})", self.anchors)
    }
}
