//! A caller's permissions are those of its principal's roles, and nobody can set others.

use airunner_app::{authn::Caller, authz::PermissionSet};
use airunner_core::Permission;

fn promote(caller: &mut Caller) {
    caller.grant.permissions = PermissionSet::from_iter(Permission::ALL.iter().copied());
}

fn main() {
    let _ = promote;
}
