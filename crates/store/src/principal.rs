//! The intents on principals.

use std::collections::BTreeSet;

use airunner_core::{
    AuditEntry, DnsName, Error, Intent, Label, Page, PageRequest, Principal, PrincipalFilter, PrincipalId,
    PrincipalStatus, PrincipalStore, PrincipalUpdate, Result, Revocation, RevocationTarget, Role,
    StatusChange, Timestamp,
};
use async_trait::async_trait;

use crate::{
    engine::{Engine, Ports},
    paging::Tokens,
    rows::Rows,
};

const TOKENS: Tokens = Tokens('p');

#[async_trait]
impl<E: Engine> PrincipalStore for Ports<E> {
    async fn create_principal(&self, principal: Principal, audit: AuditEntry) -> Result<Principal> {
        self.write(Intent::CreatePrincipal, move |rows| create(rows, principal.clone(), &audit)).await
    }

    async fn get_principal(&self, id: &PrincipalId) -> Result<Option<Principal>> {
        let id = id.clone();
        self.read(Intent::GetPrincipal, move |rows| rows.principal(&id)).await
    }

    async fn list_principals(&self, filter: &PrincipalFilter, page: &PageRequest) -> Result<Page<Principal>> {
        let (filter, page) = (filter.clone(), page.clone());
        self.read(Intent::ListPrincipals, move |rows| list(rows, &filter, &page)).await
    }

    async fn update_principal(
        &self,
        id: &PrincipalId,
        expected: u64,
        update: PrincipalUpdate,
        audit: AuditEntry,
    ) -> Result<Principal> {
        let id = id.clone();
        self.write(Intent::UpdatePrincipal, move |rows| {
            overwrite(rows, &id, expected, update.clone(), &audit)
        })
        .await
    }

    async fn set_roles(
        &self,
        id: &PrincipalId,
        expected: u64,
        roles: BTreeSet<Role>,
        audit: AuditEntry,
    ) -> Result<Principal> {
        let id = id.clone();
        self.write(Intent::SetRoles, move |rows| set_roles(rows, &id, expected, roles.clone(), &audit)).await
    }

    async fn set_status(
        &self,
        id: &PrincipalId,
        change: StatusChange,
        audit: AuditEntry,
    ) -> Result<Principal> {
        let rest = change.revoke.map(|reason| (RevocationTarget::Principal(id.clone()), reason));
        let (id, now) = (id.clone(), audit.at);
        let act = move |rows: &mut dyn Rows| set_status(rows, &id, change.clone(), E::BATCH, &audit);
        let principal = self.write(Intent::SetStatus, act).await?;
        if let Some((target, reason)) = rest {
            self.revoke_rest(target, reason, now).await?;
        }
        Ok(principal)
    }
}

fn create(rows: &mut dyn Rows, mut principal: Principal, audit: &AuditEntry) -> Result<Principal> {
    if rows.standing(&principal.id)?.is_some() {
        return Err(Error::new(
            Label::AlreadyExists,
            format!("the principal id {} is taken, if only by a deleted one: choose another", principal.id),
        )
        .with_field("principal_id"));
    }
    check_dns_names(rows, &principal.id, &principal.dns_names)?;
    principal.version = 1;
    rows.insert_principal(&principal)?;
    rows.own_dns_names(&principal.id, &principal.dns_names)?;
    rows.insert_audit(audit)?;
    Ok(principal)
}

fn list(rows: &dyn Rows, filter: &PrincipalFilter, page: &PageRequest) -> Result<Page<Principal>> {
    let after = TOKENS.read(page, |text| {
        let id = text.parse::<PrincipalId>().ok()?;
        (id.folded() == text).then(|| text.to_owned())
    })?;
    let wanted = |principal: &Principal| is_wanted(filter, principal);
    TOKENS.collect(page, wanted, String::clone, |visit| {
        rows.scan_principals(filter, after.as_deref(), &mut |row| visit((row.id.folded(), row)))
    })
}

fn is_wanted(filter: &PrincipalFilter, principal: &Principal) -> bool {
    let status = match filter.status {
        Some(status) => principal.status == status,
        None => principal.status != PrincipalStatus::Deleted,
    };
    let prefix = filter.id_prefix.as_ref();
    status
        && filter.principal_type.is_none_or(|wanted| principal.principal_type == wanted)
        && prefix.is_none_or(|prefix| principal.id.folded().starts_with(&prefix.to_ascii_lowercase()))
}

fn overwrite(
    rows: &mut dyn Rows,
    id: &PrincipalId,
    expected: u64,
    update: PrincipalUpdate,
    audit: &AuditEntry,
) -> Result<Principal> {
    let mut principal = at_version(rows, id, expected)?;
    let names = update.dns_names.clone();
    check_dns_names(rows, id, names.as_deref().unwrap_or_default())?;
    apply(&mut principal, update);
    rows.update_principal(&principal, audit.at)?;
    if let Some(names) = names {
        rows.own_dns_names(&principal.id, &names)?;
    }
    rows.insert_audit(audit)?;
    Ok(principal)
}

