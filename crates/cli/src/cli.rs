//! The one definition of the command line, from which parsing, help, completion and man pages come.

use std::ffi::OsString;

use clap::{ArgMatches, Args, Command as Definition, CommandFactory, FromArgMatches, Parser};

use crate::{commands::Command, connection::ConnectionArgs, report::Format};

/// The name of the binary.
pub(crate) const NAME: &str = "airunner-cli";

/// Commands, by their path, that speak to no server and therefore take no connection options.
const OFFLINE: &[&str] = &[
    "bootstrap",
    "enroll",
    "completion",
    "man",
    "certificate show",
    "certificate rotate",
    "ca renew-issuer",
];

/// Certificates, principals and jobs of an airunner environment.
///
/// After `airunner-cli bootstrap --environment local`, every command works without connection options. Elsewhere,
/// `airunner-cli enroll --save-profile NAME` turns an enrolment token from an admin into a certificate and a profile.
#[derive(Debug, Parser)]
#[command(name = NAME, version, propagate_version = true, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Filled in by [`Cli::parse`]: the options may stand before and behind each word of a command.
    #[arg(skip)]
    pub(crate) connection: ConnectionArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 usage, 3 not authenticated, 4 denied, 5 not found, 130 interrupted; of `job exec` \
and `job attach` the job's own.";

/// How results are written.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct OutputArgs {
    /// How results are written [env: AIRUNNER_OUTPUT] [default: table]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

impl Cli {
    /// Reads the arguments, the first of which is the program's name.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = definition().try_get_matches_from(arguments)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.connection = connection_of(&matches);
        Ok(cli)
    }
}

/// The definition, with the connection options wherever they count.
pub(crate) fn definition() -> Definition {
    let root = ConnectionArgs::augment_args(Cli::command());
    root.mut_subcommands(|command| with_connection(command, ""))
}

fn with_connection(command: Definition, parent: &str) -> Definition {
    let path = format!("{parent}{}", command.get_name());
    if OFFLINE.contains(&path.as_str()) {
        return command;
    }
    let below = format!("{path} ");
    ConnectionArgs::augment_args(command).mut_subcommands(|command| with_connection(command, &below))
}

/// The connection options of a command line, those of the last word first.
fn connection_of(matches: &ArgMatches) -> ConnectionArgs {
    let own = ConnectionArgs::given(matches);
    match matches.subcommand() {
        Some((_, deeper)) => connection_of(deeper).or(own),
        None => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definition_holds_together() {
        definition().debug_assert();
    }

    #[test]
    fn connection_options_stand_before_or_behind_and_the_last_word_wins() {
        for line in [
            "airunner-cli --server a:1 job list",
            "airunner-cli job --server a:1 list",
            "airunner-cli job list --server a:1",
            "airunner-cli --server b:1 job list --server a:1",
        ] {
            assert_eq!(parse(line).unwrap().connection.server.as_deref(), Some("a:1"), "{line}");
        }
    }

    #[test]
    fn what_stays_local_takes_no_server() {
        for path in OFFLINE {
            let definition = definition();
            let command = path.split(' ').try_fold(&definition, |found, word| found.find_subcommand(word));
            let command = command.unwrap_or_else(|| panic!("{path} is not there"));
            assert!(!command.get_arguments().any(|arg| arg.get_id() == "cacert"), "{path}");
        }
    }

    #[test]
    fn every_command_and_option_says_what_it_is_for() {
        fn check(command: &Definition, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path}");
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{path}: {}", arg.get_id());
            }
            command.get_subcommands().for_each(|below| check(below, &path));
        }
        check(&definition(), "");
    }
}
