//! The audit entry, which every write to a store demands, uses the permit up.

use airunner_app::authz::{Permit, may};
use airunner_core::{AuditEntry, Timestamp};

fn twice(permit: Permit<may::CertsManage>, now: Timestamp) -> [AuditEntry; 2] {
    [permit.audit(now, "certificate.issue", "alice"), permit.audit(now, "certificate.issue", "bob")]
}

fn main() {
    let _ = twice;
}
