//! Names that can't be malformed: each is checked once, where it enters.

use std::{fmt, str::FromStr};

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE, HEXUPPER};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, Result, SecureRandom, Timestamp};

/// A UUID of version 7 (RFC 9562 section 5.7): 48 bits of `now`, the rest random. Ids made later sort later.
pub fn uuid_v7(now: Timestamp, random: &dyn SecureRandom) -> Uuid {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random.array()).into_uuid()
}

macro_rules! text_serde {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

macro_rules! uuid_id {
    ($($(#[doc = $doc:literal])+ $name:ident: $field:literal,)+) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, made of the time and of randomness.
            pub fn new(now: Timestamp, random: &dyn SecureRandom) -> Self {
                Self(uuid_v7(now, random))
            }

            /// The id of these 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// When it was made.
            pub fn made_at(&self) -> Timestamp {
                let millis = self.0.as_u128() >> 80;
                // 48 bits fit.
                Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
            }

            /// The id's 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Uuid::try_parse(text).map(Self).map_err(|_| {
                    Error::invalid($field, concat!($field, " is a UUID, as the call that made it printed it"))
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        text_serde!($name);
    )+ };
}

uuid_id! {
    /// A job.
    JobId: "job_id",
    /// A certificate and all that were renewed from it.
    LineageId: "lineage_id",
    /// A CA certificate with its key.
    IssuerId: "issuer_id",
    /// An enrolment token, its public half.
    EnrollmentId: "enrollment_id",
    /// One run of a server process.
    ServerId: "server_id",
    /// One run of a worker process.
    WorkerId: "worker_id",
    /// One attachment to a job by someone who writes to it.
    WriterId: "writer_id",
    /// A data key of the keyring.
    DataKeyId: "data_key_id",
}

/// The id of a principal, which is its user name: 1 to 64 of `A-Za-z0-9._@+-`, starting alphanumeric.
/// Ids that differ in case alone can't both exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrincipalId(String);

impl PrincipalId {
    /// Characters at most.
    pub const MAX_LEN: usize = 64;

    /// The id as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id in lower case: what uniqueness is held by.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// The id as a path segment of its SPIFFE URI: bytes outside `[A-Za-z0-9.-]` as `_HH`.
    pub fn uri_segment(&self) -> String {
        let mut segment = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => segment.push(char::from(byte)),
                _ => segment.extend(["_", &HEXUPPER.encode(&[byte])]),
            }
        }
        segment
    }
}

