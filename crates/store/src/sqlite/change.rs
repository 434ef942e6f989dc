//! Statements on changes and on the audit log.

use airunner_core::{
    AuditEntry, AuditRecord, CertificateRef, Change, ChangeKind, ChangeNumber, Error, PrincipalId,
    PrincipalStatus, Result, Timestamp,
};
use rusqlite::{Row, params};

use super::{
    certificate::reference_at,
    feed::last_change,
    rows::{SqliteRows, get, integer, json, number, time, to_json, word},
};
use crate::rows::{AuditRows, ChangeRows};

fn record(row: &Row<'_>) -> Result<AuditRecord> {
    Ok(AuditRecord { number: number(row, 0)?, entry: json(row, 1)? })
}

impl AuditRows for SqliteRows<'_> {
    fn audit_tail(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        let sql = "SELECT number, entry FROM audit_log ORDER BY number DESC LIMIT ?1";
        let mut records = self.all(sql, [limit], record)?;
        records.reverse();
        Ok(records)
    }

    fn audit_after(&self, number: u64, limit: u32) -> Result<Vec<AuditRecord>> {
        let sql = "SELECT number, entry FROM audit_log WHERE number > ?1 ORDER BY number LIMIT ?2";
        self.all(sql, params![integer(number)?, limit], record)
    }

    fn insert_audit(&mut self, entry: &AuditEntry) -> Result<()> {
        let sql = "INSERT INTO audit_log (at, entry) VALUES (?1, ?2)";
        self.run(sql, params![entry.at.as_millis(), to_json(entry)?]).map(drop)
    }
}

impl ChangeRows for SqliteRows<'_> {
    fn last_change(&self) -> Result<ChangeNumber> {
        last_change(self.connection)
    }

    fn append_change(&mut self, at: Timestamp, kind: &ChangeKind) -> Result<()> {
        let sql = "INSERT INTO changes (at, kind, principal_id, status, issuer_id, serial_number, revoked) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let (word, principal, certificate) = match kind {
            ChangeKind::Principal { id, status } => ("principal", Some((id, status)), None),
            ChangeKind::Certificate { reference, revoked } => {
                ("certificate", None, Some((reference, revoked)))
            }
            ChangeKind::Issuers => ("issuers", None, None),
        };
        let params = params![
            at.as_millis(),
            word,
            principal.map(|(id, _)| id.as_str()),
            principal.map(|(_, status)| status.as_str()),
            certificate.map(|(reference, _)| reference.issuer_id.to_string()),
            certificate.map(|(reference, _)| reference.serial.to_string()),
            certificate.map(|(_, revoked)| *revoked),
        ];
        self.run_telling_itself(sql, params)
    }

    fn changes_after(&self, number: ChangeNumber, limit: u32) -> Result<Vec<Change>> {
        let sql = "SELECT number, at, kind, principal_id, status, issuer_id, serial_number, revoked FROM changes \
                   WHERE number > ?1 ORDER BY number LIMIT ?2";
        self.all(sql, params![integer(number)?, limit], change)
    }

    fn denied_principals(&self, now: Timestamp) -> Result<Vec<(PrincipalId, PrincipalStatus)>> {
        let sql = "SELECT principal_id, status FROM principals p INDEXED BY principals_status \
                   WHERE status IN ('suspended', 'deleted') AND (EXISTS (SELECT 1 FROM lineages l \
                   INDEXED BY lineages_slots WHERE l.principal_id = p.principal_id AND l.ends_at > ?1) \
                   OR EXISTS (SELECT 1 FROM certificates c \
                   INDEXED BY certificates_of_jobs WHERE c.principal_id = p.principal_id \
                   AND c.job IS NOT NULL AND c.revoked = 0 AND c.expires_at > ?1))";
        self.all(sql, [now.as_millis()], |row| Ok((word(row, 0)?, word(row, 1)?)))
    }

    fn revoked_certificates(&self, now: Timestamp) -> Result<Vec<CertificateRef>> {
        let sql = "SELECT issuer_id, serial_number FROM certificates INDEXED BY certificates_revoked_expiry \
                   WHERE revoked = 1 AND expires_at > ?1";
        self.all(sql, [now.as_millis()], |row| reference_at(row, 0))
    }

    fn delete_changes(&mut self, before: Timestamp, limit: u32) -> Result<u32> {
        // Only from the oldest on: a gap would look like a change that was lost.
        let sql = "SELECT number, at FROM changes ORDER BY number LIMIT ?1";
        let mut until = None;
        self.scan(sql, [limit], |row| Ok((get::<i64>(row, 0)?, time(row, 1)?)), &mut |(number, at)| {
            if at < before {
                until = Some(number);
            }
            Ok(at < before)
        })?;
        let Some(until) = until else { return Ok(0) };
        let deleted = self.run("DELETE FROM changes WHERE number <= ?1", [until])?;
        u32::try_from(deleted).map_err(Error::internal)
    }
}

fn change(row: &Row<'_>) -> Result<Change> {
    let kind: String = get(row, 2)?;
    let kind = match kind.as_str() {
        "principal" => ChangeKind::Principal { id: word(row, 3)?, status: word(row, 4)? },
        "certificate" => ChangeKind::Certificate { reference: reference_at(row, 5)?, revoked: get(row, 7)? },
        "issuers" => ChangeKind::Issuers,
        other => return Err(Error::internal(format!("there is no kind of change {other:?}"))),
    };
    Ok(Change { number: number(row, 0)?, at: time(row, 1)?, kind })
}
