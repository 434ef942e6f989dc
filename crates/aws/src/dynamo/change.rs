//! Rows of the change feed and of the audit log.

use airunner_core::{
    AuditEntry, AuditRecord, CertificateRef, Change, ChangeKind, ChangeNumber, PrincipalId, PrincipalStatus,
    Result, Timestamp,
};
use airunner_store::backend::{AuditRows, ChangeRows, PrincipalRows as _, read_reference, write_reference};

use super::{
    DynamoRows,
    item::{Fields, Item, Row},
    key::{AUDIT_SHARDS, RowKey},
    listing::{Bounds, Listing},
    transaction::Rely,
};
use crate::tables::{AUDIT_PENDING, CHANGES};

/// The one partition of changes: they are in one order, and few.
const SHARD: &str = "0";

/// The row before the first change: it holds the number of the last, which stays when the rows have gone.
const HEAD: i64 = 0;

/// Changes whose rows are read again for a snapshot, since an index may not show them yet.
const RECENT: usize = 200;

/// How long a change is kept at most, in seconds.
const KEPT: i64 = 7 * 24 * 60 * 60;

impl DynamoRows {
    /// The number of the last change, as this transaction leaves it.
    pub(super) fn last_change_seen(&self) -> Option<ChangeNumber> {
        self.tx.writes_to(&CHANGES).then(|| self.last_change().ok()).flatten()
    }

    fn recent_changes(&self) -> Result<Vec<Change>> {
        let mut recent = Vec::new();
        self.tx.visit(&changes(Bounds::from(HEAD + 1), true), &mut |number, item| {
            recent.push(read(number, &item)?);
            Ok(recent.len() < RECENT)
        })?;
        Ok(recent)
    }

    fn has_active(&self, id: &PrincipalId, now: Timestamp) -> Result<bool> {
        Ok(self.lineages(id)?.iter().any(|lineage| lineage.is_in_force(now)))
    }
}

fn changes(bounds: Bounds, descending: bool) -> Listing<ChangeNumber> {
    Listing {
        table: &CHANGES,
        index: None,
        partitions: vec![SHARD.to_owned()],
        bounds,
        descending,
        place: |item| Row(item).number("number"),
        is_tie: |_, _| false,
    }
}

fn read(number: ChangeNumber, item: &Item) -> Result<Change> {
    let row = Row(item);
    let kind = match row.text("kind")? {
        "principal" => ChangeKind::Principal { id: row.word("principal_id")?, status: row.word("status")? },
        "certificate" => ChangeKind::Certificate {
            reference: read_reference(row.text("certificate")?)?,
            revoked: row.flag("revoked"),
        },
        _ => ChangeKind::Issuers,
    };
    Ok(Change { number, at: row.time("at")?, kind })
}

impl ChangeRows for DynamoRows {
    fn last_change(&self) -> Result<ChangeNumber> {
        let head = self.tx.get(RowKey::number(&CHANGES, SHARD, HEAD), Rely::No)?;
        head.map_or(Ok(0), |head| Row(&head).number("last"))
    }

    fn append_change(&mut self, at: Timestamp, kind: &ChangeKind) -> Result<()> {
        let number = self.last_change()? + 1;
        let place = i64::try_from(number).map_err(airunner_core::Error::internal)?;
        self.tx.put(RowKey::number(&CHANGES, SHARD, HEAD), Fields::default().number("last", number).done());
        let fields = Fields::default().time("at", at).number("ttl", at.as_millis() / 1_000 + KEPT);
        let fields = match kind {
            ChangeKind::Principal { id, status } => {
                fields.text("kind", "principal").word("principal_id", id).word("status", status)
            }
            ChangeKind::Certificate { reference, revoked } => fields
                .text("kind", "certificate")
                .word("certificate", write_reference(reference))
                .flag("revoked", *revoked),
            ChangeKind::Issuers => fields.text("kind", "issuers"),
        };
        self.tx.put(RowKey::number(&CHANGES, SHARD, place), fields.done());
        Ok(())
    }

