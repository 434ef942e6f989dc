//! The commands, one file per noun. Here stands which there are, and nothing of what they do.

mod audit;
mod ca;
mod certificate;
mod completion;
mod enroll;
mod enrollment;
mod job;
mod paging;
mod principal;
mod renew;
mod whoami;

use clap::{Parser, Subcommand};

use crate::{
    Result,
    bootstrap::BootstrapArgs,
    connection::ConnectionArgs,
    context::Context,
    report::{Output, Report},
};

/// Certificates, principals and jobs over mutual TLS.
#[derive(Debug, Parser)]
#[command(
    name = "airunner-cli",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    /// In which form the result is printed
    #[arg(
        long,
        short = 'o',
        global = true,
        value_enum,
        default_value = "table",
        env = "AIRUNNER_OUTPUT",
        hide_env_values = true
    )]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an environment, or find it whole: CA, server certificate, first admin
    Bootstrap(BootstrapArgs),
    /// Get a first certificate with an enrolment token
    Enroll(enroll::EnrollArgs),
    /// Renew an identity's certificate now
    Renew(renew::RenewArgs),
    /// Who the server takes you for, and what you may do
    Whoami(whoami::WhoamiArgs),
    /// The registry of principals
    Principal(principal::PrincipalArgs),
    /// Certificates: issue, look up, verify, revoke
    Certificate(certificate::CertificateArgs),
    /// The certificate authority
    Ca(ca::CaArgs),
    /// Enrolment tokens
    Enrollment(enrollment::EnrollmentArgs),
    /// Jobs; without a command: those of yours that run
    Job(job::JobArgs),
    /// The audit log
    Audit(audit::AuditArgs),
    /// Print a completion script for a shell
    Completion(completion::CompletionArgs),
    /// Print or write the manual pages
    Man(completion::ManArgs),
}

impl Command {
    /// Runs the command.
    pub(crate) fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Bootstrap(args) => args.run(context),
            Self::Enroll(args) => args.run(context),
            Self::Renew(args) => args.run(context),
            Self::Whoami(args) => args.run(context),
            Self::Principal(args) => args.run(context),
            Self::Certificate(args) => args.run(context),
            Self::Ca(args) => args.run(context),
            Self::Enrollment(args) => args.run(context),
            Self::Job(args) => args.run(context),
            Self::Audit(args) => args.run(context),
            Self::Completion(args) => args.run(context),
            Self::Man(args) => args.run(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_flag_takes_a_secret() {
        fn flags(command: &clap::Command, found: &mut Vec<String>) {
            found.extend(command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)));
            command.get_subcommands().for_each(|inner| flags(inner, found));
        }
        let mut found = Vec::new();
        flags(&Cli::command(), &mut found);
        let is_secret = |flag: &&String| {
            ["token", "password", "passphrase", "secret"].iter().any(|word| flag.contains(word))
                && !flag.ends_with("-file")
                && *flag != "page-token"
        };
        assert_eq!(found.iter().find(is_secret), None);
    }
}
