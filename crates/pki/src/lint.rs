//! The last look before a signature: the bytes that are to be signed, read back by another library than wrote them,
//! must say what was asked and nothing else. A finding is a bug of ours, so the caller gets `internal`.

use std::net::IpAddr;

use airunner_core::{Error, Profile, Result};
use x509_parser::{
    certificate::TbsCertificate,
    extensions::{GeneralName, ParsedExtension, X509Extension},
    prelude::FromDer as _,
    time::ASN1Time,
    x509::X509Version,
};

use crate::{
    IssuerCertificate,
    certificate::Usage,
    encode::Draft,
    oid::{self, standard},
    public_key::Digest,
};

/// Passes `tbs` if it is what `draft` describes.
///
/// # Errors
/// `internal`, whose cause names the check and its source.
pub(crate) fn check(tbs: &[u8], draft: &Draft<'_>) -> Result<()> {
    let Ok(([], parsed)) = TbsCertificate::from_der(tbs) else {
        return Err(Error::internal("lint: what is to be signed is no TBSCertificate (RFC 5280 4.1)"));
    };
    match CHECKS.iter().find(|check| !(check.passes)(&parsed, draft)) {
        None => Ok(()),
        Some(failed) => Err(Error::internal(format!("lint: not so: {} ({})", failed.rule, failed.source))),
    }
}

struct Check {
    rule: &'static str,
    source: &'static str,
    passes: fn(&TbsCertificate<'_>, &Draft<'_>) -> bool,
}

const CHECKS: &[Check] = &[
    Check { rule: "version 3", source: "RFC 5280 4.1.2.1", passes: |tbs, _| tbs.version == X509Version::V3 },
    Check {
        rule: "serial positive, of 20 bytes at most, as given",
        source: "RFC 5280 4.1.2.2",
        passes: serial,
    },
    Check { rule: "signature algorithm is the issuer's", source: "RFC 5280 4.1.2.3", passes: algorithm },
    Check { rule: "issuer is the issuer's subject", source: "RFC 5280 4.1.2.4", passes: issuer },
    Check { rule: "validity as given, in the right form", source: "RFC 5280 4.1.2.5", passes: validity },
    Check { rule: "validity within the issuer's", source: "pki.md, hierarchy", passes: within_issuer },
    Check { rule: "subject is the common name given", source: "RFC 5280 4.1.2.6", passes: subject },
    Check { rule: "public key is the verified one", source: "RFC 5280 4.1.2.7", passes: public_key },
    Check { rule: "no unique identifiers", source: "RFC 5280 4.1.2.8", passes: no_unique_ids },
    Check { rule: "just the profile's extensions, once each", source: "RFC 5280 4.2", passes: extensions },
    Check { rule: "authority key id is the issuer's", source: "RFC 5280 4.2.1.1", passes: authority_key_id },
    Check {
        rule: "subject key id is the key's",
        source: "RFC 5280 4.2.1.2, RFC 7093 2",
        passes: subject_key_id,
    },
    Check { rule: "key usage is the profile's", source: "RFC 5280 4.2.1.3", passes: key_usage },
    Check { rule: "names are those given, none missing", source: "RFC 5280 4.2.1.6", passes: names },
    Check {
        rule: "CA bit and path length are the profile's",
        source: "RFC 5280 4.2.1.9",
        passes: constraints,
    },
    Check {
        rule: "extended key usage is the profile's",
        source: "RFC 5280 4.2.1.12",
        passes: extended_key_usage,
    },
    Check {
        rule: "principal is the one given, where one must be",
        source: "pki.md, profiles",
        passes: principal,
    },
];

fn serial(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    let raw = tbs.raw_serial();
    let positive = raw.first().is_some_and(|byte| byte & 0x80 == 0) && raw.iter().any(|byte| *byte != 0);
    // DER puts a zero byte before a first byte whose top bit is set.
    positive && raw.len() <= 20 && raw.strip_prefix(&[0]).unwrap_or(raw) == draft.serial.as_bytes()
}

