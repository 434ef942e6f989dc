//! Statements on certificates.

use airunner_core::{
    Certificate, CertificateFilter, CertificateRef, Fingerprint, Identity, PrincipalId, Result, Revocation,
    RevocationReason, Serial, Timestamp,
};
use rusqlite::{ErrorCode, Row, params};

use super::{
    error::store_error,
    rows::{SqliteRows, get, json, json_or_none, limit, millis, number, time, time_or_none, to_json, word},
};
use crate::{
    certificate::serial_taken,
    reference,
    rows::{CertificateRows, Place, PrincipalRows, Visit},
};

macro_rules! columns {
    () => {
        "serial_number, issuer_id, principal_id, principal_type, fingerprint, public_key, subject_dn, profile, \
         labels, issued_at, expires_at, retire_at, first_seen_at, lineage_id, predecessor, revoked, revoked_at, \
         revocation_reason, description, der, job"
    };
}

/// The plus keeps SQLite from putting `?1` into the first comparison as well, which would then match no index.
const OF_FINGERPRINT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM certificates INDEXED BY certificates_fingerprint \
     WHERE substr(fingerprint, 1, 8) = substr(?1, 1, 8) AND +fingerprint = ?1"
);

fn certificate(row: &Row<'_>) -> Result<Certificate> {
    let issued_at = time(row, 9)?;
    Ok(Certificate {
        serial: word(row, 0)?,
        issuer_id: word(row, 1)?,
        principal_id: word(row, 2)?,
        principal_type: word(row, 3)?,
        fingerprint: word(row, 4)?,
        public_key: word(row, 5)?,
        subject_dn: get(row, 6)?,
        profile: word(row, 7)?,
        labels: json(row, 8)?,
        issued_at,
        expires_at: time(row, 10)?,
        retire_at: time_or_none(row, 11)?,
        first_seen_at: time_or_none(row, 12)?,
        lineage_id: word(row, 13)?,
        predecessor: reference_or_none(row, 14)?,
        revocation: revocation(row, issued_at)?,
        description: get(row, 18)?,
        der: get(row, 19)?,
        job: json_or_none(row, 20)?,
    })
}

/// A hand may have left out when and why, or misspelt why; that it is revoked is what counts.
fn revocation(row: &Row<'_>, issued_at: Timestamp) -> Result<Option<Revocation>> {
    if get::<i64>(row, 15)? == 0 {
        return Ok(None);
    }
    let reason: Option<String> = get(row, 17)?;
    let reason = reason.and_then(|reason| reason.parse().ok()).unwrap_or(RevocationReason::Unspecified);
    Ok(Some(Revocation { at: time_or_none(row, 16)?.unwrap_or(issued_at), reason }))
}

pub(super) fn reference_or_none(row: &Row<'_>, column: usize) -> Result<Option<CertificateRef>> {
    let text: Option<String> = get(row, column)?;
    text.map(|text| reference::read(&text)).transpose()
}

/// The reference in the columns `issuer_id, serial_number` from `column` on.
pub(super) fn reference_at(row: &Row<'_>, column: usize) -> Result<CertificateRef> {
    Ok(CertificateRef { issuer_id: word(row, column)?, serial: word(row, column + 1)? })
}

/// The columns with the row's number after them.
fn placed(row: &Row<'_>) -> Result<(Place, Certificate)> {
    let certificate = certificate(row)?;
    let number: i64 = get(row, 21)?;
    Ok((Place { at: certificate.expires_at, number: number.into() }, certificate))
}

/// A reference as parameters: serial number, issuer.
fn key(reference: &CertificateRef) -> [String; 2] {
    [reference.serial.to_string(), reference.issuer_id.to_string()]
}

