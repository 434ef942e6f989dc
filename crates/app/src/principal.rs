//! Use cases of the registry: create, change, suspend, activate, revoke and delete principals.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use airunner_core::{
    Certificate, EnrolScope, Error, JobId, Label, Page, PageRequest, Principal, PrincipalFilter, PrincipalId,
    PrincipalStatus, PrincipalType, PrincipalUpdate, Result, RevocationReason, Role, StatusChange, Timestamp,
    check_metadata,
};

use crate::{
    authn::Caller,
    authz::{PermissionSet, Permit, Target, may, require_to_enrol},
    certificate::{job_spiffe_id, spiffe_id},
    context::{Context, Settings, principal, retrying},
    status::catch_up,
};

/// Characters of a description or a reason at most.
const MAX_TEXT: usize = 1_024;
/// DNS names of a principal at most.
const MAX_DNS_NAMES: usize = 32;

/// A principal as the registry starts it, with nothing set that need not be.
pub fn new_principal(
    id: PrincipalId,
    principal_type: PrincipalType,
    now: Timestamp,
    created_by: &str,
) -> Principal {
    Principal {
        id,
        principal_type,
        status: PrincipalStatus::Active,
        roles: BTreeSet::new(),
        enrol_scope: None,
        dns_names: Vec::new(),
        created_at: now,
        created_by: created_by.to_owned(),
        suspended_at: None,
        suspended_reason: String::new(),
        email: String::new(),
        description: String::new(),
        max_certificates: Principal::DEFAULT_MAX_CERTIFICATES,
        validity: None,
        metadata: BTreeMap::new(),
        version: 1,
    }
}

/// Who a caller is.
#[derive(Clone, Debug)]
pub struct WhoAmI {
    /// The principal.
    pub principal: Principal,
    /// The certificate of the connection.
    pub certificate: Option<Certificate>,
    /// The SPIFFE id: the principal's, or the job's.
    pub spiffe_id: String,
    /// The job that calls for the principal.
    pub job: Option<JobId>,
}

/// The registry.
pub struct Principals {
    context: Arc<Context>,
}

impl Principals {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Adds `wanted`. Its status, version, creation and suspension fields are set here.
    ///
    /// # Errors
    /// `escalation` outside an enroller's scope, for what only an admin may set, or for roles with more than the caller's
    /// own; `already-exists`.
    pub async fn create(&self, caller: &Caller, wanted: Principal) -> Result<Principal> {
        let permit = caller.permit::<may::CertsEnrol>(Target::Any)?;
        let now = self.context.now();
        let fresh =
            new_principal(wanted.id.clone(), wanted.principal_type, now, caller.principal_id().as_str());
        let wanted = Principal {
            status: fresh.status,
            created_at: fresh.created_at,
            created_by: fresh.created_by,
            suspended_at: None,
            suspended_reason: String::new(),
            version: fresh.version,
            ..wanted
        };
        self.check(caller, &wanted)?;
        require_to_enrol(caller, &wanted.id, wanted.principal_type, &wanted.effective_roles())?;
        let audit = permit.audit(now, "principal.create", &wanted.id);
        self.context.stores.principals.create_principal(wanted, audit).await
    }

    /// One principal.
    ///
    /// # Errors
    /// `not-found`.
    pub async fn get(&self, caller: &Caller, id: &PrincipalId) -> Result<Principal> {
        caller.permit::<may::PrincipalsRead>(Target::Any).map(drop)?;
        principal(&self.context, id).await
    }

    /// Who the caller is now, and by which certificate.
    ///
    /// # Errors
    /// `store-unavailable` and the like.
    pub async fn who_am_i(&self, caller: &Caller) -> Result<WhoAmI> {
        caller.permit::<may::SelfService>(Target::Any).map(drop)?;
        let Some(reference) = caller.certificate() else {
            let principal = caller.principal().clone();
            return Ok(WhoAmI {
                spiffe_id: spiffe_id(&self.context, &principal),
                principal,
                certificate: None,
                job: None,
            });
        };
        let identity = self.context.stores.certificates.identity(&reference).await?;
        let identity = identity.ok_or_else(|| Error::not_found("certificate", reference.serial))?;
        let job = identity.certificate.job.as_ref().map(|job| job.id);
        Ok(WhoAmI {
            spiffe_id: job.map_or_else(
                || spiffe_id(&self.context, &identity.principal),
                |job| job_spiffe_id(&self.context, &job),
            ),
            principal: identity.principal,
            certificate: Some(identity.certificate),
            job,
        })
    }