fn algorithm(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    let issuer = draft.issuer_key().algorithm();
    Digest::named_by(&tbs.signature, issuer) == Some(Digest::own(issuer))
}

fn issuer(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    tbs.issuer.as_raw() == draft.issuer.map_or(tbs.subject.as_raw(), IssuerCertificate::subject_raw)
}

fn validity(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    let (start, end) = (tbs.validity.not_before, tbs.validity.not_after);
    let in_form = |time: ASN1Time| time.is_utctime() == (time.to_datetime().year() < 2050);
    (start.timestamp(), end.timestamp()) == (draft.not_before.as_secs(), draft.not_after.as_secs())
        && start.timestamp() < end.timestamp()
        && in_form(start)
        && in_form(end)
}

fn within_issuer(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    draft.issuer.is_none_or(|issuer| {
        tbs.validity.not_before.timestamp() >= issuer.not_before().as_secs()
            && tbs.validity.not_after.timestamp() <= issuer.not_after().as_secs()
    })
}

fn subject(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    let mut attributes = tbs.subject.iter_attributes();
    let (Some(only), None) = (attributes.next(), attributes.next()) else { return false };
    // 2.5.4.3, commonName.
    only.attr_type().as_bytes() == [0x55, 4, 3] && only.as_str().is_ok_and(|name| name == draft.common_name)
}

fn public_key(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    tbs.subject_pki.raw == draft.public_key.spki()
}

fn no_unique_ids(tbs: &TbsCertificate<'_>, _: &Draft<'_>) -> bool {
    tbs.issuer_uid.is_none() && tbs.subject_uid.is_none()
}

/// Every extension that the draft asks for is there once with the criticality that it must have, and no other is.
fn extensions(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    let mut expected = vec![
        (standard::AUTHORITY_KEY_ID, false),
        (standard::SUBJECT_KEY_ID, false),
        (standard::KEY_USAGE, true),
        (standard::BASIC_CONSTRAINTS, true),
    ];
    if let Usage::Leaf(_) = draft.usage {
        expected.extend([(standard::EXTENDED_KEY_USAGE, false), (standard::SUBJECT_ALT_NAME, false)]);
    }
    if let Some((arc, _)) = draft.principal {
        expected.extend([(arc.principal_type().content.as_slice(), false)]);
        expected.extend([(arc.principal_id().content.as_slice(), false)]);
    }
    let there_once = |(oid, critical): &(&[u8], bool)| {
        let mut found = tbs.iter_extensions().filter(|extension| extension.oid.as_bytes() == *oid);
        found.next().is_some_and(|extension| extension.critical == *critical) && found.next().is_none()
    };
    tbs.extensions().len() == expected.len() && expected.iter().all(there_once)
}

fn authority_key_id(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    let Some(ParsedExtension::AuthorityKeyIdentifier(id)) = parsed(tbs, standard::AUTHORITY_KEY_ID) else {
        return false;
    };
    let Some(key_id) = &id.key_identifier else { return false };
    match draft.issuer {
        Some(issuer) => key_id.0 == issuer.subject_key_id(),
        None => key_id.0 == draft.public_key.key_id(),
    }
}

fn subject_key_id(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    matches!(
        parsed(tbs, standard::SUBJECT_KEY_ID),
        Some(ParsedExtension::SubjectKeyIdentifier(id)) if id.0 == draft.public_key.key_id()
    )
}

fn key_usage(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    // Bits 0 (digitalSignature), 5 (keyCertSign) and 6 (cRLSign).
    let wanted = match draft.usage {
        Usage::Leaf(_) => 1,
        Usage::Ca { .. } => 1 << 5 | 1 << 6,
    };
    matches!(parsed(tbs, standard::KEY_USAGE), Some(ParsedExtension::KeyUsage(usage)) if usage.flags == wanted)
}

