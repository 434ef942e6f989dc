//! How a principal looks.

use std::collections::BTreeMap;

use airunner_proto::principal::v1::{self as pb, PrincipalStatus, PrincipalType, Role};
use serde::Serialize;

use super::{cell, duration, pairs, some, time, word};

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
    created_at: Option<String>,
    created_by: Option<String>,
    suspended_at: Option<String>,
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

impl From<pb::Principal> for PrincipalView {
    fn from(principal: pb::Principal) -> Self {
        let role = |role: &i32| word(*role, Role::as_str_name, "ROLE_");
        Self {
            r#type: principal_type(principal.r#type),
            status: word(principal.status, PrincipalStatus::as_str_name, "PRINCIPAL_STATUS_"),
            roles: principal.roles.iter().map(role).collect(),
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
    pub(crate) const HEADERS: &[&str] = &["ID", "TYPE", "STATUS", "ROLES", "DESCRIPTION"];

    /// A row of a list.
    pub(crate) fn row(&self) -> [String; 5] {
        let (id, kind, status) = (self.principal_id.clone(), self.r#type.clone(), self.status.clone());
        [id, kind, status, self.roles_in_force(), cell(self.description.as_ref())]
    }

    /// Everything, for people.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
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
            ("created", cell(self.created_at.as_ref())),
            ("created by", cell(self.created_by.as_ref())),
            ("suspended", cell(self.suspended_at.as_ref())),
            ("suspended because", cell(self.suspended_reason.as_ref())),
            ("version", self.version.to_string()),
        ]
    }

    /// The roles that were set, else the one that comes with the type.
    fn roles_in_force(&self) -> String {
        if self.roles.is_empty() { self.r#type.clone() } else { self.roles.join(", ") }
    }
}
