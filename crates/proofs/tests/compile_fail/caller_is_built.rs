//! A caller comes from the authenticator only.

use airunner_app::authn::Caller;

fn build(other: Caller) -> Caller {
    Caller { standing: None, request_id: "".into(), ..other }
}

fn main() {
    let _ = build;
}
