//! Server, workers and clients as processes of their own, and everything that can befall them: killed, stopped, cut off,
//! half cut off, on a slow disk, on a full one, under a clock that jumps. Whatever it was, each job ends once and as it
//! should, and nobody sees an event twice or a byte too few. What happens is drawn from a seed, which is printed.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../server/bed.rs"]
#[expect(dead_code, reason = "the bed of the other suite has more than is needed here")]
mod bed;
mod bytes;
mod fault;
mod job;
mod world;

use std::{
    fmt,
    io::{self, Write as _},
};

use airunner_core::Clock as _;
use airunner_net::system::SystemClock;

use crate::{fault::Fault, world::World};

/// Rounds where nothing else is said.
const ROUNDS: u64 = 8;

/// A number that whoever runs the tests may say.
fn said(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// To whoever reads the run's log, whether the test passes or not.
fn say(what: fmt::Arguments<'_>) {
    let _unread = writeln!(io::stdout(), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_each_job_ends_once_and_nothing_is_lost_or_seen_twice() {
    let seed = said("AIRUNNER_TEST_SEED").unwrap_or_else(|| SystemClock.now().as_millis().unsigned_abs());
    let rounds = said("AIRUNNER_TEST_ROUNDS").unwrap_or(ROUNDS);
    say(format_args!("to see this again: AIRUNNER_TEST_SEED={seed} AIRUNNER_TEST_ROUNDS={rounds}"));
    let mut world = World::start(seed).await;
    for round in 0..rounds {
        let fault = Fault::of_round(round, &world.dice);
        say(format_args!("round {round}: {fault:?}"));
        world.submit().await;
        fault.befall(&mut world).await;
        world.is_well_again().await;
    }
    world.settle().await;
}
