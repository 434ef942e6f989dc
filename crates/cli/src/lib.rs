//! The command line of airunner: one file per noun under `commands/`, each of whose `Args::run` returns a report that
//! one place prints. Rules are the server's; nothing is decided twice here.

pub mod bench;
mod bootstrap;
mod commands;
mod connection;
mod context;
mod failure;
mod profile;
mod prompt;
mod report;
mod value;
mod view;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, FromArgMatches};

use crate::{
    commands::Cli,
    context::Context,
    failure::{Failure, USAGE},
    report::Console,
};

/// Runs the command that `args` (the first of them the program's name) ask for, and prints what it came to. Nothing but
/// parsing is done before the command is known.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed =
        Cli::command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output and succeeds; what is wrong goes to standard error. A reader who is gone
            // needs neither.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let console = Console::new(cli.output);
    let context = Context::new(cli.connection, console);
    let result = cli.command.run(&context).and_then(|report| {
        context.console().print(&report)?;
        Ok(report.exit_code())
    });
    let code = match result {
        Ok(code) => code,
        Err(failure) => {
            context.console().print_failure(&failure);
            failure.exit_code()
        }
    };
    ExitCode::from(code)
}

/// What every command returns.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;
