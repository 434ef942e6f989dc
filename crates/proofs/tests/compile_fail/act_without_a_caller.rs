//! A use case can't be called without a caller.

use airunner_app::App;
use airunner_core::PrincipalId;

async fn act(app: &App, id: &PrincipalId) {
    let _ = app.principals.suspend(id, "because").await;
}

fn main() {
    let _ = act;
}
