//! The authorization policy: which caller gets which permit. A permit is the only way to a store-facing step, and
//! the only source of the audit entry that every write to a store demands.

use std::{collections::BTreeSet, marker::PhantomData};

use airunner_core::{
    Actor, AuditEntry, AuditOutcome, Error, Job, Label, Permission, PrincipalId, Result, Role, Timestamp,
};

use crate::authn::Caller;

macro_rules! markers {
    ($($name:ident),+ $(,)?) => {
        /// A permission as a type, one for each of [`Permission`]'s, so that a permit says what it permits.
        pub mod may {
            use airunner_core::Permission;
            $(
                #[doc = concat!("[`Permission::", stringify!($name), "`].")]
                #[derive(Debug)]
                pub enum $name {}
                impl super::Grantable for $name {
                    const PERMISSION: Permission = Permission::$name;
                }
            )+
        }
    };
}

markers!(
    PrincipalsManage,
    PrincipalsRead,
    CertsManage,
    CertsEnrol,
    JobsSubmit,
    JobsDequeue,
    JobsComplete,
    JobsList,
    JobsCancel,
    JobsAttach,
    EventsPublish,
    EventsStream,
    AuditRead,
    CaManage,
    SelfService,
);

/// A permission that a [`Permit`] can carry.
pub trait Grantable {
    /// Which one.
    const PERMISSION: Permission;
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PermissionSet(u32);

impl PermissionSet {
    /// What `roles` allow, with what everyone may.
    pub fn of_roles(roles: &BTreeSet<Role>) -> Self {
        let everyone = [Permission::SelfService, Permission::Anonymous];
        roles.iter().flat_map(|role| role.permissions()).chain(&everyone).copied().collect()
    }

    /// Whether `permission` is in it.
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u32) != 0
    }

    /// Whether everything in `other` is in it.
    pub const fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// What is left of it for whoever was granted `grants` of it; what everyone may stays.
    #[must_use]
    pub fn granted(self, grants: &BTreeSet<Permission>) -> Self {
        let everyone = Self::of_roles(&BTreeSet::new());
        let granted: Self = grants.iter().copied().collect();
        Self(self.0 & (granted.0 | everyone.0))
    }

    /// Its permissions, in the order of the list.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |permission| self.contains(*permission))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |set, permission| set | 1 << permission as u32))
    }
}

/// Over what a permission is asked.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Over nothing that anyone owns.
    Any,
    /// Over a job: the caller owns it, holds it, or its role sees all.
    Job(&'a Job),
}

/// That its caller may do `P`, checked. It can be had from [`Caller::permit`] only, and is used up by the step that
/// it permits.
#[derive(Debug)]
#[must_use = "a permit permits nothing until a step takes it"]
pub struct Permit<P> {
    caller: Caller,
    permission: PhantomData<fn() -> P>,
}

impl<P: Grantable> Permit<P> {
    /// Who was permitted.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The audit entry of the act that this permit is for, used up with it.
    pub fn audit(self, now: Timestamp, action: &str, target: impl ToString) -> AuditEntry {
        entry(&self.caller, now, action, target)
    }
}

impl Caller {
    /// Checks that the caller may do `P` over `target`.
    ///
    /// # Errors
    /// `permission-denied`, which names the permission; `not-owner` where the caller may, but not here.
    pub fn permit<P: Grantable>(&self, target: Target<'_>) -> Result<Permit<P>> {
        self.require(P::PERMISSION)?;
        if let Target::Job(job) = target {
            self.require_job(P::PERMISSION, job)?;
        }
        Ok(Permit { caller: self.clone(), permission: PhantomData })
    }

    /// Checks that the caller holds `permission`, whatever over.
    ///
    /// # Errors
    /// `permission-denied`, which names the permission.
    pub fn require(&self, permission: Permission) -> Result<()> {
        if self.permissions().contains(permission) {
            return Ok(());
        }
        let lacks = match self.job() {
            None => {
                format!(
                    "{} lacks the permission {permission}: an admin can set its roles",
                    self.principal_id()
                )
            }
            Some(job) => format!(
                "job {} lacks the permission {permission}: its owner did not grant it, or does not have it",
                job.id
            ),
        };
        Err(Error::new(Label::PermissionDenied, lacks).with_field(permission.as_str()))
    }

    /// Refuses to let the caller hand out `permissions` that it does not hold.
    ///
    /// # Errors
    /// `escalation`, which names the first permission that is missing.
    pub fn require_to_confer(&self, permissions: PermissionSet) -> Result<()> {
        let missing = permissions.iter().find(|permission| !self.permissions().contains(*permission));
        missing.map_or(Ok(()), |permission| {
            Err(Error::new(
                Label::Escalation,
                format!("this would confer {permission}, which {} does not hold", self.principal_id()),
            ))
        })
    }

