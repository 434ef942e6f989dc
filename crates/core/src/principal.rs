//! Principals: who there is, and the port that keeps them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    AuditEntry, DnsName, Error, Page, PageRequest, Permission, PrincipalId, Result, Role, Timestamp,
};

/// What a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrincipalType {
    /// A human who runs the environment.
    Admin,
    /// A machine that takes jobs.
    Worker,
    /// A human who submits jobs.
    User,
    /// A machine that does either.
    Service,
}

impl PrincipalType {
    /// Every type there is.
    pub const ALL: &'static [Self] = &[Self::Admin, Self::Worker, Self::User, Self::Service];

    /// The type's name, as it stands in certificates.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Worker => "worker",
            Self::User => "user",
            Self::Service => "service",
        }
    }
}

impl FromStr for PrincipalType {
    type Err = Error;

    /// `human` is accepted for `user`, `system` for `service`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "admin" => Ok(Self::Admin),
            "worker" => Ok(Self::Worker),
            "user" | "human" => Ok(Self::User),
            "service" | "system" => Ok(Self::Service),
            _ => Err(Error::invalid(
                "type",
                format!("there is no principal type {text:?}: the types are admin, worker, user, service"),
            )),
        }
    }
}

impl fmt::Display for PrincipalType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a principal counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrincipalStatus {
    /// It does.
    Active,
    /// It does not until it is activated.
    Suspended,
    /// It never will again; its id stays taken.
    Deleted,
}

impl PrincipalStatus {
    /// The status as stores and the API spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }
}

impl FromStr for PrincipalStatus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "active" => Ok(Self::Active),
            "suspended" => Ok(Self::Suspended),
            "deleted" => Ok(Self::Deleted),
            _ => Err(Error::invalid("status", "a status is active, suspended or deleted")),
        }
    }
}

impl fmt::Display for PrincipalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whom an enroller may bring in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolScope {
    /// Ids must start with this, in either case.
    pub id_prefix: String,
    /// Types it may create: `worker` and `service` only.
    pub types: BTreeSet<PrincipalType>,
}

impl EnrolScope {
    /// Whether `id` of `principal_type` lies within the scope.
    pub fn covers(&self, id: &PrincipalId, principal_type: PrincipalType) -> bool {
        matches!(principal_type, PrincipalType::Worker | PrincipalType::Service)
            && self.types.contains(&principal_type)
            && self.covers_id(id)
    }

    /// Whether `id` lies within the scope as far as its name goes.
    pub fn covers_id(&self, id: &PrincipalId) -> bool {
        id.folded().starts_with(&self.id_prefix.to_ascii_lowercase())
    }
}

/// A principal as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its id, which is its user name.
    pub id: PrincipalId,
    /// What it is.
    pub principal_type: PrincipalType,
    /// Whether it counts.
    pub status: PrincipalStatus,
    /// Roles that were set; where empty, the type is the role.
    pub roles: BTreeSet<Role>,
    /// Whom it may enrol, if it is an enroller.
    pub enrol_scope: Option<EnrolScope>,
    /// Names that its certificates may carry (services), each owned by one principal.
    pub dns_names: Vec<DnsName>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Who created it: a principal id, or `bootstrap`.
    pub created_by: String,
    /// When it was suspended, while it is.
    pub suspended_at: Option<Timestamp>,
    /// Why, while it is.
    pub suspended_reason: String,
    /// For the certificate's rfc822 name.
    pub email: String,
    /// For people.
    pub description: String,
    /// Active lineages at most; 0 is no limit.
    pub max_certificates: u32,
    /// Life of its certificates; none = the type's.
    pub validity: Option<Duration>,
    /// Labels.
    pub metadata: BTreeMap<String, String>,
    /// Grows by one with every write; writes name the version that they change.
    pub version: u64,
}

impl Principal {
    /// Active lineages where nothing else is said.
    pub const DEFAULT_MAX_CERTIFICATES: u32 = 3;

