//! Statements on principals.

use std::{collections::BTreeSet, time::Duration};

use airunner_core::{
    DnsName, Error, Principal, PrincipalFilter, PrincipalId, PrincipalStatus, Result, Role, Timestamp,
};
use rusqlite::{Row, params};

use super::rows::{
    SqliteRows, get, integer, json, json_or_none, millis, number, time, time_or_none, to_json, word,
};
use crate::rows::{PrincipalRows, Standing, Visit};

macro_rules! columns {
    () => {
        "principal_id, type, status, roles, enrol_scope, dns_names, created_at, created_by, suspended_at, \
         suspended_reason, email, description, max_certificates, validity, metadata, version"
    };
}

fn principal(row: &Row<'_>) -> Result<Principal> {
    let validity: Option<i64> = get(row, 13)?;
    Ok(Principal {
        id: word(row, 0)?,
        principal_type: word(row, 1)?,
        status: word(row, 2)?,
        roles: read_roles(&get::<String>(row, 3)?)?,
        enrol_scope: json_or_none(row, 4)?,
        dns_names: json(row, 5)?,
        created_at: time(row, 6)?,
        created_by: get(row, 7)?,
        suspended_at: time_or_none(row, 8)?,
        suspended_reason: get(row, 9)?,
        email: get(row, 10)?,
        description: get(row, 11)?,
        max_certificates: number(row, 12)?,
        validity: validity.map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
        metadata: json(row, 14)?,
        version: number(row, 15)?,
    })
}

/// Names with commas between, which a hand can write; spaces don't count.
pub(super) fn read_roles(text: &str) -> Result<BTreeSet<Role>> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| name.parse().map_err(|error: Error| Error::internal(error.to_string()))).collect()
}

pub(super) fn write_roles(roles: &BTreeSet<Role>) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(",")
}

fn seconds(validity: Option<Duration>) -> Result<Option<i64>> {
    validity.map(|validity| integer(validity.as_secs())).transpose()
}

impl PrincipalRows for SqliteRows<'_> {
    fn principal(&self, id: &PrincipalId) -> Result<Option<Principal>> {
        let sql = concat!("SELECT ", columns!(), " FROM principals WHERE principal_id = ?1");
        self.first(sql, [id.as_str()], principal)
    }

    fn standing(&self, id: &PrincipalId) -> Result<Option<Standing>> {
        let sql = "SELECT status, version, max_certificates FROM principals WHERE principal_id = ?1";
        self.first(sql, [id.as_str()], |row| {
            Ok(Standing {
                status: word(row, 0)?,
                version: number(row, 1)?,
                max_certificates: number(row, 2)?,
            })
        })
    }

    fn scan_principals(
        &self,
        filter: &PrincipalFilter,
        after: Option<&str>,
        visit: Visit<'_, Principal>,
    ) -> Result<()> {
        macro_rules! sql {
            ($index:literal, $condition:literal) => {
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM principals ",
                    $index,
                    " WHERE ",
                    $condition,
                    " AND principal_id >= ?1 AND principal_id < ?2 ORDER BY principal_id"
                )
            };
        }
        let prefix = filter.id_prefix.as_deref().unwrap_or_default().to_ascii_lowercase();
        // `!` sorts before every character of an id, and DEL after them.
        let from = after.map_or_else(|| prefix.clone(), |after| format!("{after}!"));
        let until = format!("{prefix}\u{7f}");
        if let Some(status) = filter.status {
            let sql = sql!("INDEXED BY principals_status", "status = ?3");
            return self.scan(sql, params![from, until, status.as_str()], principal, visit);
        }
        if let Some(principal_type) = filter.principal_type {
            let sql = sql!("INDEXED BY principals_type", "type = ?3");
            return self.scan(sql, params![from, until, principal_type.as_str()], principal, visit);
        }
        self.scan(sql!("", "TRUE"), params![from, until], principal, visit)
    }

    fn another_admin(&self, besides: &PrincipalId) -> Result<bool> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM principals INDEXED BY principals_admins WHERE status = 'active' \
             AND ((roles = '' AND type = 'admin') OR instr(roles, 'admin') > 0) AND principal_id <> ?1"
        );
        let mut found = false;
        self.scan(sql, [besides.as_str()], principal, &mut |candidate| {
            found = candidate.status == PrincipalStatus::Active
                && candidate.effective_roles().contains(&Role::Admin);
            Ok(!found)
        })?;
        Ok(found)
    }

    fn dns_owner(&self, name: &DnsName) -> Result<Option<PrincipalId>> {
        let sql = "SELECT p.principal_id FROM dns_names n JOIN principals p USING (principal_id) \
                   WHERE n.name = ?1 AND p.status <> 'deleted'";
        self.first(sql, [name.as_str()], |row| word(row, 0))
    }

    fn insert_principal(&mut self, principal: &Principal) -> Result<()> {
        let sql = concat!(
            "INSERT INTO principals (",
            columns!(),
            ") \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
        );
        self.run(
            sql,
            params![
                principal.id.as_str(),
                principal.principal_type.as_str(),
                principal.status.as_str(),
                write_roles(&principal.roles),
                principal.enrol_scope.as_ref().map(to_json).transpose()?,
                to_json(&principal.dns_names)?,
                principal.created_at.as_millis(),
                principal.created_by,
                millis(principal.suspended_at),
                principal.suspended_reason,
                principal.email,
                principal.description,
                principal.max_certificates,
                seconds(principal.validity)?,
                to_json(&principal.metadata)?,
                integer(principal.version)?,
            ],
        )
        .map(drop)
    }

    fn update_principal(&mut self, principal: &Principal, at: Timestamp) -> Result<()> {
        let sql = "UPDATE principals SET status = ?2, roles = ?3, enrol_scope = ?4, dns_names = ?5, \
                   suspended_at = ?6, suspended_reason = ?7, email = ?8, description = ?9, \
                   max_certificates = ?10, validity = ?11, metadata = ?12, version = ?13 WHERE principal_id = ?1";
        let params = params![
            principal.id.as_str(),
            principal.status.as_str(),
            write_roles(&principal.roles),
            principal.enrol_scope.as_ref().map(to_json).transpose()?,
            to_json(&principal.dns_names)?,
            millis(principal.suspended_at),
            principal.suspended_reason,
            principal.email,
            principal.description,
            principal.max_certificates,
            seconds(principal.validity)?,
            to_json(&principal.metadata)?,
            integer(principal.version)?,
        ];
        self.run_telling(sql, params, at)
    }

    fn own_dns_names(&mut self, id: &PrincipalId, names: &[DnsName]) -> Result<()> {
        self.run("DELETE FROM dns_names WHERE principal_id = ?1", [id.as_str()])?;
        for name in names {
            let sql = "INSERT OR REPLACE INTO dns_names (name, principal_id) VALUES (?1, ?2)";
            self.run(sql, [name.as_str(), id.as_str()])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_a_hand_writes_them() {
        let both = BTreeSet::from([Role::Viewer, Role::User]);
        assert_eq!(read_roles(" viewer, user ,").unwrap(), both);
        assert_eq!(read_roles(&write_roles(&both)).unwrap(), both);
        assert_eq!(read_roles("").unwrap(), BTreeSet::new());
        assert!(read_roles("viewer;user").is_err());
    }
}