    /// Principals in order of id.
    ///
    /// # Errors
    /// `page-token`.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: &PrincipalFilter,
        page: &PageRequest,
    ) -> Result<Page<Principal>> {
        caller.permit::<may::PrincipalsRead>(Target::Any).map(drop)?;
        self.context.stores.principals.list_principals(filter, page).await
    }

    /// Overwrites fields of version `version`, or of the current one where that is 0.
    ///
    /// # Errors
    /// `not-found`, `version-conflict`; `escalation` for a scope that would confer more than the caller has.
    pub async fn update(
        &self,
        caller: &Caller,
        id: &PrincipalId,
        version: u64,
        update: PrincipalUpdate,
    ) -> Result<Principal> {
        caller.permit::<may::PrincipalsManage>(Target::Any).map(drop)?;
        retrying_at(version, || async {
            let permit = caller.permit::<may::PrincipalsManage>(Target::Any)?;
            let current = principal(&self.context, id).await?;
            self.check(caller, &updated(&current, &update))?;
            let expected = if version == 0 { current.version } else { version };
            let audit = permit.audit(self.context.now(), "principal.update", &current.id);
            self.context
                .stores
                .principals
                .update_principal(&current.id, expected, update.clone(), audit)
                .await
        })
        .await
    }

    /// Sets the roles; none gives the type's own role back.
    ///
    /// # Errors
    /// `escalation` for roles with more than the caller's own; `last-admin`; `version-conflict`.
    pub async fn set_roles(
        &self,
        caller: &Caller,
        id: &PrincipalId,
        version: u64,
        roles: BTreeSet<Role>,
    ) -> Result<Principal> {
        caller.permit::<may::PrincipalsManage>(Target::Any).map(drop)?;
        let changed = retrying_at(version, || async {
            let permit = caller.permit::<may::PrincipalsManage>(Target::Any)?;
            let current = principal(&self.context, id).await?;
            let wanted = Principal { roles: roles.clone(), ..current.clone() };
            caller.require_to_confer(PermissionSet::of_roles(&wanted.effective_roles()))?;
            let expected = if version == 0 { current.version } else { version };
            let mut audit = permit.audit(self.context.now(), "principal.set-roles", &current.id);
            let names: Vec<_> = wanted.effective_roles().iter().map(|role| role.as_str()).collect();
            audit.detail.insert("roles".to_owned(), names.join(","));
            self.context.stores.principals.set_roles(&current.id, expected, roles.clone(), audit).await
        })
        .await?;
        catch_up(&self.context).await?;
        Ok(changed)
    }

    /// Takes all authority away until activation. In force on this server when it returns.
    ///
    /// # Errors
    /// `not-found`, `last-admin`.
    pub async fn suspend(&self, caller: &Caller, id: &PrincipalId, reason: &str) -> Result<Principal> {
        let permit = caller.permit::<may::PrincipalsManage>(Target::Any)?;
        check_text("reason", reason)?;
        let change = StatusChange {
            status: PrincipalStatus::Suspended,
            reason: reason.to_owned(),
            revoke: None,
            keep_an_admin: true,
        };
        self.set_status(permit, "principal.suspend", id, change).await
    }

    /// Gives a suspended principal its authority back.
    ///
    /// # Errors
    /// `not-found`; `principal-not-active` for a deleted one; `escalation` where it may more than the caller.
    pub async fn activate(&self, caller: &Caller, id: &PrincipalId) -> Result<Principal> {
        let permit = caller.permit::<may::PrincipalsManage>(Target::Any)?;
        let current = principal(&self.context, id).await?;
        caller.require_to_confer(PermissionSet::of_roles(&current.effective_roles()))?;
        let change = StatusChange {
            status: PrincipalStatus::Active,
            reason: String::new(),
            revoke: None,
            keep_an_admin: false,
        };
        self.set_status(permit, "principal.activate", id, change).await
    }

    /// Suspends a principal and revokes all its certificates, in one act.
    ///
    /// # Errors
    /// `not-found`, `last-admin`.
    pub async fn revoke(&self, caller: &Caller, id: &PrincipalId, reason: &str) -> Result<Principal> {
        let permit = caller.permit::<may::PrincipalsManage>(Target::Any)?;
        check_text("reason", reason)?;
        let change = StatusChange {
            status: PrincipalStatus::Suspended,
            reason: reason.to_owned(),
            revoke: Some(RevocationReason::PrivilegeWithdrawn),
            keep_an_admin: true,
        };
        self.set_status(permit, "principal.revoke", id, change).await
    }

    /// Ends a principal for good and revokes all its certificates.
    ///
    /// # Errors
    /// `not-found`, `last-admin`; `principal-not-active` where it is deleted already.
    pub async fn delete(&self, caller: &Caller, id: &PrincipalId) -> Result<Principal> {
        let permit = caller.permit::<may::PrincipalsManage>(Target::Any)?;
        let change = StatusChange {
            status: PrincipalStatus::Deleted,
            reason: String::new(),
            revoke: Some(RevocationReason::CessationOfOperation),
            keep_an_admin: true,
        };
        self.set_status(permit, "principal.delete", id, change).await
    }

    async fn set_status(
        &self,
        permit: Permit<may::PrincipalsManage>,
        action: &str,
        id: &PrincipalId,
        change: StatusChange,
    ) -> Result<Principal> {
        let mut audit = permit.audit(self.context.now(), action, id);
        if !change.reason.is_empty() {
            audit.detail.insert("reason".to_owned(), change.reason.clone());
        }
        let changed = self.context.stores.principals.set_status(id, change, audit).await?;
        catch_up(&self.context).await?;
        Ok(changed)
    }

    /// Checks what a principal may be, whoever asks for it.
    fn check(&self, caller: &Caller, wanted: &Principal) -> Result<()> {
        check_text("description", &wanted.description)?;
        check_email(caller, &wanted.email)?;
        check_metadata("metadata", &wanted.metadata)?;
        check_validity(wanted)?;
        self.check_dns_names(caller, wanted)?;
        check_scope(caller, wanted.enrol_scope.as_ref())
    }

    fn check_dns_names(&self, caller: &Caller, wanted: &Principal) -> Result<()> {
        if wanted.dns_names.is_empty() {
            return Ok(());
        }
        if !caller.permissions().contains(airunner_core::Permission::PrincipalsManage) {
            return Err(Error::new(Label::Escalation, "DNS names are set by an admin: leave them out"));
        }
        if wanted.principal_type != PrincipalType::Service {
            return Err(Error::invalid("dns_names", "only services have DNS names in their certificates"));
        }
        if wanted.dns_names.len() > MAX_DNS_NAMES {
            return Err(Error::invalid("dns_names", format!("at most {MAX_DNS_NAMES} names")));
        }
        let ours = wanted.dns_names.iter().find(|name| self.context.settings.server_names.contains(name));
        ours.map_or(Ok(()), |name| {
            Err(Error::invalid("dns_names", format!("{name} is this server's own name")))
        })
    }
}

