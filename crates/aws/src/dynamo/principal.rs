//! Rows of principals, and of the DNS names that they own.

use std::{collections::BTreeSet, time::Duration};

use airunner_core::{
    ChangeKind, DnsName, Intent, Principal, PrincipalFilter, PrincipalId, PrincipalStatus, Result, Role,
    Timestamp,
};
use airunner_store::backend::{ChangeRows as _, PrincipalRows, Standing, Visit};

use super::{
    DynamoRows,
    item::{Fields, Item, Row},
    key::RowKey,
    listing::{Bounds, Listing},
    transaction::Rely,
};
use crate::tables::{DNS_NAMES, PRINCIPALS};

/// The row that names the active admins, so that the last of them is known for sure. No principal can be called so.
const ROSTER: &str = "#admins";

/// After every id in order.
const LAST: &str = "~";

pub(super) fn read(item: &Item) -> Result<Principal> {
    let row = Row(item);
    Ok(Principal {
        id: match row.word_or_none("id")? {
            Some(id) => id,
            None => row.word("principal_id")?,
        },
        principal_type: row.word("type")?,
        status: row.word("status")?,
        roles: row.words("roles")?.into_iter().collect(),
        enrol_scope: row.json_or_none("enrol_scope")?,
        dns_names: row.words("dns_names")?,
        created_at: row.time("created_at")?,
        created_by: row.text_or_empty("created_by")?,
        suspended_at: row.time_or_none("suspended_at")?,
        suspended_reason: row.text_or_empty("suspended_reason")?,
        email: row.text_or_empty("email")?,
        description: row.text_or_empty("description")?,
        max_certificates: row.number("max_certificates")?,
        validity: row.number_or_none("validity")?.map(Duration::from_secs),
        metadata: row.labels("metadata")?,
        version: row.number("version")?,
    })
}

fn write(principal: &Principal) -> Result<Item> {
    let fields = Fields::default()
        .word("id", &principal.id)
        .word("type", principal.principal_type)
        .word("status", principal.status)
        .words("roles", principal.roles.iter().map(|role| role.as_str()))
        .json_or_none("enrol_scope", principal.enrol_scope.as_ref())?
        .words("dns_names", &principal.dns_names)
        .time("created_at", principal.created_at)
        .text("created_by", &principal.created_by)
        .time_or_none("suspended_at", principal.suspended_at)
        .text("suspended_reason", &principal.suspended_reason)
        .text("email", &principal.email)
        .text("description", &principal.description)
        .number("max_certificates", principal.max_certificates)
        .number_or_none("validity", principal.validity.map(|validity| validity.as_secs()))
        .labels("metadata", &principal.metadata)
        .number("version", principal.version);
    Ok(fields.done())
}

fn is_admin(principal: &Principal) -> bool {
    principal.status == PrincipalStatus::Active && principal.effective_roles().contains(&Role::Admin)
}

impl PrincipalRows for DynamoRows {
    fn principal(&self, id: &PrincipalId) -> Result<Option<Principal>> {
        self.principal_row(&id.folded(), Rely::Yes)
    }

    fn standing(&self, id: &PrincipalId) -> Result<Option<Standing>> {
        // Many of an owner's jobs come at once, and would meet one another here: it is enough that the owner is active
        // when its job is taken in, since what a suspended one has waiting is held all the same.
        let rely = if self.tx.is(Intent::EnqueueJobs) { Rely::No } else { Rely::Yes };
        let principal = self.principal_row(&id.folded(), rely)?;
        Ok(principal.map(|principal| Standing {
            status: principal.status,
            version: principal.version,
            max_certificates: principal.max_certificates,
        }))
    }

    fn scan_principals(
        &self,
        filter: &PrincipalFilter,
        after: Option<&str>,
        visit: Visit<'_, Principal>,
    ) -> Result<()> {
        let prefix = filter.id_prefix.as_ref().map(|prefix| prefix.to_ascii_lowercase()).unwrap_or_default();
        let from = after.unwrap_or_default().max(&prefix);
        // A key is never empty, and so neither is a bound of one.
        let from = if from.is_empty() { "!" } else { from };
        let (index, partitions) = match (filter.principal_type, filter.status) {
            (Some(principal_type), _) => ("by_type", vec![principal_type.to_string()]),
            (None, Some(status)) => ("by_status", vec![status.to_string()]),
            (None, None) => (
                "by_status",
                [PrincipalStatus::Active, PrincipalStatus::Suspended]
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            ),
        };
        let listing = Listing {
            table: &PRINCIPALS,
            index: Some(index),
            partitions,
            bounds: Bounds::text(from, format!("{prefix}{LAST}")),
            descending: false,
            place: |item| Ok(Row(item).text("principal_id")?.to_owned()),
            is_tie: |a, b| a == b,
        };
        self.tx.visit(&listing, &mut |id, item| {
            if after.is_some_and(|after| id.as_str() <= after) { Ok(true) } else { visit(read(&item)?) }
        })
    }

