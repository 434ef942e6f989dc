//! `audit`: the audit log.

use airunner_core::Label;
use airunner_proto::audit::v1 as pb;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    Result,
    context::Context,
    failure::Failure,
    report::{Human, Report},
    view::audit::AuditView,
};

/// The audit log.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// The newest entries, newest last
    Tail(TailArgs),
}

#[derive(Debug, Args)]
struct TailArgs {
    /// Entries, 1 to 1000
    #[arg(long = "n", short = 'n', value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Go on with those that come, one a line
    #[arg(long, short = 'f')]
    follow: bool,
}

#[derive(Serialize)]
struct Entries {
    entries: Vec<AuditView>,
}

impl AuditArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Report> {
        match self.command {
            AuditCommand::Tail(args) => args.run(context),
        }
    }
}

impl TailArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let request = pb::TailAuditRequest { count: self.count, follow: self.follow };
        let entries = context.call(async |client| {
            let mut stream = client.audit().tail_audit(request).await?.into_inner();
            let mut entries = Vec::new();
            while let Some(message) = stream.message().await? {
                let entry = AuditView::from(message.entry.unwrap_or_default());
                if self.follow {
                    context.console().line(&entry, &entry.line())?;
                } else {
                    entries.push(entry);
                }
            }
            Ok(entries)
        })?;
        if self.follow {
            return Err(Failure::new(
                Label::Unreachable,
                "the server ended the stream: start again to go on",
            ));
        }
        let rows = entries.iter().map(AuditView::row).collect();
        let human = Human::Table { head: AuditView::HEAD, rows, empty: "The audit log is empty." };
        Ok(Report::new(Entries { entries }, human))
    }
}
