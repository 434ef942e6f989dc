//! A store takes no act without its audit entry.

use airunner_core::{Principal, Stores};

async fn act(stores: &Stores, principal: Principal) {
    let _ = stores.principals.create_principal(principal).await;
}

fn main() {
    let _ = act;
}
