//! The arc under which our private certificate extensions stand, and their encoding.

use std::{fmt, str::FromStr};

use airunner_core::{Error, PrincipalId, PrincipalType, Result};

/// The object identifier under which the private extensions stand: `.1` is the principal's type, `.2` its id, each a
/// DER UTF8String in a non-critical extension. The default's 99999 is a placeholder for a Private Enterprise Number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidArc {
    text: String,
    principal_type: PrivateOid,
    principal_id: PrivateOid,
}

/// One private extension's identifier, in the two forms that encoding and parsing ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PrivateOid {
    pub(crate) components: Vec<u64>,
    /// The content of its DER (X.690 section 8.19).
    pub(crate) content: Vec<u8>,
}

impl OidArc {
    pub(crate) fn principal_type(&self) -> &PrivateOid {
        &self.principal_type
    }

    pub(crate) fn principal_id(&self) -> &PrivateOid {
        &self.principal_id
    }

    fn under(components: &[u64]) -> Self {
        let text = components.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
        let child = |last: u64| {
            let components: Vec<u64> = components.iter().copied().chain([last]).collect();
            PrivateOid { content: content(&components), components }
        };
        Self { text, principal_type: child(1), principal_id: child(2) }
    }
}

impl Default for OidArc {
    /// `1.3.6.1.4.1.99999.1`.
    fn default() -> Self {
        Self::under(&[1, 3, 6, 1, 4, 1, 99_999, 1])
    }
}

impl FromStr for OidArc {
    type Err = Error;

    /// 2 to 20 numbers below 2^32 in dotted form, such as `1.3.6.1.4.1.99999.1`.
    fn from_str(text: &str) -> Result<Self> {
        let number = |part: &str| {
            let canonical =
                part == "0" || (!part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit()));
            if canonical { part.parse::<u32>().ok().map(u64::from) } else { None }
        };
        let components: Option<Vec<u64>> = text.split('.').map(number).collect();
        // X.660: three roots, and below the first two at most 40 arcs.
        let rooted = |c: &Vec<u64>| c[0] < 2 && c[1] < 40 || c[0] == 2;
        match components {
            Some(components) if (2..=20).contains(&components.len()) && rooted(&components) => {
                Ok(Self::under(&components))
            }
            _ => Err(Error::invalid(
                "oid_arc",
                "an OID arc is 2 to 20 numbers with dots between them, such as 1.3.6.1.4.1.99999.1",
            )),
        }
    }
}

impl fmt::Display for OidArc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The contents of the identifiers of the standard extensions (RFC 5280 section 4.2.1).
pub(crate) mod standard {
    pub(crate) const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
    pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
    pub(crate) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
    pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
    pub(crate) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
    pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
}

/// Who a certificate says its subject is: the values of the two private extensions.
pub(crate) fn principal_values(principal: &(PrincipalType, PrincipalId)) -> [Vec<u8>; 2] {
    [utf8_string(principal.0.as_str()), utf8_string(principal.1.as_str())]
}

/// A DER UTF8String of at most 127 bytes, which is more than either value can have.
fn utf8_string(text: &str) -> Vec<u8> {
    debug_assert!(text.len() < 128, "principal ids have 64 bytes at most");
    let mut der = vec![0x0c, u8::try_from(text.len()).unwrap_or(0x7f)];
    der.extend_from_slice(text.as_bytes());
    der
}

fn content(components: &[u64]) -> Vec<u8> {
    let first = components[0] * 40 + components[1];
    let mut content = Vec::new();
    for value in std::iter::once(first).chain(components[2..].iter().copied()) {
        let groups = (64 - value.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            let bits = u8::try_from(value >> (7 * group) & 0x7f).unwrap_or(0);
            content.push(if group == 0 { bits } else { bits | 0x80 });
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_arc_is_the_documented_one() {
        let arc = OidArc::default();
        assert_eq!(arc.to_string(), "1.3.6.1.4.1.99999.1");
        assert_eq!(arc, "1.3.6.1.4.1.99999.1".parse().unwrap());
        assert_eq!(arc.principal_id().content, [0x2b, 6, 1, 4, 1, 0x86, 0x8d, 0x1f, 1, 2]);
    }

    #[test]
    fn what_is_no_arc_is_refused() {
        for bad in ["", "1", "3.1", "1.40", "1.3.", "1..3", "1.03", "1.-3", "1.3.4294967296", "1.3.x", " 1.3"]
        {
            assert!(bad.parse::<OidArc>().is_err(), "{bad:?} was taken");
        }
        for good in ["2.999.1", "1.39", "0.4.0", "2.25.4294967295"] {
            assert_eq!(good.parse::<OidArc>().unwrap().to_string(), good);
        }
    }
}
