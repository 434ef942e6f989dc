//! The right code: whoever holds a caller asks for a permit, and the act's audit entry uses it up.

use airunner_app::{
    authn::Caller,
    authz::{Permit, Target, may},
};
use airunner_core::{AuditEntry, Result, Timestamp};

fn act(caller: &Caller, now: Timestamp) -> Result<AuditEntry> {
    let permit: Permit<may::PrincipalsManage> = caller.permit(Target::Any)?;
    Ok(permit.audit(now, "principal.suspend", "alice"))
}

fn main() {
    let _ = act;
}