    fn another_admin(&self, besides: &PrincipalId) -> Result<bool> {
        for id in self.roster()? {
            // A hand may have suspended one, so that its row decides.
            if id != besides.folded()
                && self.principal_row(&id, Rely::Yes)?.is_some_and(|principal| is_admin(&principal))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn dns_owner(&self, name: &DnsName) -> Result<Option<PrincipalId>> {
        let Some(item) = self.tx.get(RowKey::of(&DNS_NAMES, name.as_str()), Rely::Yes)? else {
            return Ok(None);
        };
        let owner: PrincipalId = Row(&item).word("principal_id")?;
        let principal = self.principal_row(&owner.folded(), Rely::Yes)?;
        Ok(principal.filter(|principal| principal.status != PrincipalStatus::Deleted).map(|_| owner))
    }

    fn insert_principal(&mut self, principal: &Principal) -> Result<()> {
        self.tx.put(RowKey::of(&PRINCIPALS, &principal.id.folded()), write(principal)?);
        self.keep_roster(principal, false)
    }

    fn update_principal(&mut self, principal: &Principal, at: Timestamp) -> Result<()> {
        let folded = principal.id.folded();
        let key = RowKey::of(&PRINCIPALS, &folded);
        let before = self.tx.get(key, Rely::Yes)?.map(|item| read(&item)).transpose()?;
        self.tx.put(key, write(principal)?);
        let is_told = before
            .as_ref()
            .is_none_or(|before| before.status != principal.status || before.roles != principal.roles);
        self.keep_roster(principal, before.as_ref().is_some_and(is_admin))?;
        if is_told {
            let kind = ChangeKind::Principal { id: principal.id.clone(), status: principal.status };
            self.append_change(at, &kind)?;
        }
        Ok(())
    }

    fn own_dns_names(&mut self, id: &PrincipalId, names: &[DnsName]) -> Result<()> {
        let before = self.tx.before(RowKey::of(&PRINCIPALS, &id.folded()));
        let before: Vec<DnsName> =
            before.map(|item| Row(&item).words("dns_names")).transpose()?.unwrap_or_default();
        for name in before.iter().filter(|name| !names.contains(name)) {
            self.tx.delete(RowKey::of(&DNS_NAMES, name.as_str()));
        }
        for name in names.iter().filter(|name| !before.contains(name)) {
            let item = Fields::default().word("principal_id", id).done();
            self.tx.put(RowKey::of(&DNS_NAMES, name.as_str()), item);
        }
        Ok(())
    }
}

impl DynamoRows {
    pub(super) fn principal_row(&self, folded: &str, rely: Rely) -> Result<Option<Principal>> {
        self.tx.get(RowKey::of(&PRINCIPALS, folded), rely)?.map(|item| read(&item)).transpose()
    }

    /// Those of a status that denies, as the index has them.
    pub(super) fn denied(&self) -> Result<Vec<Principal>> {
        let listing = Listing {
            table: &PRINCIPALS,
            index: Some("by_status"),
            partitions: [PrincipalStatus::Suspended, PrincipalStatus::Deleted]
                .iter()
                .map(ToString::to_string)
                .collect(),
            bounds: Bounds::default(),
            descending: false,
            place: |item| Ok(Row(item).text("principal_id")?.to_owned()),
            is_tie: |a, b| a == b,
        };
        self.tx.all(&listing)?.iter().map(read).collect()
    }

    fn roster(&self) -> Result<BTreeSet<String>> {
        let item = self.tx.get(RowKey::of(&PRINCIPALS, ROSTER), Rely::Yes)?;
        let admins = item.map(|item| Row(&item).words::<PrincipalId>("admins")).transpose()?;
        Ok(admins.unwrap_or_default().iter().map(PrincipalId::folded).collect())
    }

    fn keep_roster(&mut self, principal: &Principal, was_admin: bool) -> Result<()> {
        let is_admin = is_admin(principal);
        if is_admin == was_admin {
            return Ok(());
        }
        let mut admins = self.roster()?;
        if is_admin {
            admins.insert(principal.id.folded());
        } else {
            admins.remove(&principal.id.folded());
        }
        self.tx.put(RowKey::of(&PRINCIPALS, ROSTER), Fields::default().words("admins", admins).done());
        Ok(())
    }
}
