//! Use cases and the authenticator exist in an opened environment only, and what they work with is not given away.

use std::sync::Arc;

use airunner_app::{App, authn::Authenticator, principal::Principals};

fn take(app: &App) {
    let context = Arc::clone(&app.context);
    let _ = Principals::new(context.clone());
    let _ = Authenticator::new(context);
}

fn main() {
    let _ = take;
}
