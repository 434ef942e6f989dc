//! From what a certificate is to say to the bytes that are to be signed, by rcgen. Whether it may say that is checked
//! before (`certificate`), and whether the bytes do say it after (`lint`).

use std::{cell::RefCell, net::IpAddr};

use airunner_core::{
    DnsName, Error, KeyAlgorithm, PrincipalId, PrincipalType, Profile, Result, Serial, Timestamp,
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
    SigningKey,
};
use time::OffsetDateTime;

use crate::{IssuerCertificate, OidArc, SubjectPublicKey, certificate::Usage, oid};

/// Everything that a certificate is to say; its times are whole seconds.
#[derive(Clone, Debug)]
pub(crate) struct Draft<'a> {
    /// Who signs it; none for the key itself.
    pub(crate) issuer: Option<&'a IssuerCertificate>,
    pub(crate) usage: Usage,
    pub(crate) serial: Serial,
    pub(crate) common_name: &'a str,
    pub(crate) public_key: &'a SubjectPublicKey,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) uri: Option<&'a str>,
    pub(crate) dns_names: &'a [DnsName],
    pub(crate) ip_addresses: &'a [IpAddr],
    pub(crate) email: Option<&'a str>,
    pub(crate) principal: Option<(&'a OidArc, &'a (PrincipalType, PrincipalId))>,
}

impl<'a> Draft<'a> {
    /// The draft of a CA certificate of path length 0, without names and not yet valid at any time.
    pub(crate) fn new(
        issuer: Option<&'a IssuerCertificate>,
        serial: Serial,
        common_name: &'a str,
        public_key: &'a SubjectPublicKey,
    ) -> Self {
        Self {
            issuer,
            usage: Usage::Ca { path_len: Some(0) },
            serial,
            common_name,
            public_key,
            not_before: Timestamp::default(),
            not_after: Timestamp::default(),
            uri: None,
            dns_names: &[],
            ip_addresses: &[],
            email: None,
            principal: None,
        }
    }

    /// The same, valid from the one second to the other.
    pub(crate) fn valid(self, not_before: Timestamp, not_after: Timestamp) -> Self {
        Self { not_before: not_before.floor_second(), not_after: not_after.floor_second(), ..self }
    }

    /// The key that signs it.
    pub(crate) fn issuer_key(&self) -> &SubjectPublicKey {
        self.issuer.map_or(self.public_key, IssuerCertificate::public_key)
    }
}

/// The DER of the TBSCertificate (RFC 5280 section 4.1.2).
pub(crate) fn to_be_signed(draft: &Draft<'_>) -> Result<Vec<u8>> {
    write(&params(draft)?, draft.public_key, draft)
}

/// What rcgen writes for these params and this key under the draft's issuer.
pub(crate) fn write(
    params: &CertificateParams,
    public_key: &SubjectPublicKey,
    draft: &Draft<'_>,
) -> Result<Vec<u8>> {
    let issuer_params = draft.issuer.map_or(Ok(params), IssuerCertificate::rcgen_params)?;
    let key = Recorder { key: draft.issuer_key(), seen: RefCell::default() };
    params.signed_by(public_key, &Issuer::from_params(issuer_params, &key)).map_err(Error::internal)?;
    Ok(key.seen.into_inner())
}

/// The rcgen form of a draft: every field that has a default there is set here.
pub(crate) fn params(draft: &Draft<'_>) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(draft.serial.as_bytes()));
    params.not_before = date(draft.not_before)?;
    params.not_after = date(draft.not_after)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, draft.common_name);
    params.subject_alt_names = alternative_names(draft)?;
    params.key_identifier_method = KeyIdMethod::PreSpecified(draft.public_key.key_id());
    params.use_authority_key_identifier_extension = true;
    match draft.usage {
        Usage::Ca { path_len } => {
            let constraints = path_len.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained);
            params.is_ca = IsCa::Ca(constraints);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }
        Usage::Leaf(profile) => {
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = match profile {
                Profile::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
                Profile::Service => {
                    vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth]
                }
                Profile::Client | Profile::Job => vec![ExtendedKeyUsagePurpose::ClientAuth],
            };
        }
    }
    if let Some((arc, principal)) = draft.principal {
        let [principal_type, principal_id] = oid::principal_values(principal);
        params.custom_extensions = vec![
            CustomExtension::from_oid_content(&arc.principal_type().components, principal_type),
            CustomExtension::from_oid_content(&arc.principal_id().components, principal_id),
        ];
    }
    Ok(params)
}

fn alternative_names(draft: &Draft<'_>) -> Result<Vec<SanType>> {
    let ia5 = |text: &str| text.try_into().map_err(Error::internal);
    let mut names = Vec::with_capacity(2 + draft.dns_names.len() + draft.ip_addresses.len());
    if let Some(uri) = draft.uri {
        names.push(SanType::URI(ia5(uri)?));
    }
    for name in draft.dns_names {
        names.push(SanType::DnsName(ia5(name.as_str())?));
    }
    names.extend(draft.ip_addresses.iter().copied().map(SanType::IpAddress));
    if let Some(email) = draft.email {
        names.push(SanType::Rfc822Name(ia5(email)?));
    }
    Ok(names)
}

fn date(time: Timestamp) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(time.as_secs()).map_err(Error::internal)
}

/// Stands where rcgen wants the signing key, and keeps what it is given to sign: the signature is awaited elsewhere.
struct Recorder<'a> {
    key: &'a SubjectPublicKey,
    seen: RefCell<Vec<u8>>,
}

impl SigningKey for Recorder<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        *self.seen.borrow_mut() = message.to_vec();
        Ok(Vec::new())
    }
}

impl PublicKeyData for Recorder<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(self.key)
    }
}

impl PublicKeyData for SubjectPublicKey {
    fn subject_public_key_info(&self) -> Vec<u8> {
        self.spki().to_vec()
    }

    fn der_bytes(&self) -> &[u8] {
        self.key_bits()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.algorithm() {
            KeyAlgorithm::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlgorithm::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyAlgorithm::EcdsaP521 => &rcgen::PKCS_ECDSA_P521_SHA512,
            KeyAlgorithm::Ed25519 => &rcgen::PKCS_ED25519,
        }
    }
}