/// Tries again after a conflict only if the caller did not insist on a version.
async fn retrying_at<F, Fut>(version: u64, mut act: F) -> Result<Principal>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Principal>>,
{
    if version == 0 { retrying(act).await } else { act().await }
}

fn updated(current: &Principal, update: &PrincipalUpdate) -> Principal {
    let update = update.clone();
    Principal {
        email: update.email.unwrap_or_else(|| current.email.clone()),
        description: update.description.unwrap_or_else(|| current.description.clone()),
        dns_names: update.dns_names.unwrap_or_else(|| current.dns_names.clone()),
        max_certificates: update.max_certificates.unwrap_or(current.max_certificates),
        validity: update.validity.unwrap_or(current.validity),
        metadata: update.metadata.unwrap_or_else(|| current.metadata.clone()),
        enrol_scope: update.enrol_scope.unwrap_or_else(|| current.enrol_scope.clone()),
        ..current.clone()
    }
}

pub(crate) fn check_text(field: &str, text: &str) -> Result<()> {
    if text.chars().count() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(Error::invalid(field, format!("{field} is one line of at most {MAX_TEXT} characters")));
    }
    Ok(())
}

/// An rfc822Name (RFC 5280 section 4.2.1.6): ASCII, one @, no spaces.
fn check_email(caller: &Caller, email: &str) -> Result<()> {
    // It stands in certificates, for others to go by: no scope covers it.
    if !email.is_empty() && !caller.permissions().contains(airunner_core::Permission::PrincipalsManage) {
        return Err(Error::new(Label::Escalation, "an e-mail address is set by an admin: leave it out"));
    }
    let well_formed = email.len() <= 254
        && email.bytes().all(|b| b.is_ascii_graphic())
        && email.split_once('@').is_some_and(|(local, host)| {
            !local.is_empty() && !host.contains('@') && host.parse::<airunner_core::DnsName>().is_ok()
        });
    if email.is_empty() || well_formed {
        return Ok(());
    }
    Err(Error::invalid("email", "an e-mail address is name@host in ASCII"))
}

fn check_validity(wanted: &Principal) -> Result<()> {
    let allowed = Settings::MIN_VALIDITY..=Settings::MAX_VALIDITY;
    if wanted.validity.is_none_or(|validity| allowed.contains(&validity)) {
        return Ok(());
    }
    Err(Error::invalid("validity", "a certificate's life is between 5 minutes and 90 days"))
}

fn check_scope(caller: &Caller, scope: Option<&EnrolScope>) -> Result<()> {
    let Some(scope) = scope else { return Ok(()) };
    // It means nothing without the role; who later gives the role must find no scope of another's choosing.
    if !caller.permissions().contains(airunner_core::Permission::PrincipalsManage) {
        return Err(Error::new(Label::Escalation, "an enrol_scope is set by an admin"));
    }
    let allowed = |kind: &PrincipalType| matches!(kind, PrincipalType::Worker | PrincipalType::Service);
    if scope.types.is_empty() || !scope.types.iter().all(allowed) {
        return Err(Error::invalid("enrol_scope.types", "an enroller brings in workers and services only"));
    }
    if scope.id_prefix.is_empty() || scope.id_prefix.parse::<PrincipalId>().is_err() {
        return Err(Error::invalid("enrol_scope.id_prefix", "the prefix is the beginning of a principal id"));
    }
    Ok(())
}
