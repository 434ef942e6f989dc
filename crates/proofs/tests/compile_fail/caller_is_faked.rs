//! The callers of tests are not there without the feature that only tests turn on.

use airunner_app::{authn::Caller, authz::PermissionSet};
use airunner_core::Principal;

fn fake(principal: Principal) -> Caller {
    Caller::for_test(principal, PermissionSet::default())
}

fn main() {
    let _ = fake;
}
