//! The binary. All of it is in the library, so that tests and man pages share its definition.

use std::process::ExitCode;

fn main() -> ExitCode {
    airunner_cli::run(std::env::args_os())
}
