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
#[path = "isolation/view.rs"]
mod view;

use libtest_mimic::{Arguments, Trial};

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

/// A test that runs in a runtime of its own.
fn trial<F: Future<Output = ()> + 'static>(module: &str, name: &str, test: fn() -> F) -> Trial {
    let module = module.strip_prefix("isolation::").unwrap_or(module);
    Trial::test(format!("{module}::{name}"), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(test());
        Ok(())
    })
}

/// Lists a module's tests; one that is forgotten here is dead code.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$(crate::trial(module_path!(), stringify!($name), $name)),*]
        }
    };
}
use trials;
