//! The ports of one environment's store, side by side.

use std::sync::Arc;

use crate::{
    AuditStore, CertificateStore, ChangeFeed, EnrollmentStore, EventStore, IssuerStore, JobStore,
    KeyringStore, OutputStore, PrincipalStore, ServerStore, StoreMeasures,
};

/// Every store port of one environment, and how they do. All but output share one transaction domain.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field but the last is the port of its name")]
pub struct Stores {
    pub principals: Arc<dyn PrincipalStore>,
    pub certificates: Arc<dyn CertificateStore>,
    pub enrollments: Arc<dyn EnrollmentStore>,
    pub issuers: Arc<dyn IssuerStore>,
    pub keyring: Arc<dyn KeyringStore>,
    pub jobs: Arc<dyn JobStore>,
    pub events: Arc<dyn EventStore>,
    pub output: Arc<dyn OutputStore>,
    pub audit: Arc<dyn AuditStore>,
    pub changes: Arc<dyn ChangeFeed>,
    pub servers: Arc<dyn ServerStore>,
    pub measures: Arc<StoreMeasures>,
}