impl CertificateRows for SqliteRows<'_> {
    fn certificate(&self, reference: &CertificateRef) -> Result<Option<Certificate>> {
        let sql =
            concat!("SELECT ", columns!(), " FROM certificates WHERE serial_number = ?1 AND issuer_id = ?2");
        self.first(sql, key(reference), certificate)
    }

    fn with_successor(
        &self,
        reference: &CertificateRef,
    ) -> Result<Option<(Certificate, Option<CertificateRef>)>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            ", successor FROM certificates WHERE serial_number = ?1 AND issuer_id = ?2"
        );
        self.first(sql, key(reference), |row| Ok((certificate(row)?, reference_or_none(row, 21)?)))
    }

    fn identity(&self, reference: &CertificateRef) -> Result<Option<Identity>> {
        let Some(certificate) = self.certificate(reference)? else { return Ok(None) };
        let principal = self.principal(&certificate.principal_id)?;
        Ok(principal.map(|principal| Identity { certificate, principal }))
    }

    fn certificates_of_serial(&self, serial: &Serial) -> Result<Vec<Certificate>> {
        let sql = concat!("SELECT ", columns!(), " FROM certificates WHERE serial_number = ?1 LIMIT 1000");
        self.all(sql, [serial.to_string()], certificate)
    }

    fn certificate_of_fingerprint(&self, fingerprint: &Fingerprint) -> Result<Option<Certificate>> {
        self.first(OF_FINGERPRINT, [fingerprint.to_string()], certificate)
    }

    fn scan_certificates(
        &self,
        filter: &CertificateFilter,
        after: Option<Place>,
        visit: Visit<'_, (Place, Certificate)>,
    ) -> Result<()> {
        macro_rules! newest {
            ($index:literal, $condition:literal) => {
                concat!(
                    "SELECT ",
                    columns!(),
                    ", number FROM certificates ",
                    $index,
                    " WHERE ",
                    $condition,
                    " AND number < ?1 ORDER BY number DESC"
                )
            };
        }
        if let Some(before) = filter.expires_before {
            return self.scan_expiring(filter, before, after, visit);
        }
        let until = after.map_or(i64::MAX, Place::row_number);
        if let Some(id) = &filter.principal_id {
            let sql = newest!("INDEXED BY certificates_principal", "principal_id = ?2");
            return self.scan(sql, params![until, id.as_str()], placed, visit);
        }
        if filter.revoked == Some(true) {
            let sql = newest!("INDEXED BY certificates_revoked", "revoked = 1");
            return self.scan(sql, [until], placed, visit);
        }
        self.scan(newest!("", "TRUE"), [until], placed, visit)
    }

    fn active_lineages(&self, principal: &PrincipalId, now: Timestamp, limit: u32) -> Result<u32> {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM lineages INDEXED BY lineages_slots \
                   WHERE principal_id = ?1 AND ends_at > ?2 LIMIT ?3)";
        let counted =
            self.first(sql, params![principal.as_str(), now.as_millis(), limit], |row| number(row, 0))?;
        Ok(counted.unwrap_or(0))
    }

    fn revocable(
        &self,
        principal: &PrincipalId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<CertificateRef>> {
        let sql = "SELECT issuer_id, serial_number FROM certificates INDEXED BY certificates_principal \
                   WHERE principal_id = ?1 AND revoked = 0 AND expires_at > ?2 LIMIT ?3";
        let params = params![principal.as_str(), now.as_millis(), self::limit(limit)];
        self.all(sql, params, |row| reference_at(row, 0))
    }

    fn nearest_expiries(&self, now: Timestamp, limit: u32) -> Result<Vec<Certificate>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM certificates INDEXED BY certificates_expiry \
             WHERE revoked = 0 AND expires_at > ?1 ORDER BY expires_at, number LIMIT ?2"
        );
        self.all(sql, params![now.as_millis(), limit], certificate)
    }

    fn insert_certificate(&mut self, certificate: &Certificate) -> Result<()> {
        let sql = concat!(
            "INSERT INTO certificates (",
            columns!(),
            ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, \
             ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)"
        );
        let params = params![
            certificate.serial.to_string(),
            certificate.issuer_id.to_string(),
            certificate.principal_id.as_str(),
            certificate.principal_type.as_str(),
            certificate.fingerprint.to_string(),
            certificate.public_key.to_string(),
            certificate.subject_dn,
            certificate.profile.as_str(),
            to_json(&certificate.labels)?,
            certificate.issued_at.as_millis(),
            certificate.expires_at.as_millis(),
            millis(certificate.retire_at),
            millis(certificate.first_seen_at),
            certificate.lineage_id.to_string(),
            certificate.predecessor.as_ref().map(reference::write),
            certificate.revocation.is_some(),
            certificate.revocation.map(|revocation| revocation.at.as_millis()),
            certificate.revocation.map(|revocation| revocation.reason.as_str()),
            certificate.description,
            certificate.der,
            certificate.job.as_ref().map(to_json).transpose()?,
        ];
        let mut statement = self.connection.prepare_cached(sql).map_err(store_error)?;
        match statement.execute(params) {
            Ok(_) => Ok(()),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Err(serial_taken(&certificate.serial, &certificate.issuer_id))
            }
            Err(error) => Err(store_error(error)),
        }
    }

    fn begin_lineage(&mut self, certificate: &Certificate) -> Result<()> {
        if !certificate.takes_slot() {
            return Ok(());
        }
        let ends_at =
            certificate.retire_at.map_or(certificate.expires_at, |at| at.min(certificate.expires_at));
        let sql = "INSERT INTO lineages (lineage_id, principal_id, ends_at) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (lineage_id) DO UPDATE SET ends_at = max(ends_at, excluded.ends_at)";
        let lineage = certificate.lineage_id.to_string();
        self.run(sql, params![lineage, certificate.principal_id.as_str(), ends_at.as_millis()]).map(drop)
    }

    fn succeed(
        &mut self,
        predecessor: &CertificateRef,
        retire_at: Timestamp,
        successor: &CertificateRef,
    ) -> Result<()> {
        let [serial, issuer] = key(predecessor);
        let sql = "UPDATE certificates SET retire_at = ?3, successor = ?4 WHERE serial_number = ?1 AND issuer_id = ?2";
        let params = params![serial, issuer, retire_at.as_millis(), reference::write(successor)];
        self.run(sql, params).map(drop)
    }

    fn revoke_certificate(&mut self, reference: &CertificateRef, revocation: Revocation) -> Result<()> {
        let [serial, issuer] = key(reference);
        let sql = "UPDATE certificates SET revoked = 1, revoked_at = ?3, revocation_reason = ?4 \
                   WHERE serial_number = ?1 AND issuer_id = ?2";
        let params = params![serial, issuer, revocation.at.as_millis(), revocation.reason.as_str()];
        self.run_telling_itself(sql, params)
    }

    fn set_first_seen(&mut self, reference: &CertificateRef, at: Timestamp) -> Result<()> {
        let [serial, issuer] = key(reference);
        let sql = "UPDATE certificates SET first_seen_at = ?3 WHERE serial_number = ?1 AND issuer_id = ?2";
        self.run(sql, params![serial, issuer, at.as_millis()]).map(drop)
    }
}

