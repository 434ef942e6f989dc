//! TLS profiles: which key exchanges, cipher suites and signatures are allowed. No certificate stands here.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, LazyLock},
};

use airunner_core::{Error, Label, Result};
use rustls::{
    SignatureScheme, SupportedCipherSuite,
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms,
        aws_lc_rs::{
            cipher_suite::{
                TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
            },
            default_provider,
            kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768},
        },
    },
    sign::SigningKey,
};
use webpki::aws_lc_rs as signatures;

use crate::p521::SECP521R1;

/// What an environment allows in TLS. It is TLS 1.3 (RFC 8446) in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsProfile {
    /// Key exchange X25519MLKEM768, X25519, P-256 or P-384; any TLS 1.3 cipher suite.
    #[default]
    Default,
    /// Key exchange P-384 or P-521, AES-256-GCM, and ECDSA on P-384 with SHA-384 or on P-521 with SHA-512.
    P384,
}

impl TlsProfile {
    /// The name as it stands in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::P384 => "p384",
        }
    }

    /// The cryptography that this profile allows. Every configuration of this crate is made with it; rustls's
    /// process-wide default is never asked.
    pub fn provider(self) -> Arc<CryptoProvider> {
        static DEFAULT: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
            Arc::new(CryptoProvider {
                cipher_suites: DEFAULT_SUITES.to_vec(),
                kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
                ..default_provider()
            })
        });
        static P384: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
            Arc::new(CryptoProvider {
                cipher_suites: vec![TLS13_AES_256_GCM_SHA384],
                kx_groups: vec![SECP384R1, SECP521R1],
                signature_verification_algorithms: P384_SIGNATURES,
                ..default_provider()
            })
        });
        match self {
            Self::Default => Arc::clone(&DEFAULT),
            Self::P384 => Arc::clone(&P384),
        }
    }

    /// Whether a key may prove an identity under this profile.
    pub(crate) fn allows_key(self, key: &dyn SigningKey) -> bool {
        let schemes = self.provider().signature_verification_algorithms.supported_schemes();
        key.choose_scheme(&schemes).is_some()
    }
}

static DEFAULT_SUITES: &[SupportedCipherSuite] =
    &[TLS13_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256];

static P384_SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[signatures::ECDSA_P384_SHA384, signatures::ECDSA_P521_SHA512],
    mapping: &[
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[signatures::ECDSA_P384_SHA384]),
        (SignatureScheme::ECDSA_NISTP521_SHA512, &[signatures::ECDSA_P521_SHA512]),
    ],
};

impl FromStr for TlsProfile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "default" => Ok(Self::Default),
            "p384" => Ok(Self::P384),
            _ => Err(Error::new(
                Label::Config,
                format!("there is no TLS profile {text:?}: the profiles are default and p384"),
            )),
        }
    }
}

impl fmt::Display for TlsProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use rustls::{NamedGroup, ProtocolVersion};

    use super::*;

    fn groups(profile: TlsProfile) -> Vec<NamedGroup> {
        profile.provider().kx_groups.iter().map(|group| group.name()).collect()
    }

    #[test]
    fn each_profile_offers_its_key_exchanges_in_order_of_preference() {
        use NamedGroup::{X25519, X25519MLKEM768, secp256r1, secp384r1, secp521r1};
        assert_eq!(groups(TlsProfile::Default), [X25519MLKEM768, X25519, secp256r1, secp384r1]);
        assert_eq!(groups(TlsProfile::P384), [secp384r1, secp521r1]);
    }

    #[test]
    fn every_suite_is_of_tls_1_3() {
        for profile in [TlsProfile::Default, TlsProfile::P384] {
            for suite in &profile.provider().cipher_suites {
                assert_eq!(suite.version().version, ProtocolVersion::TLSv1_3, "{suite:?} in {profile}");
            }
        }
    }

    #[test]
    fn p384_verifies_no_weaker_signature() {
        use SignatureScheme::{ECDSA_NISTP384_SHA384, ECDSA_NISTP521_SHA512};
        let schemes = TlsProfile::P384.provider().signature_verification_algorithms.supported_schemes();
        assert_eq!(schemes, [ECDSA_NISTP384_SHA384, ECDSA_NISTP521_SHA512]);
    }

    #[test]
    fn names_survive_their_text() {
        for profile in [TlsProfile::Default, TlsProfile::P384] {
            assert_eq!(profile.to_string().parse::<TlsProfile>().unwrap(), profile);
        }
        assert_eq!("P384".parse::<TlsProfile>().unwrap_err().label(), Label::Config);
    }
}
