//! `enrollment`: tokens for first certificates.

use std::time::Duration;

use airunner_core::EnrollmentTokenText;
use airunner_proto::ca::v1::{
    CreateEnrollmentTokenRequest, DeleteEnrollmentTokenRequest, ListEnrollmentTokensRequest,
};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{EnrollmentName, Paging, PrincipalName, present, watch::Watch};
use crate::{
    context::Context,
    failure::Result,
    near::{Named, or_near},
    prompt,
    report::{Report, Table},
    runtime::wait,
    values,
    view::{enrollment::EnrollmentView, moment::told},
};

/// Enrolment tokens.
#[derive(Args, Debug)]
pub(crate) struct EnrollmentArgs {
    #[command(subcommand)]
    command: EnrollmentCommand,
}

#[derive(Debug, Subcommand)]
enum EnrollmentCommand {
    /// Make a token for a principal; it is shown this once
    Create(CreateArgs),
    /// List tokens, newest first
    List(ListArgs),
    /// Take a token back
    Delete(DeleteArgs),
}

impl EnrollmentArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        match &self.command {
            EnrollmentCommand::Create(args) => args.run(context),
            EnrollmentCommand::List(args) => args.run(context),
            EnrollmentCommand::Delete(args) => args.run(context),
        }
    }
}

#[derive(Args, Debug)]
struct CreateArgs {
    #[command(flatten)]
    name: PrincipalName,
    /// How long it may be redeemed, 1m to 7d [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    ttl: Option<Duration>,
    /// A word for people
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// The public listener as the new machine reaches it, HOST:PORT [default: what the server is configured with]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    address: Option<String>,
}

#[derive(Serialize)]
struct CreatedView {
    enrollment: EnrollmentView,
    token: String,
}

impl CreateArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let request = CreateEnrollmentTokenRequest {
            principal_id: self.name.get()?.to_string(),
            ttl: self.ttl.map(values::wire),
            description: self.description.clone(),
            address: self.address.clone().unwrap_or_default(),
            request_id: String::new(),
        };
        let client = context.client()?;
        let id = self.name.get()?.as_str();
        let answer = wait(or_near(&client, Named::Principal(id), async {
            Ok(client.enrollments().create_enrollment_token(request).await?.into_inner())
        }))?;
        let view =
            CreatedView { enrollment: present(answer.enrollment, "enrollment")?.into(), token: answer.token };
        let hint = format!(
            "for {}, until {}; there: airunner-cli enroll --save-profile NAME",
            view.enrollment.principal_id,
            told(view.enrollment.expires_at, context.now())
        );
        Ok(Report::text(view.token.clone(), &view)?.with_hint(hint))
    }
}

#[derive(Args, Debug)]
struct ListArgs {
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    watch: Watch,
}

impl ListArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let client = context.client()?;
        let fetch = async |page_size, page_token| {
            let request = ListEnrollmentTokensRequest { page_size, page_token };
            let answer = client.enrollments().list_enrollment_tokens(request).await?.into_inner();
            let views: Vec<_> = answer.enrollments.into_iter().map(EnrollmentView::from).collect();
            Ok((views, answer.next_page_token))
        };
        self.watch.run(context, async || {
            let listed = self.paging.collect(context.output, fetch).await?;
            let mut table = Table::new(EnrollmentView::HEADERS, "there are no enrolment tokens");
            listed.items.iter().for_each(|view| table.add(view.row(context.now())));
            Ok(listed.note(Report::table(table, &listed.value("enrollments")?)?))
        })
    }
}

#[derive(Args, Debug)]
struct DeleteArgs {
    #[command(flatten)]
    name: EnrollmentName,
    /// Don't ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Serialize)]
struct DeletedView {
    enrollment_id: String,
    deleted: bool,
}

impl DeleteArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let enrollment_id = self.name.get()?.to_string();
        let request = DeleteEnrollmentTokenRequest { enrollment_id: enrollment_id.clone() };
        let client = context.client()?;
        wait(or_near(&client, Named::Enrollment(&enrollment_id), async {
            prompt::confirm(&format!("Take the enrolment {enrollment_id} back?"), self.yes).await?;
            Ok(client.enrollments().delete_enrollment_token(request).await?)
        }))?;
        let text = format!("{enrollment_id} is deleted");
        Report::text(text, &DeletedView { enrollment_id, deleted: true })
    }
}

fn address(text: &str) -> airunner_core::Result<String> {
    EnrollmentTokenText::check_address(text).map(|()| text.to_owned())
}
