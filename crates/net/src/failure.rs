//! What a failed TLS connection means to a client: from rustls's errors, wherever they are wrapped, to labelled ones.

use std::{
    error::Error as StdError,
    fmt, io,
    sync::{Arc, OnceLock},
};

use airunner_core::{Error, Label};
use rustls::{AlertDescription, CertificateError};

/// Why a connection failed that TLS did not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsFailure {
    /// The server demands a certificate and we showed none.
    NoCertificate,
    /// Our certificate was revoked.
    Revoked,
    /// Our certificate is past its time, or before it.
    Expired,
    /// The server does not trust our certificate's issuer.
    IssuerDistrusted,
    /// The server would not have our certificate for another reason.
    Refused,
    /// The two sides have no version, cipher suite, key exchange or protocol in common, or it is no TLS at all.
    Incompatible,
    /// We don't trust the issuer of the server's certificate.
    ServerUntrusted,
    /// The server's certificate is for another name.
    ServerName,
    /// The server's certificate is past its time, or before it.
    ServerExpired,
    /// The server's certificate is bad for another reason.
    ServerCertificate,
}

impl TlsFailure {
    const ALL: [Self; 10] = [
        Self::NoCertificate,
        Self::Revoked,
        Self::Expired,
        Self::IssuerDistrusted,
        Self::Refused,
        Self::Incompatible,
        Self::ServerUntrusted,
        Self::ServerName,
        Self::ServerExpired,
        Self::ServerCertificate,
    ];

    /// The label that the server itself would have given.
    pub const fn label(self) -> Label {
        match self {
            Self::NoCertificate => Label::NoCertificate,
            Self::Revoked => Label::CertificateRevoked,
            Self::Expired => Label::CertificateExpired,
            Self::IssuerDistrusted => Label::IssuerDistrusted,
            Self::Refused => Label::UnknownCertificate,
            Self::Incompatible
            | Self::ServerUntrusted
            | Self::ServerName
            | Self::ServerExpired
            | Self::ServerCertificate => Label::Unreachable,
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::NoCertificate => {
                "the server demands a client certificate: enrol, or name the certificate and key"
            }
            Self::Revoked => {
                "the server refuses this certificate: it was revoked; ask an admin, or enrol anew"
            }
            Self::Expired => {
                "the server refuses this certificate: its time is over (or this machine's clock is wrong); enrol anew"
            }
            Self::IssuerDistrusted => {
                "the server does not trust this certificate's issuer: is it of another environment? Enrol here"
            }
            Self::Refused => "the server does not accept this certificate: enrol anew",
            Self::Incompatible => {
                "the server speaks no TLS that this client allows: check the address, the port and the TLS profile"
            }
            Self::ServerUntrusted => {
                "the server's certificate was signed by no CA that this client trusts: check the address and the \
                 trust bundle"
            }
            Self::ServerName => {
                "the server's certificate is for another name: use the name it was made for, or add this one to \
                 server.names"
            }
            Self::ServerExpired => {
                "the server's certificate is not valid now: renew it there, or correct this machine's clock"
            }
            Self::ServerCertificate => {
                "the server's certificate can't be used: make it a new one, of the same TLS profile as this client's"
            }
        }
    }

    fn of_rustls(error: &rustls::Error) -> Option<Self> {
        use rustls::Error as E;
        Some(match error {
            E::AlertReceived(alert) => Self::of_alert(*alert),
            E::InvalidCertificate(reason) => match reason {
                // A signature that our root's key did not make: a root of the same name, of another environment.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::ServerUntrusted,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::ServerName
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::ServerExpired,
                _ => Self::ServerCertificate,
            },
            E::NoCertificatesPresented => Self::ServerCertificate,
            E::InvalidMessage(_)
            | E::PeerIncompatible(_)
            | E::PeerMisbehaved(_)
            | E::InappropriateMessage { .. }
            | E::InappropriateHandshakeMessage { .. }
            | E::NoApplicationProtocol => Self::Incompatible,
            _ => return None,
        })
    }

