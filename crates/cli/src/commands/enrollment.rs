//! `enrollment`: enrolment tokens.

use std::time::Duration;

use airunner_proto::ca::v1 as pb;
use clap::{Args, Subcommand};

use super::paging::PageArgs;
use crate::{
    Result,
    context::Context,
    prompt,
    report::{Human, Report},
    value::{EnrollmentArg, PrincipalArg, duration, wire},
    view::enrollment::EnrollmentView,
};

/// Enrolment tokens.
#[derive(Debug, Args)]
pub(crate) struct EnrollmentArgs {
    #[command(subcommand)]
    command: EnrollmentCommand,
}

#[derive(Debug, Subcommand)]
enum EnrollmentCommand {
    /// Make one for a principal; it is shown this once, and works once
    Create(CreateArgs),
    /// List those that were made
    List(ListArgs),
    /// Take one back
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    #[command(flatten)]
    principal: PrincipalArg,
    /// How long it works, 1m to 7d; 1h where it is not given
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<Duration>,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// host:port of the public listener, as the new machine reaches it; the server's own where it is not given
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    address: String,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    #[command(flatten)]
    enrollment: EnrollmentArg,
    /// Don't ask
    #[arg(long, short = 'y')]
    yes: bool,
}

impl EnrollmentArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Report> {
        match self.command {
            EnrollmentCommand::Create(args) => args.run(context),
            EnrollmentCommand::List(args) => args.run(context),
            EnrollmentCommand::Delete(args) => args.run(context),
        }
    }
}

impl CreateArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let request = pb::CreateEnrollmentTokenRequest {
            principal_id: self.principal.get(),
            ttl: self.ttl.map(wire),
            description: self.description,
            address: self.address,
            request_id: String::new(),
        };
        let answer = context.call(async |client| {
            Ok(client.enrollments().create_enrollment_token(request).await?.into_inner())
        })?;
        let view = EnrollmentView::from(answer.enrollment.unwrap_or_default()).with_token(answer.token);
        let human = view.fields();
        Ok(Report::new(view, human))
    }
}

impl ListArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let listed = context.call(async |client| {
            let fetch = |page_size, page_token| {
                let mut enrollments = client.enrollments();
                async move {
                    let request = pb::ListEnrollmentTokensRequest { page_size, page_token };
                    let answer = enrollments.list_enrollment_tokens(request).await?.into_inner();
                    let page = answer.enrollments.into_iter().map(EnrollmentView::from).collect();
                    Ok((page, answer.next_page_token))
                }
            };
            self.page.collect(fetch).await
        })?;
        listed.note(context);
        let now = context.now().to_string();
        let rows = listed.items.iter().map(|enrollment: &EnrollmentView| enrollment.row(&now)).collect();
        let human =
            Human::Table { head: EnrollmentView::HEAD, rows, empty: "There are no enrolment tokens." };
        Ok(Report::new(listed.document("enrollments"), human))
    }
}

impl DeleteArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let enrollment_id = self.enrollment.get();
        prompt::confirm(&format!("take the enrolment {enrollment_id} back"), self.yes)?;
        let request = pb::DeleteEnrollmentTokenRequest { enrollment_id: enrollment_id.clone() };
        context.call(async |client| Ok(client.enrollments().delete_enrollment_token(request).await?))?;
        let document = serde_json::json!({ "enrollment_id": enrollment_id, "deleted": true });
        Ok(Report::new(document, Human::Text(format!("{enrollment_id} deleted"))))
    }
}
