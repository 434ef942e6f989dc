//! What may be done, and who may do it: the one list of permissions and the role matrix.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, PrincipalType, Result};

macro_rules! permissions {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A permission. Each RPC declares one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        pub enum Permission { $($(#[doc = $doc])+ $name,)+ }

        impl Permission {
            /// Every permission there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The permission as RPC options and messages spell it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }

        impl FromStr for Permission {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($text => Ok(Self::$name),)+
                    _ => Err(Error::invalid("permission", format!("there is no permission {text:?}"))),
                }
            }
        }
    };
}

permissions! {
    /// Create, change, suspend and delete principals.
    PrincipalsManage = "principals:manage",
    /// Read principals and certificates.
    PrincipalsRead = "principals:read",
    /// Issue, register and revoke certificates.
    CertsManage = "certs:manage",
    /// Create enrolment tokens, within the caller's scope.
    CertsEnrol = "certs:enrol",
    /// Enqueue jobs.
    JobsSubmit = "jobs:submit",
    /// Take jobs.
    JobsDequeue = "jobs:dequeue",
    /// Complete jobs that the caller holds.
    JobsComplete = "jobs:complete",
    /// See jobs.
    JobsList = "jobs:list",
    /// Cancel jobs.
    JobsCancel = "jobs:cancel",
    /// Attach to jobs.
    JobsAttach = "jobs:attach",
    /// Publish events and output of jobs that the caller holds.
    EventsPublish = "events:publish",
    /// Follow events and output.
    EventsStream = "events:stream",
    /// Read the audit log.
    AuditRead = "audit:read",
    /// Manage issuers.
    CaManage = "ca:manage",
    /// What every principal may do for itself.
    SelfService = "self",
    /// What anyone may do, known or not.
    Anonymous = "anonymous",
}

impl TryFrom<String> for Permission {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Permission> for &'static str {
    fn from(permission: Permission) -> Self {
        permission.as_str()
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A named set of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Takes and completes jobs.
    Worker,
    /// Submits jobs and follows its own.
    User,
    /// Both of them, for machines.
    Service,
    /// Sees every job, changes nothing.
    Viewer,
    /// Creates workers and services within its scope, and their enrolment tokens.
    Enroller,
}

impl Role {
    /// Every role there is.
    pub const ALL: &'static [Self] =
        &[Self::Admin, Self::Worker, Self::User, Self::Service, Self::Viewer, Self::Enroller];

    /// The role's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Worker => "worker",
            Self::User => "user",
            Self::Service => "service",
            Self::Viewer => "viewer",
            Self::Enroller => "enroller",
        }
    }

    /// What the role may do, beside `self` and `anonymous`, which everyone may.
    pub const fn permissions(self) -> &'static [Permission] {
        use Permission as P;
        match self {
            Self::Admin => Permission::ALL,
            Self::Worker => {
                &[P::JobsDequeue, P::JobsComplete, P::JobsList, P::EventsPublish, P::EventsStream]
            }
            Self::User => &[P::JobsSubmit, P::JobsList, P::JobsCancel, P::JobsAttach, P::EventsStream],
            Self::Service => &[
                P::JobsSubmit,
                P::JobsDequeue,
                P::JobsComplete,
                P::JobsList,
                P::JobsCancel,
                P::JobsAttach,
                P::EventsPublish,
                P::EventsStream,
            ],
            Self::Viewer => &[P::JobsList, P::EventsStream],
            Self::Enroller => &[P::CertsEnrol],
        }
    }

    /// Whether the role may do `permission`.
    pub fn may(self, permission: Permission) -> bool {
        matches!(permission, Permission::SelfService | Permission::Anonymous)
            || self.permissions().contains(&permission)
    }
}

impl From<PrincipalType> for Role {
    /// A principal's type is its role unless roles are set.
    fn from(principal_type: PrincipalType) -> Self {
        match principal_type {
            PrincipalType::Admin => Self::Admin,
            PrincipalType::Worker => Self::Worker,
            PrincipalType::User => Self::User,
            PrincipalType::Service => Self::Service,
        }
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|role| role.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|role| role.as_str()).collect();
            Error::invalid("roles", format!("there is no role {text:?}: the roles are {}", names.join(", ")))
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_permissions_are_inverse() {
        for permission in Permission::ALL {
            assert_eq!(permission.as_str().parse::<Permission>().unwrap(), *permission);
        }
        for role in Role::ALL {
            assert_eq!(role.as_str().parse::<Role>().unwrap(), *role);
        }
    }

    #[test]
    fn only_admin_manages() {
        for role in Role::ALL.iter().filter(|role| **role != Role::Admin) {
            for permission in role.permissions() {
                assert!(!permission.as_str().ends_with(":manage"), "{role} may {permission}");
            }
        }
    }
}
