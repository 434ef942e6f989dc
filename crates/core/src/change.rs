//! The change feed: every change of authority, numbered without gaps, for every server to follow.

use async_trait::async_trait;

use crate::{CertificateRef, PrincipalId, PrincipalStatus, Result, Timestamp};

/// A change's place in the feed; 0 is before the first.
pub type ChangeNumber = u64;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A principal's status or roles; this is its status now. Roles are read again.
    Principal {
        /// Whose.
        id: PrincipalId,
        /// Its status after the change.
        status: PrincipalStatus,
    },
    /// A certificate was revoked (or, by hand, restored).
    Certificate {
        /// Which.
        reference: CertificateRef,
        /// Whether it is revoked after the change.
        revoked: bool,
    },
    /// The set of issuers or a state in it.
    Issuers,
}

/// One row of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its place: the one before it plus one.
    pub number: ChangeNumber,
    /// When it was written.
    pub at: Timestamp,
    /// What changed.
    pub kind: ChangeKind,
}

/// What a poll brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeBatch {
    /// The rows after the number asked for, in order; possibly none.
    Changes(Vec<Change>),
    /// Rows after that number have been pruned, or the store never gave it (it was restored): load a snapshot.
    Pruned,
}

/// Every denial in force, at one point of the feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenialSnapshot {
    /// The last change that the snapshot includes.
    pub number: ChangeNumber,
    /// Principals that are suspended or deleted, and have an active certificate.
    pub principals: Vec<(PrincipalId, PrincipalStatus)>,
    /// Unexpired certificates that are revoked.
    pub certificates: Vec<CertificateRef>,
}

/// Reads the change feed.
#[async_trait]
pub trait ChangeFeed: Send + Sync {
    /// Up to `limit` changes after `number`, read consistently.
    async fn changes_after(&self, number: ChangeNumber, limit: u32) -> Result<ChangeBatch>;

    /// Returns when there may be something new, or after the backend's poll interval (at most 250 ms) at the
    /// latest. An error says that the store could not be asked. A caller that is dropped loses nothing.
    async fn wait(&self) -> Result<()>;

    /// Every denial in force at `now`, in one consistent read.
    async fn denials(&self, now: Timestamp) -> Result<DenialSnapshot>;

    /// Whether an edit of a row by hand appends to the feed by itself. Where it does not, whoever finds one says so with
    /// [`ChangeFeed::append_change`].
    fn tells_of_edits(&self) -> bool;

    /// Appends a change that stands in the rows already.
    async fn append_change(&self, kind: ChangeKind, now: Timestamp) -> Result<()>;

    /// Forgets changes written before `before` (7 days ago, by housekeeping), at most `limit`; returns how many.
    async fn prune_changes(&self, before: Timestamp, limit: u32) -> Result<u32>;
}
