//! A connection's standing is granted by the authenticator, after it has asked the store.

use std::sync::Arc;

use airunner_app::authn::{Claim, Connection, Standing};
use airunner_core::{Fingerprint, Principal, Timestamp};

fn grant(connection: Connection, principal: &Principal) {
    connection.standing.apply_principal(Some(principal));
}

fn make(claim: Claim, fingerprint: Fingerprint, end: Timestamp) -> Arc<Standing> {
    Standing::new(claim, String::new(), fingerprint, end)
}

fn main() {
    let _ = (grant, make);
}