    /// The roles that count: those set, else the type's.
    pub fn effective_roles(&self) -> BTreeSet<Role> {
        if self.roles.is_empty() { BTreeSet::from([self.principal_type.into()]) } else { self.roles.clone() }
    }

    /// Whether its roles allow `permission` (whatever its status).
    pub fn may(&self, permission: Permission) -> bool {
        self.effective_roles().iter().any(|role| role.may(permission))
    }
}

/// Checks labels against their limits: 50 entries, 8 KiB together, keys of 1 to 64 printable characters.
pub fn check_metadata(field: &str, metadata: &BTreeMap<String, String>) -> Result<()> {
    let size: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata.len() > 50 || size > 8 * 1024 {
        return Err(Error::invalid(field, "labels are at most 50, of at most 8 KiB together"));
    }
    let key_fits = |key: &String| (1..=64).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if !metadata.keys().all(key_fits) || metadata.values().any(|value| value.chars().any(char::is_control)) {
        return Err(Error::invalid(
            field,
            "a label's key is 1 to 64 printable characters without spaces; its value has no control characters",
        ));
    }
    Ok(())
}

/// Fields to overwrite; `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is that of Principal")]
pub struct PrincipalUpdate {
    pub email: Option<String>,
    pub description: Option<String>,
    pub dns_names: Option<Vec<DnsName>>,
    pub max_certificates: Option<u32>,
    pub validity: Option<Option<Duration>>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub enrol_scope: Option<Option<EnrolScope>>,
}

/// A new status, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusChange {
    /// The status to set.
    pub status: PrincipalStatus,
    /// Why, for `suspended`; otherwise empty.
    pub reason: String,
    /// Also revoke every unexpired certificate, for this reason.
    pub revoke: Option<crate::RevocationReason>,
    /// Refuse (`last-admin`) if no active admin would be left.
    pub keep_an_admin: bool,
}

/// Which principals to list; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrincipalFilter {
    /// Of this type.
    pub principal_type: Option<PrincipalType>,
    /// Of this status; where none is named, deleted ones are left out.
    pub status: Option<PrincipalStatus>,
    /// Whose id starts with this, in either case.
    pub id_prefix: Option<String>,
}

/// Keeps principals. Every change of status or roles also appends to the change feed, in the same transaction.
#[async_trait]
pub trait PrincipalStore: Send + Sync {
    /// Adds a principal (its `version` is stored as 1). An id that is taken, in whatever case and even by a deleted
    /// principal, or a DNS name that another owns, is `already-exists`.
    async fn create_principal(&self, principal: Principal, audit: AuditEntry) -> Result<Principal>;

    /// The principal of this id; ids are compared without regard to case.
    async fn get_principal(&self, id: &PrincipalId) -> Result<Option<Principal>>;

    /// Principals in order of id (folded).
    async fn list_principals(&self, filter: &PrincipalFilter, page: &PageRequest) -> Result<Page<Principal>>;

    /// Overwrites fields, if the version is still `expected` (else `version-conflict`). A deleted principal stays as it
    /// is (`principal-not-active`), and owns no DNS names.
    async fn update_principal(
        &self,
        id: &PrincipalId,
        expected: u64,
        update: PrincipalUpdate,
        audit: AuditEntry,
    ) -> Result<Principal>;

    /// Sets roles, if the version is still `expected`; a deleted principal's stay (`principal-not-active`). Refuses (`last-admin`) to leave no active admin.
    async fn set_roles(
        &self,
        id: &PrincipalId,
        expected: u64,
        roles: BTreeSet<Role>,
        audit: AuditEntry,
    ) -> Result<Principal>;

    /// Sets the status, whatever the version (a denial must not lose a race); with `revoke` the certificates too, in
    /// the same transaction. A deleted principal stays deleted (`failed-precondition`, label `principal-not-active`).
    /// Setting the status that it has changes nothing but is audited. `now` is the audit entry's time.
    async fn set_status(
        &self,
        id: &PrincipalId,
        change: StatusChange,
        audit: AuditEntry,
    ) -> Result<Principal>;
}
