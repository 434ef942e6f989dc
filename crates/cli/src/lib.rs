//! The command line of airunner: from arguments to one call, and from its answer to text. No rule of the server's stands
//! here, and nothing but `report` prints.

pub mod bench;
mod bootstrap;
mod cli;
mod commands;
mod complete;
mod connection;
mod context;
mod doctor;
mod failure;
mod near;
mod profile;
mod progress;
mod prompt;
mod report;
mod runtime;
mod secret_input;
mod service;
mod values;
mod view;

use std::process::ExitCode;

use crate::{
    cli::Cli,
    context::{Context, Environment},
};

/// Runs the command that this process was started with. The exit code is 0, 1 (failed), 2 (usage), 3 (not
/// authenticated), 4 (denied), 5 (not found), 130 (interrupted), or of `job exec` and `job attach` the job's own.
pub fn main() -> ExitCode {
    complete::answer();
    let environment = Environment::of_process();
    let cli = match Cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help into a pipe that is closed is no failure.
            let _ = error.print();
            report::suggest(&near::of_usage_error(&error, &environment));
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let finished = Context::new(&cli, environment.clone()).and_then(|context| {
        let report = cli.command.run(&context)?;
        report.print(context.output)
    });
    match finished {
        Ok(code) => ExitCode::from(code),
        Err(failure) => report::print_failure(&failure, &environment),
    }
}
