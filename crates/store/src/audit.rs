//! The intents on the audit log.

use airunner_core::{AuditEntry, AuditRecord, AuditStore, Intent, Result};
use async_trait::async_trait;

use crate::engine::{Engine, Ports};

/// Entries that one read brings, at most.
const MAX_ENTRIES: u32 = 1_000;

#[async_trait]
impl<E: Engine> AuditStore for Ports<E> {
    async fn record(&self, entry: AuditEntry) -> Result<()> {
        self.write(Intent::RecordAudit, move |rows| rows.insert_audit(&entry)).await
    }

    async fn tail(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        self.read(Intent::TailAudit, move |rows| rows.audit_tail(limit.min(MAX_ENTRIES))).await
    }

    async fn after(&self, number: u64, limit: u32) -> Result<Vec<AuditRecord>> {
        self.read(Intent::AuditAfter, move |rows| rows.audit_after(number, limit.min(MAX_ENTRIES))).await
    }
}