impl FromStr for PrincipalId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._@+-".contains(&b);
        let fits = (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(allowed);
        if !fits || !text.as_bytes()[0].is_ascii_alphanumeric() {
            return Err(Error::invalid(
                "principal_id",
                "a principal id is 1 to 64 of A-Z a-z 0-9 . _ @ + - and starts with a letter or a digit",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(PrincipalId);

/// The name of a queue: 1 to 64 of `A-Za-z0-9._-`, starting alphanumeric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueName(String);

impl QueueName {
    /// The queue of jobs that name none.
    pub fn default_queue() -> Self {
        Self("default".to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for QueueName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(allowed);
        if !fits || !text.as_bytes()[0].is_ascii_alphanumeric() {
            return Err(Error::invalid(
                "queue",
                "a queue's name is 1 to 64 of A-Z a-z 0-9 . _ - and starts with a letter or a digit",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(QueueName);

/// A request id: 1 to 64 printable ASCII characters without spaces, chosen by the caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if !(1..=64).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::invalid(
                "request_id",
                "a request id is 1 to 64 printable characters without spaces",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A DNS name (RFC 1123 section 2.1) in lower case; one leading `*.` is allowed where a certificate may hold it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = text.to_ascii_lowercase();
        let label_fits = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let rest = name.strip_prefix("*.").unwrap_or(&name);
        if name.len() > 253 || !rest.split('.').all(label_fits) {
            return Err(Error::invalid("dns_names", format!("{text:?} is not a DNS name")));
        }
        Ok(Self(name))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(DnsName);

/// The trust domain of an environment: the authority of its SPIFFE ids (SPIFFE-ID section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The domain.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if !(1..=255).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(Error::invalid("trust_domain", "a trust domain is 1 to 255 of a-z 0-9 . _ -"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_serde!(TrustDomain);

/// A certificate's serial number (RFC 5280 section 4.1.2.2): positive, at most 20 bytes, without leading zeros.
/// Ours are UUIDs of version 7. Written as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial {
    len: u8,
    bytes: [u8; 20],
}

impl Serial {
    /// A new serial number: 16 bytes, positive, later ones larger.
    pub fn new(now: Timestamp, random: &dyn SecureRandom) -> Self {
        let mut bytes = *uuid_v7(now, random).as_bytes();
        // A time outside 1970..6429 could give a sign bit or a leading zero byte, and RFC 5280 allows neither.
        bytes[0] = (bytes[0] & 0x7f).max(1);
        let mut serial = Self { len: 16, bytes: [0; 20] };
        serial.bytes[..16].copy_from_slice(&bytes);
        serial
    }

    /// The serial number of these big-endian bytes; leading zeros don't count.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
        let significant = &bytes[start..];
        let len = u8::try_from(significant.len()).ok().filter(|len| (1..=20).contains(len));
        let Some(len) = len else {
            return Err(Error::invalid(
                "serial_number",
                "a serial number is a positive number of at most 20 bytes",
            ));
        };
        let mut serial = Self { len, bytes: [0; 20] };
        serial.bytes[..significant.len()].copy_from_slice(significant);
        Ok(serial)
    }

    /// The big-endian bytes, without leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl FromStr for Serial {
    type Err = Error;

    /// Hex, in either case, with or without colons.
    fn from_str(text: &str) -> Result<Self> {
        let mut hex = text.replace(':', "");
        if hex.len() % 2 == 1 {
            hex.insert(0, '0');
        }
        let bytes = HEXLOWER_PERMISSIVE.decode(hex.as_bytes());
        bytes.ok().filter(|b| b.len() <= 40).map_or_else(
            || {
                Err(Error::invalid(
                    "serial_number",
                    "a serial number is written in hex, as `certificate list` shows it",
                ))
            },
            |bytes| Self::from_bytes(&bytes),
        )
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(self.as_bytes()))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_serde!(Serial);

/// A SHA-256, of a certificate's DER or of a public key's. Written in base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of these 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// In lower-case hex, as `openssl x509 -fingerprint` has it but for the colons.
    pub fn to_hex(self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    /// Base64, or hex with or without colons.
    fn from_str(text: &str) -> Result<Self> {
        let hex = text.replace(':', "");
        let bytes = match hex.len() {
            64 => HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok(),
            _ => BASE64.decode(text.as_bytes()).ok(),
        };
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| {
            Error::invalid("fingerprint", "a fingerprint is a SHA-256: 44 characters of base64 or 64 of hex")
        })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_serde!(Fingerprint);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn principal_ids_refuse_what_could_be_a_path_or_a_control_character() {
        let long = "a".repeat(65);
        for bad in ["", ".", "..", "../x", "a/b", "a b", "a\n", "\u{0}", "-a", "_a", "é", long.as_str()] {
            assert!(bad.parse::<PrincipalId>().is_err(), "{bad:?} was taken");
        }
        for good in ["a", "alice@example.com", "ci-1", "A.b_c+d", &"a".repeat(64)] {
            assert!(good.parse::<PrincipalId>().is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn the_uri_segment_escapes_what_spiffe_forbids() {
        let id: PrincipalId = "alice@example.com".parse().unwrap();
        assert_eq!(id.uri_segment(), "alice_40example.com");
        let id: PrincipalId = "a_b".parse().unwrap();
        assert_eq!(id.uri_segment(), "a_5Fb");
    }

    proptest! {
        #[test]
        fn serials_survive_their_text(bytes in proptest::collection::vec(any::<u8>(), 1..=20)) {
            prop_assume!(bytes.iter().any(|b| *b != 0));
            let serial = Serial::from_bytes(&bytes).unwrap();
            prop_assert_eq!(serial.to_string().parse::<Serial>().unwrap(), serial);
        }

        #[test]
        fn uri_segments_are_injective(a in "[A-Za-z0-9][A-Za-z0-9._@+-]{0,8}", b in "[A-Za-z0-9][A-Za-z0-9._@+-]{0,8}") {
            let (a, b): (PrincipalId, PrincipalId) = (a.parse().unwrap(), b.parse().unwrap());
            prop_assert_eq!(a == b, a.uri_segment() == b.uri_segment());
        }
    }
}
