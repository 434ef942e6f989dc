//! What certificates we make: the profiles, and the checks that a request for one must pass. `prepare_*` returns a
//! linted `Prepared`; there is no other way to a signature. Policy (who may have which life or name) is `app`'s.

use std::net::IpAddr;

use airunner_core::{DnsName, Error, PrincipalId, PrincipalType, Profile, Result, Serial, Timestamp};

use crate::{
    IssuerCertificate, OidArc, Prepared, SubjectPublicKey,
    encode::{self, Draft},
    lint, name,
};

/// Characters of a common name at most (ub-common-name, RFC 5280 appendix A.1).
const MAX_COMMON_NAME: usize = 64;
/// Bytes of a SPIFFE id at most (SPIFFE-ID section 2.3).
const MAX_URI: usize = 2048;
/// Bytes of a mail address at most (RFC 5321 section 4.5.3.1.3, less the angle brackets).
const MAX_EMAIL: usize = 254;
/// Names in one certificate at most.
const MAX_NAMES: usize = 100;
/// The last second that GeneralizedTime can say (RFC 5280 section 4.1.2.5): 9999-12-31T23:59:59Z.
const END_OF_TIME: i64 = 253_402_300_799;

/// What a leaf is to say. Which of its fields must be there, and which may not, its profile decides.
#[derive(Clone, Debug)]
pub struct LeafParams {
    /// Its serial number, never used before under this issuer.
    pub serial: Serial,
    /// The subject's key, from a `VerifiedCsr`.
    pub public_key: SubjectPublicKey,
    /// The subject's common name: 1 to 64 characters.
    pub common_name: String,
    /// What it is for.
    pub profile: Profile,
    /// The SPIFFE id: all have one but servers.
    pub uri: Option<String>,
    /// DNS names: servers (which have a DNS name or an IP address at least) and services.
    pub dns_names: Vec<DnsName>,
    /// IP addresses: servers and services.
    pub ip_addresses: Vec<IpAddr>,
    /// A mail address: clients only, jobs not among them.
    pub email: Option<String>,
    /// Whose it is: all have one but servers; of a job it is the owner.
    pub principal: Option<(PrincipalType, PrincipalId)>,
    /// From when it counts; rounded down to the second.
    pub not_before: Timestamp,
    /// Until when it counts; rounded down to the second. Not later than its issuer's.
    pub not_after: Timestamp,
}

/// What a CA certificate is to say.
#[derive(Clone, Debug)]
pub struct CaParams {
    /// Its serial number.
    pub serial: Serial,
    /// The subject's common name: 1 to 64 characters.
    pub subject: String,
    /// The CA's key; of a root, that of its signer.
    pub public_key: SubjectPublicKey,
    /// From when it counts; rounded down to the second.
    pub not_before: Timestamp,
    /// Until when it counts; rounded down to the second.
    pub not_after: Timestamp,
}

/// Prepares a leaf: digitalSignature (critical), the profile's extended key usages, CA:FALSE, and the names given.
///
/// # Errors
/// `invalid-argument` naming the field that its profile does not allow or lacks, that is malformed, or that lies
/// outside the issuer's validity.
pub fn prepare_leaf(issuer: &IssuerCertificate, params: &LeafParams, arc: &OidArc) -> Result<Prepared> {
    check_common_name("common_name", &params.common_name)?;
    check_names(params)?;
    check_profile(params)?;
    let draft = Draft {
        usage: Usage::Leaf(params.profile),
        uri: params.uri.as_deref(),
        dns_names: &params.dns_names,
        ip_addresses: &params.ip_addresses,
        email: params.email.as_deref(),
        principal: params.principal.as_ref().map(|principal| (arc, principal)),
        ..Draft::new(Some(issuer), params.serial, &params.common_name, &params.public_key)
            .valid(params.not_before, params.not_after)
    };
    prepare(&draft)
}

/// Prepares a root: self-signed, without a path length, for keyCertSign and cRLSign (critical).
///
/// # Errors
/// `invalid-argument` for a malformed subject or validity.
pub fn prepare_root(params: &CaParams) -> Result<Prepared> {
    prepare_ca(None, params, None)
}

/// Prepares the one certificate of a single CA: self-signed, path length 0, so that it signs leaves only.
///
/// # Errors
/// `invalid-argument` for a malformed subject or validity.
pub fn prepare_single(params: &CaParams) -> Result<Prepared> {
    prepare_ca(None, params, Some(0))
}

/// Prepares an issuing CA below `root`: path length 0 (RFC 5280 section 4.2.1.9).
///
/// # Errors
/// `invalid-argument` for a malformed subject, a validity outside the root's, or a root that allows no CA below it.
pub fn prepare_issuing(root: &IssuerCertificate, params: &CaParams) -> Result<Prepared> {
    if !root.may_sign_issuers() {
        return Err(Error::invalid(
            "issuer",
            "this CA has path length 0, so no CA may stand below it: sign the issuing CA with the root",
        ));
    }
    prepare_ca(Some(root), params, Some(0))
}

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// To sign certificates and CRLs.
    Ca {
        /// CAs that may stand below it at most.
        path_len: Option<u8>,
    },
    /// What the profile says.
    Leaf(Profile),
}

