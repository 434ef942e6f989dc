//! Servers: their heartbeats, the housekeeping lease and the highest time that any of them wrote.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{AuditEntry, ChangeNumber, Labels, QueueName, Result, ServerId, Timestamp};

/// A queue that workers of the same labels wait for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServedQueue {
    /// The queue.
    pub queue: QueueName,
    /// What those workers are; none where they are more different kinds than a row tells.
    pub labels: Option<Labels>,
}

/// One running server process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRow {
    /// Its id.
    pub id: ServerId,
    /// Where its API listener is.
    pub address: String,
    /// Its version.
    pub version: String,
    /// Grows with every heartbeat: a server whose counter stands still is gone.
    pub counter: u64,
    /// The last change that it has applied.
    pub applied: ChangeNumber,
    /// SHA-256 of its trust bundle, hex.
    pub bundle_hash: String,
    /// Queues that workers wait for on it.
    pub queues: Vec<ServedQueue>,
    /// Its wall time at the heartbeat.
    pub at: Timestamp,
}

/// What a heartbeat brings back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// The highest wall time that any server has written, this heartbeat's included if it was written.
    pub highest: Timestamp,
    /// Every server's row, this one's included.
    pub servers: Vec<ServerRow>,
}

/// Proof of holding the housekeeping lease: a larger number fences off every smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fencing(pub u64);

/// Keeps the servers' rows.
#[async_trait]
pub trait ServerStore: Send + Sync {
    /// Writes the row of a server. `write_time` says whether its time may raise the highest time.
    async fn heartbeat(&self, row: ServerRow, write_time: bool) -> Result<HeartbeatReply>;

    /// Every server's row and the highest time, writing nothing.
    async fn servers(&self) -> Result<HeartbeatReply>;

    /// Takes a server's row away (it stops), and the housekeeping lease if it held it.
    async fn leave(&self, id: &ServerId) -> Result<()>;

    /// Takes away rows whose last heartbeat is older than `before`.
    async fn prune_servers(&self, before: Timestamp) -> Result<u32>;

    /// Takes or extends the housekeeping lease until `now + life`. None while another holds it. The number grows
    /// with every change of holder, and stays the same while it is extended.
    async fn hold_housekeeping(
        &self,
        id: &ServerId,
        now: Timestamp,
        life: Duration,
    ) -> Result<Option<Fencing>>;

    /// Sets the highest time back to the audit entry's, if it is still `expected` (`version-conflict` where a server
    /// wrote time meanwhile). The housekeeping lease is let go: its deadline may have been of the wrong time too.
    async fn reset_time(&self, expected: Timestamp, audit: AuditEntry) -> Result<()>;
}
