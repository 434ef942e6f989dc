//! Idempotency: a write that a client may retry carries a request id of its caller's choosing.

use crate::{PrincipalId, RequestId};

/// Under what a write's result is kept for a retry (24 h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Whose request id it is.
    pub caller: PrincipalId,
    /// The RPC's name.
    pub method: &'static str,
    /// The id that the caller chose.
    pub id: RequestId,
    /// SHA-256 of what was asked: the same id with other content is refused (`request-reused`).
    pub content: [u8; 32],
}
