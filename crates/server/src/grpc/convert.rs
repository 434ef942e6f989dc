//! Conversions that more than one service needs: times, durations, enums.

use std::time::Duration;

use airunner_core::{Error, PrincipalStatus, PrincipalType, Result, RevocationReason, Role, Timestamp};
use airunner_proto::{ca::v1 as ca, principal::v1 as principal};

/// A wall-clock time on the wire.
pub(super) fn time(at: Timestamp) -> prost_types::Timestamp {
    let millis = at.as_millis();
    let nanos = i32::try_from(millis.rem_euclid(1_000) * 1_000_000).unwrap_or(0);
    prost_types::Timestamp { seconds: millis.div_euclid(1_000), nanos }
}

/// A wall-clock time from the wire, to the millisecond.
pub(super) fn from_time(field: &str, at: &prost_types::Timestamp) -> Result<Timestamp> {
    let millis =
        at.seconds.checked_mul(1_000).and_then(|millis| millis.checked_add(i64::from(at.nanos) / 1_000_000));
    millis
        .map(Timestamp::from_millis)
        .ok_or_else(|| Error::invalid(field, "this time lies outside what can be told"))
}

/// A duration on the wire.
pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0) }
}

/// A duration from the wire; a negative one is refused.
pub(super) fn from_duration(
    field: &str,
    duration: Option<prost_types::Duration>,
) -> Result<Option<Duration>> {
    let convert = |duration: prost_types::Duration| {
        Duration::try_from(duration).map_err(|_| Error::invalid(field, "a duration is not negative"))
    };
    duration.map(convert).transpose()
}

/// A principal's type on the wire.
pub(super) const fn principal_type(kind: PrincipalType) -> principal::PrincipalType {
    match kind {
        PrincipalType::Admin => principal::PrincipalType::Admin,
        PrincipalType::Worker => principal::PrincipalType::Worker,
        PrincipalType::User => principal::PrincipalType::User,
        PrincipalType::Service => principal::PrincipalType::Service,
    }
}

/// A principal's type from the wire; none for unspecified.
pub(super) fn from_principal_type(field: &str, number: i32) -> Result<Option<PrincipalType>> {
    let kind = principal::PrincipalType::try_from(number).map_err(|_| unknown(field, number))?;
    Ok(match kind {
        principal::PrincipalType::Unspecified => None,
        principal::PrincipalType::Admin => Some(PrincipalType::Admin),
        principal::PrincipalType::Worker => Some(PrincipalType::Worker),
        principal::PrincipalType::User => Some(PrincipalType::User),
        principal::PrincipalType::Service => Some(PrincipalType::Service),
    })
}

/// A status on the wire.
pub(super) const fn principal_status(status: PrincipalStatus) -> principal::PrincipalStatus {
    match status {
        PrincipalStatus::Active => principal::PrincipalStatus::Active,
        PrincipalStatus::Suspended => principal::PrincipalStatus::Suspended,
        PrincipalStatus::Deleted => principal::PrincipalStatus::Deleted,
    }
}

/// A status from the wire; none for unspecified.
pub(super) fn from_principal_status(field: &str, number: i32) -> Result<Option<PrincipalStatus>> {
    let status = principal::PrincipalStatus::try_from(number).map_err(|_| unknown(field, number))?;
    Ok(match status {
        principal::PrincipalStatus::Unspecified => None,
        principal::PrincipalStatus::Active => Some(PrincipalStatus::Active),
        principal::PrincipalStatus::Suspended => Some(PrincipalStatus::Suspended),
        principal::PrincipalStatus::Deleted => Some(PrincipalStatus::Deleted),
    })
}

/// A role on the wire.
pub(super) const fn role(role: Role) -> principal::Role {
    match role {
        Role::Admin => principal::Role::Admin,
        Role::Worker => principal::Role::Worker,
        Role::User => principal::Role::User,
        Role::Service => principal::Role::Service,
        Role::Viewer => principal::Role::Viewer,
        Role::Enroller => principal::Role::Enroller,
    }
}

/// A role from the wire; an unspecified one is refused.
pub(super) fn from_role(field: &str, number: i32) -> Result<Role> {
    let role = principal::Role::try_from(number).map_err(|_| unknown(field, number))?;
    match role {
        principal::Role::Unspecified => Err(Error::invalid(field, "a role is missing")),
        principal::Role::Admin => Ok(Role::Admin),
        principal::Role::Worker => Ok(Role::Worker),
        principal::Role::User => Ok(Role::User),
        principal::Role::Service => Ok(Role::Service),
        principal::Role::Viewer => Ok(Role::Viewer),
        principal::Role::Enroller => Ok(Role::Enroller),
    }
}

/// A revocation's reason on the wire.
pub(super) const fn reason(reason: RevocationReason) -> ca::RevocationReason {
    match reason {
        RevocationReason::Unspecified => ca::RevocationReason::Unspecified,
        RevocationReason::KeyCompromise => ca::RevocationReason::KeyCompromise,
        RevocationReason::CaCompromise => ca::RevocationReason::CaCompromise,
        RevocationReason::AffiliationChanged => ca::RevocationReason::AffiliationChanged,
        RevocationReason::Superseded => ca::RevocationReason::Superseded,
        RevocationReason::CessationOfOperation => ca::RevocationReason::CessationOfOperation,
        RevocationReason::CertificateHold => ca::RevocationReason::CertificateHold,
        RevocationReason::PrivilegeWithdrawn => ca::RevocationReason::PrivilegeWithdrawn,
        RevocationReason::AaCompromise => ca::RevocationReason::AaCompromise,
    }
}

/// A revocation's reason from the wire.
pub(super) fn from_reason(field: &str, number: i32) -> Result<RevocationReason> {
    let reason = ca::RevocationReason::try_from(number).map_err(|_| unknown(field, number))?;
    Ok(match reason {
        ca::RevocationReason::Unspecified => RevocationReason::Unspecified,
        ca::RevocationReason::KeyCompromise => RevocationReason::KeyCompromise,
        ca::RevocationReason::CaCompromise => RevocationReason::CaCompromise,
        ca::RevocationReason::AffiliationChanged => RevocationReason::AffiliationChanged,
        ca::RevocationReason::Superseded => RevocationReason::Superseded,
        ca::RevocationReason::CessationOfOperation => RevocationReason::CessationOfOperation,
        ca::RevocationReason::CertificateHold => RevocationReason::CertificateHold,
        ca::RevocationReason::PrivilegeWithdrawn => RevocationReason::PrivilegeWithdrawn,
        ca::RevocationReason::AaCompromise => RevocationReason::AaCompromise,
    })
}

/// The error for an enum value that this version does not know.
pub(super) fn unknown(field: &str, number: i32) -> Error {
    Error::invalid(field, format!("{number} is no value that this server knows"))
}