    fn changes_after(&self, number: ChangeNumber, limit: u32) -> Result<Vec<Change>> {
        let mut found = Vec::new();
        self.tx.visit(&changes(Bounds::from(number + 1), false), &mut |number, item| {
            found.push(read(number, &item)?);
            Ok(found.len() < limit as usize)
        })?;
        Ok(found)
    }

    fn denied_principals(&self, now: Timestamp) -> Result<Vec<(PrincipalId, PrincipalStatus)>> {
        let mut denied: Vec<_> =
            self.denied()?.into_iter().map(|principal| (principal.id, principal.status)).collect();
        for change in self.recent_changes()? {
            let ChangeKind::Principal { id, .. } = change.kind else { continue };
            denied.retain(|(known, _)| known.folded() != id.folded());
            let status = self.principal(&id)?.map_or(PrincipalStatus::Deleted, |principal| principal.status);
            if status != PrincipalStatus::Active {
                denied.push((id, status));
            }
        }
        let mut owners = Vec::new();
        for (id, status) in denied {
            if self.has_active(&id, now)? {
                owners.push((id, status));
            }
        }
        Ok(owners)
    }

    fn revoked_certificates(&self, now: Timestamp) -> Result<Vec<CertificateRef>> {
        let mut revoked = self.revoked(now)?;
        for change in self.recent_changes()? {
            let ChangeKind::Certificate { reference, .. } = change.kind else { continue };
            let certificate = self.kept(&reference, Rely::No)?.map(|kept| kept.certificate);
            revoked.retain(|known| *known != reference);
            if certificate.is_some_and(|one| one.revocation.is_some() && one.expires_at > now) {
                revoked.push(reference);
            }
        }
        Ok(revoked)
    }

    fn delete_changes(&mut self, before: Timestamp, limit: u32) -> Result<u32> {
        // Only from the oldest on: a gap would look like a change that was lost.
        let mut old = Vec::new();
        let limit = (limit as usize).min(90);
        self.tx.visit(&changes(Bounds::from(HEAD + 1), false), &mut |number, item| {
            let is_old = old.len() < limit && Row(&item).time("at")? < before;
            if is_old {
                old.push(number);
            }
            Ok(is_old)
        })?;
        for number in &old {
            let number = i64::try_from(*number).map_err(airunner_core::Error::internal)?;
            self.tx.delete(RowKey::number(&CHANGES, SHARD, number));
        }
        u32::try_from(old.len()).map_err(airunner_core::Error::internal)
    }
}

fn entries(bounds: Bounds, descending: bool) -> Listing<u64> {
    Listing {
        table: &AUDIT_PENDING,
        index: None,
        partitions: (0..AUDIT_SHARDS).map(|shard| shard.to_string()).collect(),
        bounds,
        descending,
        place: |item| Row(item).number("number"),
        is_tie: |_, _| false,
    }
}

impl DynamoRows {
    fn records(&self, listing: &Listing<u64>, limit: u32) -> Result<Vec<AuditRecord>> {
        let mut found = Vec::new();
        if limit > 0 {
            self.tx.visit(listing, &mut |number, item| {
                found.push(AuditRecord { number, entry: Row(&item).json("entry")? });
                Ok(found.len() < limit as usize)
            })?;
        }
        Ok(found)
    }
}

impl AuditRows for DynamoRows {
    fn audit_tail(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        let mut records = self.records(&entries(Bounds::default(), true), limit)?;
        records.reverse();
        Ok(records)
    }

    fn audit_after(&self, number: u64, limit: u32) -> Result<Vec<AuditRecord>> {
        self.records(&entries(Bounds::from(number.saturating_add(1)), false), limit)
    }

    fn insert_audit(&mut self, entry: &AuditEntry) -> Result<()> {
        let number = self.tx.number(entry.at);
        let shard = number.rem_euclid(i64::from(AUDIT_SHARDS)).to_string();
        let item = Fields::default().time("at", entry.at).json("entry", entry)?.done();
        self.tx.put(RowKey::number(&AUDIT_PENDING, &shard, number), item);
        Ok(())
    }
}
