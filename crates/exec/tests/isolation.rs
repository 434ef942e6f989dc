//! What isolation keeps a job from, and that it is never silently less. As root, on a machine with cgroups; where
//! controllers are missing their limits are shown to be refused, and `make test-vm` shows that they hold.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the functions that tests share are no tests themselves"
)]

#[path = "exec/bench.rs"]
#[expect(dead_code, reason = "this suite needs some of it only")]
mod bench;
#[path = "isolation/cell.rs"]
mod cell;
#[path = "isolation/ending.rs"]
mod ending;
#[path = "isolation/escapes.rs"]
mod escapes;
#[path = "isolation/levels.rs"]
mod levels;
#[path = "isolation/limits.rs"]
mod limits;
#[path = "isolation/refusals.rs"]
mod refusals;
#[path = "isolation/supervisor.rs"]
mod supervisor;
#[path = "isolation/terminal.rs"]
mod terminal;
#[path = "isolation/trial.rs"]
mod trial;
#[path = "isolation/view.rs"]
mod view;

use libtest_mimic::Arguments;

use crate::trial::trials;

fn main() {
    airunner_exec::stage_two();
    supervisor::play_role();
    let arguments = Arguments::from_args();
    assert!(bench::is_root(), "these tests need root: run `make test-vm`, which has it");
    let trials = [
        ending::trials(),
        escapes::trials(),
        levels::trials(),
        limits::trials(),
        refusals::trials(),
        supervisor::trials(),
        terminal::trials(),
        view::trials(),
    ];
    // Listing them touches nothing.
    let cell = (!arguments.list).then(cell::Cell::enter);
    let conclusion = libtest_mimic::run(&arguments, trials.into_iter().flatten().collect());
    drop(cell);
    conclusion.exit();
}
