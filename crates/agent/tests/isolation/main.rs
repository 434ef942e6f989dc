//! Jobs of a worker at the levels that keep them from its machine, and workers in processes of their own. As root; what
//! the machine has no controller for is shown to be refused.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../agent/bed.rs"]
#[expect(dead_code, reason = "this suite needs some of it only")]
mod bed;
mod ending;
mod fetch;
mod levels;
mod limits;
mod machine;
#[path = "../agent/repository/origin.rs"]
#[expect(dead_code, reason = "this suite needs some of it only")]
mod origin;
mod process;
mod secrecy;
#[path = "../agent/repository/server.rs"]
#[expect(dead_code, reason = "this suite needs some of it only")]
mod server;
#[path = "../../../exec/tests/isolation/trial.rs"]
mod trial;
mod victim;
mod view;
mod without_root;

use libtest_mimic::Arguments;

use crate::trial::trials;

/// Its own: jobs with isolation begin as the program that runs them.
fn main() {
    airunner_exec::stage_two();
    victim::play_role();
    let arguments = Arguments::from_args();
    assert!(arguments.list || bed::is_root(), "these tests need root");
    let trials = [
        ending::trials(),
        fetch::trials(),
        levels::trials(),
        limits::trials(),
        process::trials(),
        secrecy::trials(),
        view::trials(),
        without_root::trials(),
    ];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit();
}