fn apply(principal: &mut Principal, update: PrincipalUpdate) {
    fn set<T>(field: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *field = value;
        }
    }
    set(&mut principal.email, update.email);
    set(&mut principal.description, update.description);
    set(&mut principal.dns_names, update.dns_names);
    set(&mut principal.max_certificates, update.max_certificates);
    set(&mut principal.validity, update.validity);
    set(&mut principal.metadata, update.metadata);
    set(&mut principal.enrol_scope, update.enrol_scope);
    principal.version += 1;
}

fn set_roles(
    rows: &mut dyn Rows,
    id: &PrincipalId,
    expected: u64,
    roles: BTreeSet<Role>,
    audit: &AuditEntry,
) -> Result<Principal> {
    let before = at_version(rows, id, expected)?;
    let after = Principal { roles, version: before.version + 1, ..before.clone() };
    check_an_admin_stays(rows, &before, &after)?;
    rows.update_principal(&after, audit.at)?;
    rows.insert_audit(audit)?;
    Ok(after)
}

fn set_status(
    rows: &mut dyn Rows,
    id: &PrincipalId,
    change: StatusChange,
    batch: usize,
    audit: &AuditEntry,
) -> Result<Principal> {
    let before = rows.principal(id)?.ok_or_else(|| Error::not_found("principal", id))?;
    if before.status == PrincipalStatus::Deleted && change.status != PrincipalStatus::Deleted {
        return Err(is_deleted(id));
    }
    let after = with_status(before.clone(), change.status, change.reason, audit.at);
    if change.keep_an_admin {
        check_an_admin_stays(rows, &before, &after)?;
    }
    if after != before {
        rows.update_principal(&after, audit.at)?;
    }
    if let Some(reason) = change.revoke {
        for reference in rows.revocable(id, audit.at, batch)? {
            rows.revoke_certificate(&reference, Revocation { at: audit.at, reason })?;
        }
    }
    rows.insert_audit(audit)?;
    Ok(after)
}

fn with_status(
    mut principal: Principal,
    status: PrincipalStatus,
    reason: String,
    now: Timestamp,
) -> Principal {
    if principal.status == status {
        return principal;
    }
    let suspended = status == PrincipalStatus::Suspended;
    principal.status = status;
    principal.suspended_at = suspended.then_some(now);
    principal.suspended_reason = if suspended { reason } else { String::new() };
    principal.version += 1;
    principal
}

/// The principal, if it is not deleted and its version is the one that the caller read.
fn at_version(rows: &dyn Rows, id: &PrincipalId, expected: u64) -> Result<Principal> {
    let principal = rows.principal(id)?.ok_or_else(|| Error::not_found("principal", id))?;
    if principal.status == PrincipalStatus::Deleted {
        return Err(is_deleted(id));
    }
    check_version(id, principal.version, expected)?;
    Ok(principal)
}

pub(crate) fn check_version(id: &PrincipalId, version: u64, expected: u64) -> Result<()> {
    if version == expected {
        return Ok(());
    }
    Err(Error::new(
        Label::VersionConflict,
        format!("{id} is at version {version}, no longer {expected}: read it again and retry"),
    ))
}

pub(crate) fn not_active(id: &PrincipalId, status: PrincipalStatus) -> Error {
    Error::new(Label::PrincipalNotActive, format!("the principal {id} is {status}: activate it first"))
}

fn is_deleted(id: &PrincipalId) -> Error {
    Error::new(Label::PrincipalNotActive, format!("the principal {id} was deleted, and stays so"))
}

fn check_an_admin_stays(rows: &dyn Rows, before: &Principal, after: &Principal) -> Result<()> {
    let is_admin = |principal: &Principal| {
        principal.status == PrincipalStatus::Active && principal.effective_roles().contains(&Role::Admin)
    };
    if !is_admin(before) || is_admin(after) || rows.another_admin(&before.id)? {
        return Ok(());
    }
    Err(Error::new(
        Label::LastAdmin,
        format!("{} is the last active admin: make another principal an admin first", before.id),
    ))
}

fn check_dns_names(rows: &dyn Rows, id: &PrincipalId, names: &[DnsName]) -> Result<()> {
    for name in names {
        if let Some(owner) = rows.dns_owner(name)?.filter(|owner| owner.folded() != id.folded()) {
            return Err(Error::new(
                Label::AlreadyExists,
                format!("the DNS name {name} belongs to {owner}: take it from there first"),
            )
            .with_field("dns_names"));
        }
    }
    Ok(())
}
