//! Only a loopback address makes the proof that `--no-auth` takes.

use airunner_app::authn::LoopbackListener;

fn main() {
    let _ = LoopbackListener(());
}
