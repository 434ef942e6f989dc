//! The proof `token`: its text, and whether it still counts.

use std::fmt;

use airunner_core::{EnrollmentId, EnrollmentToken, Error, Fingerprint, Label, Principal, Result, Secret};
use airunner_pki::sha256;
use data_encoding::BASE64URL_NOPAD;

use super::{creator_still_may, void};
use crate::context::Context;

/// What every token's text starts with.
pub const PREFIX: &str = "aet1_";
/// Bytes of an address in a token at most.
const MAX_ADDRESS: usize = 255;
/// The fixed parts: id, secret, fingerprint of the root.
const FIXED: usize = 16 + 32 + 32;

/// An enrolment token as it is handed over: `aet1_` and base64url(id, secret, SHA-256 of the root, address).
/// Its `Debug` shows nothing.
#[derive(Clone)]
pub struct TokenText {
    /// The token's public half.
    pub id: EnrollmentId,
    /// `host:port` of the public listener.
    pub address: String,
    /// SHA-256 of the root that the server must show before the token is sent to it.
    pub root: Fingerprint,
    secret: Secret,
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenText({})", self.id)
    }
}

impl TokenText {
    pub(crate) fn new(id: EnrollmentId, secret: &[u8; 32], address: &str, root: Fingerprint) -> Self {
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
        check_address(address).map_err(|_| malformed())?;
        Ok(Self {
            id: EnrollmentId::from_bytes(id),
            address: address.to_owned(),
            root: Fingerprint::from_bytes(root),
            secret: Secret::new(fixed[16..48].to_vec()),
        })
    }

    /// The text, for the one answer or the one request that carries it.
    pub fn expose(&self) -> String {
        let mut bytes = self.id.as_bytes().to_vec();
        bytes.extend_from_slice(self.secret.expose());
        bytes.extend_from_slice(self.root.as_bytes());
        bytes.extend_from_slice(self.address.as_bytes());
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

/// Checks `host:port`, where an IPv6 address stands in brackets.
pub(crate) fn check_address(address: &str) -> Result<()> {
    let host_fits = |host: &str| {
        host.parse::<airunner_core::DnsName>().is_ok()
            || host.parse::<std::net::Ipv4Addr>().is_ok()
            || host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
                .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let fits = address.len() <= MAX_ADDRESS
        && address
            .rsplit_once(':')
            .is_some_and(|(host, port)| host_fits(host) && port.parse::<u16>().is_ok());
    if fits { Ok(()) } else { Err(Error::invalid("address", format!("{address:?} is not host:port"))) }
}

/// What a good token proves.
pub(crate) struct Proof {
    pub(crate) token: EnrollmentToken,
    pub(crate) subject: Principal,
    pub(crate) creator: Principal,
}

/// Checks a token's secret, time, creator and principal. That it is used once only is checked where it is used up.
pub(crate) async fn verify(context: &Context, text: &str) -> Result<Proof> {
    let text = TokenText::parse(text)?;
    let token = context.stores.enrollments.get_token(&text.id).await?;
    let hash = Secret::new(sha256(text.secret.expose()).to_vec());
    let token = token.filter(|token| hash.matches(&token.secret_hash)).ok_or_else(|| {
        Error::new(
            Label::TokenInvalid,
            "this enrolment token is unknown here or was deleted: ask for a new one",
        )
    })?;
    // A used token goes on to where the same key may have its certificate again.
    if token.used_at.is_none() && token.expires_at <= context.now() {
        return Err(Error::new(Label::TokenExpired, "this enrolment token has expired: ask for a new one"));
    }
    let principals = &context.stores.principals;
    let creator = principals.get_principal(&token.created_by).await?;
    let creator = creator
        .filter(|creator| creator_still_may(creator, &token))
        .ok_or_else(|| void("who made this enrolment token may no longer do so"))?;
    let subject = principals.get_principal(&token.principal_id).await?;
    let unchanged = |subject: &Principal| {
        subject.principal_type == token.principal_type && subject.effective_roles() == token.roles
    };
    let subject = subject.filter(unchanged).ok_or_else(|| {
        void("the principal's type or roles have changed since this enrolment token was made")
    })?;
    Ok(Proof { token, subject, creator })
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
        let token = TokenText::new(
            EnrollmentId::from_bytes([1; 16]),
            &[2; 32],
            "localhost:8444",
            Fingerprint::from_bytes([3; 32]),
        );
        let read = TokenText::parse(&format!(" {}\n", token.expose())).unwrap();
        assert_eq!((read.id, read.address.as_str(), read.root), (token.id, "localhost:8444", token.root));
        assert!(read.secret.matches(&[2; 32]));
        assert!(!format!("{token:?}").contains("aet1_"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = TokenText::new(
            EnrollmentId::from_bytes([1; 16]),
            &[2; 32],
            "a:1",
            Fingerprint::from_bytes([3; 32]),
        )
        .expose();
        let cut = &good[..good.len() - 8];
        for bad in ["", "aet1_", "aet1_!!!!", cut, &good[1..], &format!("{good}AAAA")] {
            assert_eq!(TokenText::parse(bad).unwrap_err().label(), Label::TokenInvalid, "{bad}");
        }
    }
}
