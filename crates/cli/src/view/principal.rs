//! How a principal looks.

use std::collections::BTreeMap;

use airunner_core::Timestamp;
use airunner_proto::principal::v1::{self as pb, PrincipalStatus, PrincipalType, Role};
use serde::Serialize;

use super::{
    cell, duration,
    moment::{Moment, beside, told},
    pairs, some, time, word,
};

/// A principal.
#[derive(Debug, Serialize)]
pub(crate) struct PrincipalView {
    pub(crate) principal_id: String,
    pub(crate) r#type: String,
    pub(crate) status: String,
    pub(crate) roles: Vec<String>,
    enrol_scope: Option<EnrolScopeView>,
    dns_names: Vec<String>,
    email: Option<String>,
    description: Option<String>,
    max_certificates: u32,
    validity: Option<String>,
    metadata: BTreeMap<String, String>,
    created_at: Option<Moment>,
    created_by: Option<String>,
    suspended_at: Option<Moment>,
    suspended_reason: Option<String>,
    version: u64,
}

#[derive(Debug, Serialize)]
struct EnrolScopeView {
    id_prefix: String,
    types: Vec<String>,
}

/// The name of a principal's type.
pub(crate) fn principal_type(number: i32) -> String {
    word(number, PrincipalType::as_str_name, "PRINCIPAL_TYPE_")
}

/// The name of a principal's status.
pub(crate) fn principal_status(number: i32) -> String {
    word(number, PrincipalStatus::as_str_name, "PRINCIPAL_STATUS_")
}

/// The name of a role.
pub(crate) fn role(number: i32) -> String {
    word(number, Role::as_str_name, "ROLE_")
}

impl From<pb::Principal> for PrincipalView {
    fn from(principal: pb::Principal) -> Self {
        Self {
            r#type: principal_type(principal.r#type),
            status: principal_status(principal.status),
            roles: principal.roles.iter().map(|number| role(*number)).collect(),
            enrol_scope: principal.enrol_scope.map(|scope| EnrolScopeView {
                id_prefix: scope.id_prefix,
                types: scope.types.into_iter().map(principal_type).collect(),
            }),
            dns_names: principal.dns_names,
            email: some(&principal.email),
            description: some(&principal.description),
            max_certificates: principal.max_certificates,
            validity: duration(principal.validity.as_ref()),
            metadata: principal.metadata.into_iter().collect(),
            created_at: time(principal.created_at.as_ref()),
            created_by: some(&principal.created_by),
            suspended_at: time(principal.suspended_at.as_ref()),
            suspended_reason: some(&principal.suspended_reason),
            version: principal.version,
            principal_id: principal.principal_id,
        }
    }
}

impl PrincipalView {
    /// The headers of [`PrincipalView::row`].
    pub(crate) const HEADERS: &[&str] = &["ID", "TYPE", "STATUS", "ROLES", "CREATED", "DESCRIPTION"];

    /// A row of a list, as it is at `now`.
    pub(crate) fn row(&self, now: Timestamp) -> [String; 6] {
        let (id, kind, status) = (self.principal_id.clone(), self.r#type.clone(), self.status.clone());
        let created = beside(self.created_at, now);
        [id, kind, status, self.roles_in_force(), created, cell(self.description.as_ref())]
    }

    /// Everything, for people who look at `now`.
    pub(crate) fn fields(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let scope = self
            .enrol_scope
            .as_ref()
            .map(|scope| format!("{} whose ids start with {:?}", scope.types.join(", "), scope.id_prefix));
        let max = match self.max_certificates {
            0 => "no limit".to_owned(),
            max => max.to_string(),
        };
        vec![
            ("id", self.principal_id.clone()),
            ("type", self.r#type.clone()),
            ("status", self.status.clone()),
            ("roles", self.roles_in_force()),
            ("may enrol", cell(scope.as_ref())),
            ("DNS names", self.dns_names.join(", ")),
            ("email", cell(self.email.as_ref())),
            ("description", cell(self.description.as_ref())),
            ("certificates at most", max),
            ("life of certificates", cell(self.validity.as_ref())),
            ("metadata", pairs(&self.metadata)),
            ("created", told(self.created_at, now)),
            ("created by", cell(self.created_by.as_ref())),
            ("suspended", told(self.suspended_at, now)),
            ("suspended because", cell(self.suspended_reason.as_ref())),
            ("version", self.version.to_string()),
        ]
    }

    /// The roles that were set, else the one that comes with the type.
    fn roles_in_force(&self) -> String {
        if self.roles.is_empty() { self.r#type.clone() } else { self.roles.join(", ") }
    }
}