    /// Whether the caller sees all jobs, as far as `permission` goes.
    pub fn sees_all_jobs(&self, permission: Permission) -> bool {
        sees_all_jobs(self.roles(), permission)
    }

    fn require_job(&self, permission: Permission, job: &Job) -> Result<()> {
        let owns = job.owner == *self.principal_id();
        let holds = job.lease.as_ref().is_some_and(|lease| lease.holder == *self.principal_id());
        let allowed = match permission {
            Permission::JobsList | Permission::EventsStream => {
                owns || holds || self.sees_all_jobs(permission)
            }
            Permission::JobsDequeue | Permission::JobsComplete | Permission::EventsPublish => holds,
            _ => owns || self.sees_all_jobs(permission),
        };
        if allowed {
            return Ok(());
        }
        Err(Error::new(Label::NotOwner, format!("job {} is not {}'s", job.id, self.principal_id())))
    }
}

/// Whether who has `roles` sees all jobs, as far as `permission` goes.
pub(crate) fn sees_all_jobs(roles: &BTreeSet<Role>, permission: Permission) -> bool {
    let reads = matches!(permission, Permission::JobsList | Permission::EventsStream);
    roles.contains(&Role::Admin) || (reads && roles.contains(&Role::Viewer))
}

/// What an act of the server's own is audited as: there is no caller whose permit could be asked for.
pub(crate) fn system_entry(now: Timestamp, actor: &str, action: &str, target: impl ToString) -> AuditEntry {
    let actor = Actor { principal: actor.to_owned(), certificate: String::new(), address: String::new() };
    AuditEntry {
        at: now,
        actor,
        action: action.to_owned(),
        target: target.to_string(),
        outcome: AuditOutcome::Done,
        request_id: String::new(),
        detail: std::collections::BTreeMap::new(),
    }
}

/// The entry of a refusal, which is no act and needs no permit.
pub(crate) fn refusal_entry(
    caller: &Caller,
    now: Timestamp,
    action: &str,
    target: impl ToString,
    label: Label,
) -> AuditEntry {
    let mut entry = entry(caller, now, action, target);
    entry.outcome = AuditOutcome::Refused(label.as_str().to_owned());
    entry
}

fn entry(caller: &Caller, now: Timestamp, action: &str, target: impl ToString) -> AuditEntry {
    let mut entry = system_entry(now, caller.principal_id().as_str(), action, target);
    entry.actor.certificate = caller.certificate_serial();
    caller.address().clone_into(&mut entry.actor.address);
    caller.request_id().clone_into(&mut entry.request_id);
    if let Some(job) = caller.job() {
        entry.detail.insert("job".to_owned(), job.id.to_string());
    }
    entry
}

/// Whether an enroller's scope, or the right to manage, covers bringing in `id` of this type with `roles`.
///
/// # Errors
/// `escalation`, which says what the scope is.
pub(crate) fn require_to_enrol(
    caller: &Caller,
    id: &PrincipalId,
    principal_type: airunner_core::PrincipalType,
    roles: &BTreeSet<Role>,
) -> Result<()> {
    if caller.permissions().contains(Permission::PrincipalsManage) {
        return caller.require_to_confer(PermissionSet::of_roles(roles));
    }
    let default_roles = BTreeSet::from([principal_type.into()]);
    let in_scope = caller.enrol_scope().is_some_and(|scope| scope.covers(id, principal_type));
    if in_scope && *roles == default_roles {
        return Ok(());
    }
    let what = format!("{id} ({principal_type}) with these roles");
    Err(out_of_scope(caller, &what))
}

/// Whether an enroller's scope, or the right to see all principals, covers asking for `id`, which may not exist: who
/// sees only a scope is told nothing about what lies outside it.
///
/// # Errors
/// `escalation`, which says what the scope is.
pub(crate) fn require_to_ask_for(caller: &Caller, id: &PrincipalId) -> Result<()> {
    let covered = || caller.enrol_scope().is_some_and(|scope| scope.covers_id(id));
    if caller.permissions().contains(Permission::PrincipalsRead) || covered() {
        return Ok(());
    }
    Err(out_of_scope(caller, id.as_str()))
}

fn out_of_scope(caller: &Caller, what: &str) -> Error {
    let scope = caller.enrol_scope().map_or_else(
        || "it has no enrol_scope, which an admin can give it".to_owned(),
        |scope| {
            let types: Vec<_> = scope.types.iter().map(|kind| kind.as_str()).collect();
            format!(
                "its enrol_scope is ids that start with {:?}, of type {}, with the role of their type",
                scope.id_prefix,
                types.join(" or ")
            )
        },
    );
    Error::new(Label::Escalation, format!("{} may not enrol {what}: {scope}", caller.principal_id()))
}