impl SqliteRows<'_> {
    /// In order of expiry, each half from its own index.
    fn scan_expiring(
        &self,
        filter: &CertificateFilter,
        before: Timestamp,
        after: Option<Place>,
        visit: Visit<'_, (Place, Certificate)>,
    ) -> Result<()> {
        macro_rules! half {
            ($index:literal, $condition:literal) => {
                concat!(
                    "SELECT ",
                    columns!(),
                    ", number FROM certificates INDEXED BY ",
                    $index,
                    " WHERE ",
                    $condition,
                    " AND expires_at >= ?1 AND expires_at < ?2 AND (expires_at > ?3 OR number > ?4)"
                )
            };
        }
        const UNREVOKED: &str =
            concat!(half!("certificates_expiry", "revoked = 0"), " ORDER BY expires_at, number");
        const REVOKED: &str =
            concat!(half!("certificates_revoked_expiry", "revoked = 1"), " ORDER BY expires_at, number");
        const ANY: &str = concat!(
            half!("certificates_expiry", "revoked = 0"),
            " UNION ALL ",
            half!("certificates_revoked_expiry", "revoked = 1"),
            " ORDER BY expires_at, number"
        );
        let sql = match filter.revoked {
            Some(false) => UNREVOKED,
            Some(true) => REVOKED,
            None => ANY,
        };
        let after = after.unwrap_or(Place { at: filter.now, number: i128::MIN });
        let from = filter.now.max(after.at).as_millis();
        let params = params![from, before.as_millis(), after.at.as_millis(), after.row_number()];
        self.scan(sql, params, placed, visit)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn a_fingerprint_is_searched_for_and_not_scanned_for() {
        let connection = Connection::open_in_memory().unwrap();
        for schema in [include_str!("schema.sql"), include_str!("schema_2.sql"), include_str!("schema_3.sql")]
        {
            connection.execute_batch(schema).unwrap();
        }
        let sql = format!("EXPLAIN QUERY PLAN {OF_FINGERPRINT}");
        let plan: String = connection.query_row(&sql, ["x"], |row| row.get(3)).unwrap();
        assert!(plan.starts_with("SEARCH"), "{plan}");
    }
}
