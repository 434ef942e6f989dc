//! Names the keys that are refused, so that whoever sent one learns what it was. Accepts nothing.

use airunner_core::{Error, Label};
use x509_parser::{
    asn1_rs::{FromDer, Oid, Tag},
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

/// What a SubjectPublicKeyInfo may be instead.
const USE_INSTEAD: &str =
    "use a P-256, P-384, P-521 or Ed25519 key with a named curve and an uncompressed point";

/// The error for a SubjectPublicKeyInfo that is none of the four canonical forms.
pub(crate) fn refusal(spki: &[u8]) -> Error {
    let Ok((rest, key)) = SubjectPublicKeyInfo::from_der(spki) else {
        return Error::new(
            Label::KeyNotAccepted,
            format!("the public key is no DER SubjectPublicKeyInfo: {USE_INSTEAD}"),
        );
    };
    let name = if rest.is_empty() { name(&key) } else { "a key with bytes after it".to_owned() };
    Error::new(
        Label::KeyNotAccepted,
        format!("the public key is {name}, which is not accepted: {USE_INSTEAD}"),
    )
}

fn name(key: &SubjectPublicKeyInfo<'_>) -> String {
    match dotted(&key.algorithm.algorithm).as_str() {
        EC_PUBLIC_KEY => ec_name(key),
        RSA => match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => format!("an RSA key of {} bits", rsa.key_size()),
            _ => "a malformed RSA key".to_owned(),
        },
        other => algorithm_name(other),
    }
}

/// What `oid`, in dotted form, is as a key's type.
pub(crate) fn algorithm_name(oid: &str) -> String {
    let known = KEY_TYPES.iter().find(|(known, _)| *known == oid);
    known.map_or_else(|| format!("a key of type {oid}"), |(_, name)| (*name).to_owned())
}

/// What `oid`, in dotted form, is as a curve.
pub(crate) fn curve_name(oid: &str) -> String {
    let known = CURVES.iter().find(|(known, _)| *known == oid);
    known.map_or_else(|| format!("of curve {oid}"), |(_, name)| format!("of curve {name}"))
}

/// The type of every ECDSA key (RFC 5480 section 2.1.1).
pub(crate) const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
/// RSA (RFC 3279 section 2.3.1).
const RSA: &str = "1.2.840.113549.1.1.1";

fn ec_name(key: &SubjectPublicKeyInfo<'_>) -> String {
    let point = &key.subject_public_key.data;
    let Some(parameters) = &key.algorithm.parameters else {
        return "an EC key without a curve".to_owned();
    };
    if parameters.tag() == Tag::Sequence {
        return "an EC key with explicit curve parameters (RFC 5480 section 2.1.1 forbids them)".to_owned();
    }
    let Ok(curve) = Oid::try_from(parameters.clone()) else {
        return "an EC key without a named curve".to_owned();
    };
    let curve = curve_name(&dotted(&curve));
    match point.first() {
        Some(2 | 3) => format!("an EC key {curve} with a compressed point"),
        Some(4) => format!("an EC key {curve}"),
        _ => format!("an EC key {curve} with a malformed point"),
    }
}

/// An identifier for a message: one that is absurdly long is not spelt out.
fn dotted(oid: &Oid<'_>) -> String {
    if oid.as_bytes().len() <= 32 { oid.to_id_string() } else { "with a very long identifier".to_owned() }
}

const KEY_TYPES: &[(&str, &str)] = &[
    (RSA, "an RSA key"),
    ("1.2.840.113549.1.1.7", "an RSAES-OAEP key"),
    ("1.2.840.113549.1.1.10", "an RSASSA-PSS key"),
    ("1.2.840.10040.4.1", "a DSA key"),
    ("1.2.840.10046.2.1", "a Diffie-Hellman key"),
    ("1.2.840.113549.1.3.1", "a Diffie-Hellman key"),
    ("1.3.132.1.12", "an ECDH key"),
    ("1.3.101.110", "an X25519 key"),
    ("1.3.101.111", "an X448 key"),
    ("1.3.101.112", "an Ed25519 key in another encoding than RFC 8410's"),
    ("1.3.101.113", "an Ed448 key"),
    ("2.16.840.1.101.3.4.3.17", "an ML-DSA-44 key"),
    ("2.16.840.1.101.3.4.3.18", "an ML-DSA-65 key"),
    ("2.16.840.1.101.3.4.3.19", "an ML-DSA-87 key"),
    ("1.2.643.2.2.19", "a GOST R 34.10-2001 key"),
    ("1.2.643.7.1.1.1.1", "a GOST R 34.10-2012 key"),
    ("1.2.643.7.1.1.1.2", "a GOST R 34.10-2012 key"),
];

const CURVES: &[(&str, &str)] = &[
    ("1.2.840.10045.3.1.1", "P-192"),
    ("1.2.840.10045.3.1.7", "P-256"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.132.0.34", "P-384"),
    ("1.3.132.0.35", "P-521"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.132.0.8", "secp160r1"),
    ("1.3.132.0.32", "secp224k1"),
    ("1.3.36.3.3.2.8.1.1.3", "brainpoolP192r1"),
    ("1.3.36.3.3.2.8.1.1.5", "brainpoolP224r1"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.9", "brainpoolP320r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1"),
    ("1.2.156.10197.1.301", "SM2"),
];
