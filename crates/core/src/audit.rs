//! The audit log: who did what to what, when, and how it ended. Acts carry their entry into their transaction.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Result, Timestamp};

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The principal's id; `bootstrap` or `server` for acts of our own; empty for nobody that we know.
    pub principal: String,
    /// The certificate's serial number; empty where none was presented.
    pub certificate: String,
    /// The peer's address; empty for acts of our own.
    pub address: String,
}

/// How the act ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditOutcome {
    /// It was done.
    Done,
    /// It was refused, with this label.
    Refused(String),
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When; also the `now` of the transaction that it is written in.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What was done, `noun.verb`: `principal.suspend`.
    pub action: String,
    /// To what: an id.
    pub target: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// The id of the request, for the log beside it.
    pub request_id: String,
    /// What else matters. Never a secret.
    pub detail: BTreeMap<String, String>,
}

/// An entry with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Grows with time; gaps mean nothing.
    pub number: u64,
    /// The entry.
    pub entry: AuditEntry,
}

/// Reads the audit log, and writes entries of what changed nothing else (refusals).
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Appends an entry that belongs to no other write.
    async fn record(&self, entry: AuditEntry) -> Result<()>;

    /// The last `limit` entries (at most 1,000), oldest of them first.
    async fn tail(&self, limit: u32) -> Result<Vec<AuditRecord>>;

    /// Up to `limit` entries after `number`, in order.
    async fn after(&self, number: u64, limit: u32) -> Result<Vec<AuditRecord>>;
}
