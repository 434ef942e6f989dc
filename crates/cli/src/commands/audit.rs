//! `audit`: who did what.

use airunner_proto::audit::v1::TailAuditRequest;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    context::Context,
    failure::Result,
    report::{Format, Report, visible},
    runtime::wait,
    view::audit::AuditView,
};

/// The audit log.
#[derive(Args, Debug)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Print the newest entries, oldest of them first
    Tail(TailArgs),
}

impl AuditArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        match &self.command {
            AuditCommand::Tail(args) => args.run(context),
        }
    }
}

#[derive(Args, Debug)]
struct TailArgs {
    /// How many, at most 1,000
    #[arg(long = "n", short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    count: u32,
    /// Go on with those that come
    #[arg(long, short)]
    follow: bool,
}

#[derive(Serialize)]
struct TailView {
    entries: Vec<AuditView>,
}

impl TailArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let client = context.client()?;
        let output = context.output;
        let in_one_document = output.format != Format::Table && !self.follow;
        wait(async {
            let request = TailAuditRequest { count: self.count, follow: self.follow };
            let mut answers = client.audit().tail_audit(request).await?.into_inner();
            let mut view = TailView { entries: Vec::new() };
            while let Some(answer) = answers.message().await? {
                let Some(entry) = answer.entry.map(AuditView::from) else { continue };
                if in_one_document {
                    view.entries.push(entry);
                } else {
                    output.item(&visible(&entry.line()), &entry)?;
                }
            }
            if in_one_document { Report::text(String::new(), &view) } else { Ok(Report::nothing()) }
        })
    }
}
