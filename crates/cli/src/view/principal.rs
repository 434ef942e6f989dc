//! Principals.

use std::collections::BTreeMap;

use airunner_core::{PrincipalStatus, PrincipalType, Role};
use airunner_proto::principal::v1 as pb;
use serde::Serialize;

use super::{Fields, duration, pairs, text, time};
use crate::report::Human;

/// A principal.
#[derive(Serialize)]
pub(crate) struct PrincipalView {
    principal_id: String,
    r#type: &'static str,
    status: &'static str,
    roles: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enrol_scope: Option<ScopeView>,
    dns_names: Vec<String>,
    created_at: Option<String>,
    created_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    max_certificates: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    validity: Option<String>,
    metadata: BTreeMap<String, String>,
    version: u64,
}

#[derive(Serialize)]
struct ScopeView {
    id_prefix: String,
    types: Vec<&'static str>,
}

impl From<pb::Principal> for PrincipalView {
    fn from(principal: pb::Principal) -> Self {
        Self {
            r#type: type_name(principal.r#type),
            status: status_name(principal.status),
            roles: principal.roles.iter().copied().map(role_name).collect(),
            enrol_scope: principal.enrol_scope.map(|scope| ScopeView {
                id_prefix: scope.id_prefix,
                types: scope.types.into_iter().map(type_name).collect(),
            }),
            dns_names: principal.dns_names,
            created_at: time(principal.created_at.as_ref()),
            created_by: principal.created_by,
            suspended_at: time(principal.suspended_at.as_ref()),
            suspended_reason: text(principal.suspended_reason),
            email: text(principal.email),
            description: text(principal.description),
            max_certificates: principal.max_certificates,
            validity: duration(principal.validity),
            metadata: principal.metadata.into_iter().collect(),
            version: principal.version,
            principal_id: principal.principal_id,
        }
    }
}

impl PrincipalView {
    /// The head of a table of principals.
    pub(crate) const HEAD: &'static [&'static str] = &["principal", "type", "status", "roles", "created"];

    pub(crate) fn row(&self) -> Vec<String> {
        self.who().into_iter().chain(self.created_at.clone()).collect()
    }

    /// Id, type, status, and the roles that count.
    pub(crate) fn who(&self) -> [String; 4] {
        let roles = if self.roles.is_empty() { self.r#type.to_owned() } else { self.roles.join(",") };
        [self.principal_id.clone(), self.r#type.to_owned(), self.status.to_owned(), roles]
    }

    pub(crate) fn fields(&self) -> Human {
        let roles =
            if self.roles.is_empty() { format!("{} (its type)", self.r#type) } else { self.roles.join(", ") };
        let scope = self.enrol_scope.as_ref();
        let scope = scope.map(|scope| format!("{}* of type {}", scope.id_prefix, scope.types.join(", ")));
        let slots = if self.max_certificates == 0 {
            "no limit".to_owned()
        } else {
            self.max_certificates.to_string()
        };
        Fields::new()
            .with("principal", &self.principal_id)
            .with("type", self.r#type)
            .with("status", self.status)
            .maybe("suspended", self.suspended_at.as_ref())
            .maybe("because", self.suspended_reason.as_ref())
            .with("roles", roles)
            .maybe("may enrol", scope.as_ref())
            .list("DNS names", &self.dns_names)
            .maybe("email", self.email.as_ref())
            .maybe("description", self.description.as_ref())
            .with("certificates", slots)
            .maybe("validity", self.validity.as_ref())
            .list("metadata", &pairs(&self.metadata))
            .with("created", format!("{} by {}", self.created_at.as_deref().unwrap_or("?"), self.created_by))
            .with("version", self.version.to_string())
            .done()
    }
}

/// A type's name; that of a newer server is unknown here.
pub(crate) fn type_name(number: i32) -> &'static str {
    match pb::PrincipalType::try_from(number) {
        Ok(pb::PrincipalType::Admin) => PrincipalType::Admin.as_str(),
        Ok(pb::PrincipalType::Worker) => PrincipalType::Worker.as_str(),
        Ok(pb::PrincipalType::User) => PrincipalType::User.as_str(),
        Ok(pb::PrincipalType::Service) => PrincipalType::Service.as_str(),
        Ok(pb::PrincipalType::Unspecified) | Err(_) => UNKNOWN,
    }
}

/// The number of a type.
pub(crate) fn type_number(principal_type: PrincipalType) -> i32 {
    match principal_type {
        PrincipalType::Admin => pb::PrincipalType::Admin,
        PrincipalType::Worker => pb::PrincipalType::Worker,
        PrincipalType::User => pb::PrincipalType::User,
        PrincipalType::Service => pb::PrincipalType::Service,
    }
    .into()
}

/// The number of a status.
pub(crate) fn status_number(status: PrincipalStatus) -> i32 {
    match status {
        PrincipalStatus::Active => pb::PrincipalStatus::Active,
        PrincipalStatus::Suspended => pb::PrincipalStatus::Suspended,
        PrincipalStatus::Deleted => pb::PrincipalStatus::Deleted,
    }
    .into()
}

/// The number of a role.
pub(crate) fn role_number(role: Role) -> i32 {
    match role {
        Role::Admin => pb::Role::Admin,
        Role::Worker => pb::Role::Worker,
        Role::User => pb::Role::User,
        Role::Service => pb::Role::Service,
        Role::Viewer => pb::Role::Viewer,
        Role::Enroller => pb::Role::Enroller,
    }
    .into()
}

fn status_name(number: i32) -> &'static str {
    match pb::PrincipalStatus::try_from(number) {
        Ok(pb::PrincipalStatus::Active) => PrincipalStatus::Active.as_str(),
        Ok(pb::PrincipalStatus::Suspended) => PrincipalStatus::Suspended.as_str(),
        Ok(pb::PrincipalStatus::Deleted) => PrincipalStatus::Deleted.as_str(),
        Ok(pb::PrincipalStatus::Unspecified) | Err(_) => UNKNOWN,
    }
}

fn role_name(number: i32) -> &'static str {
    match pb::Role::try_from(number) {
        Ok(pb::Role::Admin) => Role::Admin.as_str(),
        Ok(pb::Role::Worker) => Role::Worker.as_str(),
        Ok(pb::Role::User) => Role::User.as_str(),
        Ok(pb::Role::Service) => Role::Service.as_str(),
        Ok(pb::Role::Viewer) => Role::Viewer.as_str(),
        Ok(pb::Role::Enroller) => Role::Enroller.as_str(),
        Ok(pb::Role::Unspecified) | Err(_) => UNKNOWN,
    }
}

const UNKNOWN: &str = "unknown";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_inverse() {
        for principal_type in PrincipalType::ALL {
            assert_eq!(type_name(type_number(*principal_type)), principal_type.as_str());
        }
        for role in Role::ALL {
            assert_eq!(role_name(role_number(*role)), role.as_str());
        }
        for status in [PrincipalStatus::Active, PrincipalStatus::Suspended, PrincipalStatus::Deleted] {
            assert_eq!(status_name(status_number(status)), status.as_str());
        }
        assert_eq!(role_name(99), UNKNOWN);
    }
}
