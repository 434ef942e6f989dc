//! The text of an enrolment token, as one side makes it and the other reads it. Whether it still counts is decided
//! where it is redeemed.

use std::{fmt, net};

use data_encoding::BASE64URL_NOPAD;

use crate::{DnsName, EnrollmentId, Error, Fingerprint, Label, Result, Secret};

/// What every token's text starts with.
const PREFIX: &str = "aet1_";
/// Bytes of an address in a token at most.
const MAX_ADDRESS: usize = 255;
/// The fixed parts: id, secret, fingerprint of the root.
const FIXED: usize = 16 + 32 + 32;

/// An enrolment token as it is handed over: `aet1_` and base64url(id, secret, SHA-256 of the root, address).
/// Its `Debug` shows the id only.
#[derive(Clone)]
pub struct EnrollmentTokenText {
    /// The token's public half.
    pub id: EnrollmentId,
    /// `host:port` of the public listener.
    pub address: String,
    /// SHA-256 of the root that the server must show before the token is sent to it.
    pub root: Fingerprint,
    secret: Secret,
}

impl fmt::Debug for EnrollmentTokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnrollmentTokenText({})", self.id)
    }
}

impl EnrollmentTokenText {
    /// The token of this id with this secret half. The address was checked with [`Self::check_address`].
    pub fn new(id: EnrollmentId, secret: &[u8; 32], address: &str, root: Fingerprint) -> Self {
        Self { id, address: address.to_owned(), root, secret: Secret::new(secret.to_vec()) }
    }

    /// Reads a token.
    ///
    /// # Errors
    /// `token-invalid` for anything that is not a whole token.
    pub fn parse(text: &str) -> Result<Self> {
        let bytes = text
            .trim()
            .strip_prefix(PREFIX)
            .filter(|rest| rest.len() <= 2 * (FIXED + MAX_ADDRESS))
            .and_then(|rest| BASE64URL_NOPAD.decode(rest.as_bytes()).ok())
            .filter(|bytes| (FIXED + 1..=FIXED + MAX_ADDRESS).contains(&bytes.len()))
            .ok_or_else(malformed)?;
        let (fixed, address) = bytes.split_at(FIXED);
        let id: [u8; 16] = fixed[..16].try_into().map_err(|_| malformed())?;
        let root: [u8; 32] = fixed[48..].try_into().map_err(|_| malformed())?;
        let address = std::str::from_utf8(address).map_err(|_| malformed())?;
        Self::check_address(address).map_err(|_| malformed())?;
        Ok(Self {
            id: EnrollmentId::from_bytes(id),
            address: address.to_owned(),
            root: Fingerprint::from_bytes(root),
            secret: Secret::new(fixed[16..48].to_vec()),
        })
    }

    /// The secret half, of which the store keeps the hash.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The text, for the one answer or the one request that carries it.
    pub fn expose(&self) -> String {
        let mut bytes = self.id.as_bytes().to_vec();
        bytes.extend_from_slice(self.secret.expose());
        bytes.extend_from_slice(self.root.as_bytes());
        bytes.extend_from_slice(self.address.as_bytes());
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }

    /// Checks `host:port`, where an IPv6 address stands in brackets.
    ///
    /// # Errors
    /// `invalid-argument` (field `address`).
    pub fn check_address(address: &str) -> Result<()> {
        let host_fits = |host: &str| {
            host.parse::<DnsName>().is_ok()
                || host.parse::<net::Ipv4Addr>().is_ok()
                || host
                    .strip_prefix('[')
                    .and_then(|host| host.strip_suffix(']'))
                    .is_some_and(|host| host.parse::<net::Ipv6Addr>().is_ok())
        };
        let fits = address.len() <= MAX_ADDRESS
            && address
                .rsplit_once(':')
                .is_some_and(|(host, port)| host_fits(host) && port.parse::<u16>().is_ok());
        if fits { Ok(()) } else { Err(Error::invalid("address", format!("{address:?} is not host:port"))) }
    }
}

fn malformed() -> Error {
    Error::new(
        Label::TokenInvalid,
        "this is no enrolment token: it is one word that starts with aet1_, copied whole",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_shows_nothing() {
        let token = EnrollmentTokenText::new(
            EnrollmentId::from_bytes([1; 16]),
            &[2; 32],
            "localhost:8444",
            Fingerprint::from_bytes([3; 32]),
        );
        let read = EnrollmentTokenText::parse(&format!(" {}\n", token.expose())).unwrap();
        assert_eq!((read.id, read.address.as_str(), read.root), (token.id, "localhost:8444", token.root));
        assert!(read.secret().matches(&[2; 32]));
        assert!(!format!("{token:?}").contains("aet1_"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = EnrollmentTokenText::new(
            EnrollmentId::from_bytes([1; 16]),
            &[2; 32],
            "a:1",
            Fingerprint::from_bytes([3; 32]),
        )
        .expose();
        let cut = &good[..good.len() - 8];
        for bad in ["", "aet1_", "aet1_!!!!", cut, &good[1..], &format!("{good}AAAA")] {
            assert_eq!(EnrollmentTokenText::parse(bad).unwrap_err().label(), Label::TokenInvalid, "{bad}");
        }
    }
}
