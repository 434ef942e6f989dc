//! Enrolment tokens: single-use secrets that let a new machine get its first certificate, and their port.

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::{
    AuditEntry, CertificateRef, EnrollmentId, Fingerprint, Page, PageRequest, PrincipalId, PrincipalType,
    RequestKey, Result, Role, Timestamp,
};

/// An enrolment token as it is kept: of its secret only the hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrollmentToken {
    /// Its public half.
    pub id: EnrollmentId,
    /// SHA-256 of the secret half, which has 256 random bits.
    pub secret_hash: [u8; 32],
    /// Whom it enrols.
    pub principal_id: PrincipalId,
    /// What that principal was when the token was made.
    pub principal_type: PrincipalType,
    /// What roles counted for it then.
    pub roles: BTreeSet<Role>,
    /// Who made it.
    pub created_by: PrincipalId,
    /// When.
    pub created_at: Timestamp,
    /// Until when it may be used.
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
    /// The public key that used it.
    pub used_key: Option<Fingerprint>,
    /// The certificate that came of it.
    pub certificate: Option<CertificateRef>,
    /// For people.
    pub description: String,
}

/// Keeps enrolment tokens. They are used up by `CertificateStore::record_issued`.
#[async_trait]
pub trait EnrollmentStore: Send + Sync {
    /// Adds a token. The principal must be active (`principal-not-active`). With a `request` that was seen before,
    /// the token that it made then is deleted: a secret can't be repeated.
    async fn create_token(
        &self,
        token: EnrollmentToken,
        request: Option<RequestKey>,
        audit: AuditEntry,
    ) -> Result<()>;

    /// The token of this id, used or not; none when it was deleted.
    async fn get_token(&self, id: &EnrollmentId) -> Result<Option<EnrollmentToken>>;

    /// Tokens, newest first: all, or those that `created_by` made.
    async fn list_tokens(
        &self,
        created_by: Option<&PrincipalId>,
        page: &PageRequest,
    ) -> Result<Page<EnrollmentToken>>;

    /// Deletes a token, used or not (`not-found` when there is none).
    async fn delete_token(&self, id: &EnrollmentId, audit: AuditEntry) -> Result<()>;
}
