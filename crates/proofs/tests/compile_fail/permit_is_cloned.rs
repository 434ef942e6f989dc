//! One permit, one act.

use airunner_app::authz::{Permit, may};

fn twice(permit: &Permit<may::CertsManage>) -> (Permit<may::CertsManage>, Permit<may::CertsManage>) {
    (permit.clone(), permit.clone())
}

fn main() {
    let _ = twice;
}