    /// The alerts of RFC 8446 section 6.2 that say something of our certificate; the others are about the protocol.
    const fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateRequired => Self::NoCertificate,
            AlertDescription::CertificateRevoked => Self::Revoked,
            AlertDescription::CertificateExpired => Self::Expired,
            AlertDescription::UnknownCA => Self::IssuerDistrusted,
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => Self::Refused,
            _ => Self::Incompatible,
        }
    }

    /// The failure that stands anywhere among `error` and its causes, if there is one.
    ///
    /// A TLS 1.3 client learns only at its first read that the server refuses its certificate (RFC 8446 section 4.4.2.4
    /// and 6.2), so the alert comes out of a request, wrapped by whatever made the request.
    pub fn among(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            let failure = error
                .downcast_ref::<Self>()
                .copied()
                .or_else(|| error.downcast_ref().and_then(Self::of_rustls))
                .or_else(|| error.downcast_ref().and_then(Self::of_io));
            if failure.is_some() {
                return failure;
            }
            next = error.source();
        }
        None
    }

    pub(crate) fn of_io(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?;
        let failure = inner.downcast_ref::<Self>().copied();
        failure.or_else(|| inner.downcast_ref::<rustls::Error>().and_then(Self::of_rustls)).or_else(|| {
            // Of a lost connection's error h2 keeps for its streams the text alone.
            let text = inner.to_string();
            Self::ALL.into_iter().find(|failure| failure.message() == text)
        })
    }
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl StdError for TlsFailure {}

impl From<TlsFailure> for Error {
    fn from(failure: TlsFailure) -> Self {
        Self::new(failure.label(), failure.message())
    }
}

/// The labelled error for a TLS failure that stands anywhere among `error` and its causes; none if there is none.
pub fn tls_failure(error: &(dyn StdError + 'static)) -> Option<Error> {
    TlsFailure::among(error).map(Error::from)
}

/// Where a connection keeps the TLS failure that ended it, for those who only hear that it has ended. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct FailureSlot(Arc<OnceLock<TlsFailure>>);

impl FailureSlot {
    /// The failure, once there is one.
    pub fn get(&self) -> Option<TlsFailure> {
        self.0.get().copied()
    }

    pub(crate) fn set(&self, failure: TlsFailure) {
        // The first one is the cause of any later one.
        let _later = self.0.set(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Wrapped(Box<dyn StdError + Send + Sync>);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("transport error")
        }
    }

    impl StdError for Wrapped {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(self.0.as_ref())
        }
    }

    #[test]
    fn alerts_are_found_under_any_wrapping() {
        for (alert, label) in [
            (AlertDescription::CertificateRequired, Label::NoCertificate),
            (AlertDescription::CertificateRevoked, Label::CertificateRevoked),
            (AlertDescription::CertificateExpired, Label::CertificateExpired),
            (AlertDescription::UnknownCA, Label::IssuerDistrusted),
            (AlertDescription::BadCertificate, Label::UnknownCertificate),
            (AlertDescription::ProtocolVersion, Label::Unreachable),
        ] {
            let received = || rustls::Error::AlertReceived(alert);
            let io = || io::Error::new(io::ErrorKind::InvalidData, received());
            assert_eq!(tls_failure(&received()).unwrap().label(), label);
            assert_eq!(tls_failure(&io()).unwrap().label(), label);
            assert_eq!(tls_failure(&Wrapped(Box::new(Wrapped(Box::new(io()))))).unwrap().label(), label);
        }
    }

    #[test]
    fn a_failure_survives_being_kept_as_text() {
        for failure in TlsFailure::ALL {
            let io = io::Error::new(io::ErrorKind::InvalidData, failure.to_string());
            assert_eq!(TlsFailure::of_io(&io), Some(failure));
        }
    }

    #[test]
    fn other_errors_are_none_of_tls() {
        assert!(tls_failure(&io::Error::from(io::ErrorKind::ConnectionReset)).is_none());
        assert!(tls_failure(&io::Error::other("received fatal alert")).is_none());
    }
}
