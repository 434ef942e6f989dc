//! Issuers: CA certificates with their states and sealed keys, and their port.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{AuditEntry, IssuerId, KeyAlgorithm, Result, Sealed, Timestamp};

/// A CA certificate's place in the hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssuerKind {
    /// The trust anchor, which signs issuing CAs.
    Root,
    /// The intermediate that signs leaves.
    Issuing,
    /// Both in one (`bootstrap --single-ca`): the anchor, which signs leaves directly.
    Single,
}

impl IssuerKind {
    /// Whether leaves are signed by it.
    pub const fn signs_leaves(self) -> bool {
        matches!(self, Self::Issuing | Self::Single)
    }

    /// Whether it is a trust anchor for others.
    pub const fn is_root(self) -> bool {
        matches!(self, Self::Root | Self::Single)
    }
}

/// Where an issuer is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssuerState {
    /// Made, not yet used.
    Staged,
    /// Signs.
    Active,
    /// Signs no more leaves; what it signed is still good.
    Retired,
    /// Its key is gone, and nothing that it signed counts.
    Destroyed,
}

/// A CA certificate, with its key where a server holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its id.
    pub id: IssuerId,
    /// Its place.
    pub kind: IssuerKind,
    /// Where it is in its life.
    pub state: IssuerState,
    /// Its key's type.
    pub algorithm: KeyAlgorithm,
    /// The certificate.
    pub der: Vec<u8>,
    /// The sealed private key (PKCS#8), or the sealed name of a key that a KMS holds; none for a root, whose key is
    /// elsewhere.
    pub sealed_key: Option<Sealed>,
    /// Who signed it; none for a root.
    pub parent: Option<IssuerId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its notAfter.
    pub expires_at: Timestamp,
}

/// Keeps issuers. Every write also appends to the change feed, in the same transaction.
#[async_trait]
pub trait IssuerStore: Send + Sync {
    /// Makes the CA of an environment: all of `issuers`, or none. If an issuer that is neither in `replacing` nor
    /// destroyed exists, `already-exists`: of two that bootstrap at once, one wins. Those in `replacing` become
    /// destroyed.
    async fn found_ca(&self, issuers: Vec<Issuer>, replacing: &[IssuerId], audit: AuditEntry) -> Result<()>;

    /// Adds `successor` as the active issuing CA and retires the one that was active, whose id must be
    /// `predecessor` (`version-conflict`).
    async fn succeed_issuer(
        &self,
        successor: Issuer,
        predecessor: &IssuerId,
        audit: AuditEntry,
    ) -> Result<()>;

    /// Every issuer that is not destroyed, oldest first. They are few: the one list that is not paged.
    async fn list_issuers(&self) -> Result<Vec<Issuer>>;
}
