//! What a job may rely on, and what it must not leave behind.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the functions that tests share are no tests themselves"
)]

#[path = "exec/bench.rs"]
mod bench;
#[path = "exec/ending.rs"]
mod ending;
#[path = "exec/input.rs"]
mod input;
#[path = "exec/output.rs"]
mod output;
#[path = "exec/start.rs"]
mod start;
#[path = "exec/supervisor.rs"]
mod supervisor;
