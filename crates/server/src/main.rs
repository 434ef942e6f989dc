//! `airunner-server`: reads its flags, starts, and runs until it is told to stop.

use std::process::ExitCode;

use airunner_server::start::{Flags, run};
use clap::Parser as _;

fn main() -> ExitCode {
    airunner_exec::stage_two();
    run(Flags::parse())
}