fn names(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    let found = match parsed(tbs, standard::SUBJECT_ALT_NAME) {
        Some(ParsedExtension::SubjectAlternativeName(names)) => names.general_names.as_slice(),
        Some(_) => return false,
        None => &[],
    };
    let (mut uris, mut dns, mut ips, mut emails) = (0, 0, 0, 0);
    let all_given = found.iter().all(|name| match name {
        GeneralName::URI(uri) => next(&mut uris, draft.uri.as_slice()) == Some(uri),
        GeneralName::DNSName(name) => {
            next(&mut dns, draft.dns_names).is_some_and(|given| given.as_str() == *name)
        }
        GeneralName::IPAddress(bytes) => {
            next(&mut ips, draft.ip_addresses).is_some_and(|ip| is_ip(*ip, bytes))
        }
        GeneralName::RFC822Name(email) => next(&mut emails, draft.email.as_slice()) == Some(email),
        _ => false,
    });
    let given = usize::from(draft.uri.is_some()) + usize::from(draft.email.is_some());
    let hosts = draft.dns_names.len() + draft.ip_addresses.len();
    let fits_profile = match draft.usage {
        Usage::Ca { .. } => found.is_empty(),
        Usage::Leaf(Profile::Server) => hosts > 0 && given == 0,
        Usage::Leaf(Profile::Service) => draft.uri.is_some() && draft.email.is_none(),
        Usage::Leaf(Profile::Client) => draft.uri.is_some() && hosts == 0,
        Usage::Leaf(Profile::Job) => draft.uri.is_some() && found.len() == 1,
    };
    all_given && found.len() == given + hosts && fits_profile
}

fn constraints(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    let Some(ParsedExtension::BasicConstraints(found)) = parsed(tbs, standard::BASIC_CONSTRAINTS) else {
        return false;
    };
    match draft.usage {
        Usage::Leaf(_) => !found.ca && found.path_len_constraint.is_none(),
        Usage::Ca { path_len } => found.ca && found.path_len_constraint == path_len.map(u32::from),
    }
}

fn extended_key_usage(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    let found = parsed(tbs, standard::EXTENDED_KEY_USAGE);
    let Usage::Leaf(profile) = draft.usage else { return found.is_none() };
    let Some(ParsedExtension::ExtendedKeyUsage(usage)) = found else { return false };
    let (client, server) = match profile {
        Profile::Server => (false, true),
        Profile::Service => (true, true),
        Profile::Client | Profile::Job => (true, false),
    };
    let others = usage.any
        || usage.code_signing
        || usage.email_protection
        || usage.time_stamping
        || usage.ocsp_signing
        || !usage.other.is_empty();
    usage.client_auth == client && usage.server_auth == server && !others
}

fn principal(tbs: &TbsCertificate<'_>, draft: &Draft<'_>) -> bool {
    let must_be = matches!(draft.usage, Usage::Leaf(Profile::Service | Profile::Client | Profile::Job));
    let Some((arc, principal)) = draft.principal else { return !must_be };
    let [principal_type, principal_id] = oid::principal_values(principal);
    let says = |oid: &[u8], value: &[u8]| raw(tbs, oid).is_some_and(|extension| extension.value == value);
    must_be
        && says(&arc.principal_type().content, &principal_type)
        && says(&arc.principal_id().content, &principal_id)
}

fn raw<'a, 't>(tbs: &'a TbsCertificate<'t>, oid: &[u8]) -> Option<&'a X509Extension<'t>> {
    tbs.iter_extensions().find(|extension| extension.oid.as_bytes() == oid)
}

fn parsed<'a, 't>(tbs: &'a TbsCertificate<'t>, oid: &[u8]) -> Option<&'a ParsedExtension<'t>> {
    raw(tbs, oid).map(X509Extension::parsed_extension)
}

fn next<'a, T>(place: &mut usize, given: &'a [T]) -> Option<&'a T> {
    *place += 1;
    given.get(*place - 1)
}

fn is_ip(ip: IpAddr, bytes: &[u8]) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets() == bytes,
        IpAddr::V6(ip) => ip.octets() == bytes,
    }
}

#[cfg(test)]
mod tests;