fn prepare_ca(
    issuer: Option<&IssuerCertificate>,
    params: &CaParams,
    path_len: Option<u8>,
) -> Result<Prepared> {
    check_common_name("subject", &params.subject)?;
    let draft = Draft {
        usage: Usage::Ca { path_len },
        ..Draft::new(issuer, params.serial, &params.subject, &params.public_key)
            .valid(params.not_before, params.not_after)
    };
    prepare(&draft)
}

fn prepare(draft: &Draft<'_>) -> Result<Prepared> {
    check_validity(draft)?;
    let tbs = encode::to_be_signed(draft)?;
    lint::check(&tbs, draft)?;
    Ok(Prepared {
        tbs,
        issuer_key: draft.issuer_key().clone(),
        subject_dn: name::common_name_text(draft.common_name),
        serial: draft.serial,
        not_after: draft.not_after,
    })
}

fn check_common_name(field: &str, common_name: &str) -> Result<()> {
    let length = common_name.chars().count();
    if !(1..=MAX_COMMON_NAME).contains(&length) || common_name.chars().any(char::is_control) {
        return Err(Error::invalid(
            field,
            "a common name is 1 to 64 characters, none of them a control character",
        ));
    }
    Ok(())
}

fn check_names(params: &LeafParams) -> Result<()> {
    let count = params.dns_names.len() + params.ip_addresses.len();
    if count > MAX_NAMES {
        return Err(Error::invalid("dns_names", format!("a certificate holds at most {MAX_NAMES} names")));
    }
    if let Some(uri) = &params.uri {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        let path = uri.strip_prefix("spiffe://").filter(|rest| rest.bytes().all(allowed));
        if path.is_none() || uri.len() > MAX_URI {
            return Err(Error::invalid(
                "uri",
                "a SPIFFE id is spiffe://TRUST_DOMAIN/PATH of at most 2048 bytes",
            ));
        }
    }
    if let Some(email) = &params.email {
        let sides = email.split_once('@').filter(|(local, domain)| !local.is_empty() && !domain.is_empty());
        let plain = email.bytes().all(|b| b.is_ascii_graphic()) && email.matches('@').count() == 1;
        if sides.is_none() || !plain || email.len() > MAX_EMAIL {
            return Err(Error::invalid(
                "email",
                "a mail address in a certificate is LOCAL@DOMAIN in ASCII, of at most 254 bytes",
            ));
        }
    }
    Ok(())
}

fn check_profile(params: &LeafParams) -> Result<()> {
    let hosts = !params.dns_names.is_empty() || !params.ip_addresses.is_empty();
    let principal_type = params.principal.as_ref().map(|(principal_type, _)| *principal_type);
    let refuse = |field: &str, message: &str| Err(Error::invalid(field, message));
    match params.profile {
        Profile::Server if !hosts => {
            refuse("dns_names", "a server certificate needs a DNS name or an IP address")
        }
        Profile::Server if params.uri.is_some() => refuse("uri", "a server certificate has no SPIFFE id"),
        Profile::Server if principal_type.is_some() => {
            refuse("principal", "a server certificate belongs to no principal")
        }
        Profile::Service | Profile::Client | Profile::Job if params.uri.is_none() => {
            refuse("uri", "the certificate of a principal needs a SPIFFE id")
        }
        Profile::Service | Profile::Client | Profile::Job if principal_type.is_none() => {
            refuse("principal", "the certificate needs a principal that it belongs to")
        }
        Profile::Client | Profile::Job if hosts => {
            refuse("dns_names", "a client certificate has no DNS names or IP addresses")
        }
        Profile::Server | Profile::Service | Profile::Job if params.email.is_some() => {
            refuse("email", "a mail address stands in certificates of admins, users and workers only")
        }
        Profile::Server | Profile::Service | Profile::Client | Profile::Job => Ok(()),
    }
}

fn check_validity(draft: &Draft<'_>) -> Result<()> {
    let (start, end) = (draft.not_before.as_secs(), draft.not_after.as_secs());
    if start < 0 || end > END_OF_TIME {
        return Err(Error::invalid(
            "not_after",
            "a certificate's validity lies between the years 1970 and 9999",
        ));
    }
    if start >= end {
        return Err(Error::invalid("not_after", "a certificate ends after it begins"));
    }
    let Some(issuer) = draft.issuer else { return Ok(()) };
    if draft.not_before < issuer.not_before() {
        return Err(Error::invalid(
            "not_before",
            format!("the certificate would begin before its issuer does, at {}", issuer.not_before()),
        ));
    }
    if draft.not_after > issuer.not_after() {
        return Err(Error::invalid(
            "not_after",
            format!("the certificate would outlive its issuer, which ends at {}", issuer.not_after()),
        ));
    }
    Ok(())
}
