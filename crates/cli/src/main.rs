//! The command line of airunner; all of it is in the library beside this.

use std::process::ExitCode;

fn main() -> ExitCode {
    airunner_exec::stage_two();
    airunner_cli::main()
}
