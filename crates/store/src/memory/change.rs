//! Changes and the audit log in memory.

use airunner_core::{
    AuditEntry, AuditRecord, Certificate, CertificateRef, Change, ChangeKind, ChangeNumber, PrincipalId,
    PrincipalStatus, Result, Timestamp,
};

use super::State;
use crate::rows::{AuditRows, ChangeRows};

/// Entries of the audit log that memory keeps; older ones go.
const AUDIT_LIMIT: usize = 100_000;

impl AuditRows for State {
    fn audit_tail(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        let skipped = self.audit.len().saturating_sub(limit as usize);
        Ok(self.audit.iter().skip(skipped).cloned().collect())
    }

    fn audit_after(&self, number: u64, limit: u32) -> Result<Vec<AuditRecord>> {
        let from = self.audit.partition_point(|record| record.number <= number);
        Ok(self.audit.iter().skip(from).take(limit as usize).cloned().collect())
    }

    fn insert_audit(&mut self, entry: &AuditEntry) -> Result<()> {
        let number = self.audit.back().map_or(1, |last| last.number + 1);
        self.audit.push_back(AuditRecord { number, entry: entry.clone() });
        if self.audit.len() > AUDIT_LIMIT {
            self.audit.pop_front();
        }
        Ok(())
    }
}

impl ChangeRows for State {
    fn last_change(&self) -> Result<ChangeNumber> {
        Ok(self.last_change)
    }

    fn append_change(&mut self, at: Timestamp, kind: &ChangeKind) -> Result<()> {
        self.tell(at, kind.clone());
        Ok(())
    }

    fn changes_after(&self, number: ChangeNumber, limit: u32) -> Result<Vec<Change>> {
        let from = self.changes.partition_point(|change| change.number <= number);
        Ok(self.changes.iter().skip(from).take(limit as usize).cloned().collect())
    }

    fn denied_principals(&self, now: Timestamp) -> Result<Vec<(PrincipalId, PrincipalStatus)>> {
        let owns = |id: &PrincipalId| self.certificates.of(id).any(|certificate| certificate.is_active(now));
        let denied = self.principals.values().filter(|principal| principal.status != PrincipalStatus::Active);
        Ok(denied.filter(|principal| owns(&principal.id)).map(|one| (one.id.clone(), one.status)).collect())
    }

    fn revoked_certificates(&self, now: Timestamp) -> Result<Vec<CertificateRef>> {
        let denied =
            |certificate: &&Certificate| certificate.revocation.is_some() && certificate.expires_at > now;
        let all = self.certificates.rows.values().map(|row| &row.certificate);
        Ok(all.filter(denied).map(Certificate::reference).collect())
    }

    fn delete_changes(&mut self, before: Timestamp, limit: u32) -> Result<u32> {
        let mut deleted = 0;
        while deleted < limit && self.changes.front().is_some_and(|change| change.at < before) {
            self.changes.pop_front();
            deleted += 1;
        }
        Ok(deleted)
    }
}
