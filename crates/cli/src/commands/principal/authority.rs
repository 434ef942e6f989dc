//! `principal` commands that take authority away or give it back. What they would hit is shown before.

use airunner_client::Client;
use airunner_core::PrincipalId;
use airunner_proto::{
    ca::v1::ListCertificatesRequest,
    job::v1::{JobState, ListJobsRequest},
    principal::v1::{
        ActivatePrincipalRequest, DeletePrincipalRequest, GetPrincipalRequest, Principal,
        RevokePrincipalRequest, SuspendPrincipalRequest,
    },
};
use clap::Args;
use serde::Serialize;

use super::PrincipalName;
use crate::{
    commands::present,
    context::Context,
    failure::Result,
    near::{Named, or_near},
    progress, prompt,
    report::Report,
    runtime::wait,
    view::{certificate::CertificateView, job::JobView, principal::PrincipalView},
};

/// Certificates and jobs that a preview names one by one.
const NAMED: usize = 10;

#[derive(Args, Debug)]
pub(super) struct SuspendArgs {
    #[command(flatten)]
    name: PrincipalName,
    /// Why; it is told to the principal and kept in the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Args, Debug)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    name: PrincipalName,
    /// Why; it is kept in the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Args, Debug)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    name: PrincipalName,
    #[command(flatten)]
    ask: AskArgs,
}

/// Whether it is done, and whether someone is asked before.
#[derive(Args, Debug)]
struct AskArgs {
    /// Only say what would be hit
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Don't ask
    #[arg(long, short)]
    yes: bool,
}

impl SuspendArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let id = self.name.get()?;
        let act = Act {
            verb: "Suspend",
            consequence: "which count again when it is activated",
            is_for_good: false,
        };
        self.ask.run(context, id, act, "is suspended", async |client| {
            let request =
                SuspendPrincipalRequest { principal_id: id.to_string(), reason: self.reason.clone() };
            Ok(client.principals().suspend_principal(request).await?.into_inner().principal)
        })
    }
}

impl RevokeArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let id = self.name.get()?;
        let act = Act { verb: "Suspend", consequence: "revoked for good", is_for_good: true };
        let done = "is suspended, and all its certificates are revoked";
        self.ask.run(context, id, act, done, async |client| {
            let request =
                RevokePrincipalRequest { principal_id: id.to_string(), reason: self.reason.clone() };
            Ok(client.principals().revoke_principal(request).await?.into_inner().principal)
        })
    }
}

impl DeleteArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let id = self.name.get()?;
        let act = Act { verb: "Delete", consequence: "revoked for good", is_for_good: true };
        let done = "is deleted, and all its certificates are revoked";
        self.ask.run(context, id, act, done, async |client| {
            let request = DeletePrincipalRequest { principal_id: id.to_string() };
            Ok(client.principals().delete_principal(request).await?.into_inner().principal)
        })
    }
}

#[derive(Args, Debug)]
pub(super) struct ActivateArgs {
    #[command(flatten)]
    name: PrincipalName,
}

impl ActivateArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let principal_id = self.name.get()?.to_string();
        let request = ActivatePrincipalRequest { principal_id: principal_id.clone() };
        let client = context.client()?;
        let answer = wait(or_near(&client, Named::Principal(&principal_id), async {
            Ok(client.principals().activate_principal(request).await?.into_inner())
        }))?;
        done(answer.principal, "is active")
    }
}

/// What is about to be done.
#[derive(Clone, Copy)]
struct Act {
    verb: &'static str,
    /// What becomes of its certificates.
    consequence: &'static str,
    /// Whether it can't be taken back: then nobody does it unasked. Someone who has to be stopped is stopped at once, by
    /// a script too.
    is_for_good: bool,
}

impl AskArgs {
    fn run(
        &self,
        context: &Context,
        id: &PrincipalId,
        act: Act,
        is_done: &'static str,
        work: impl AsyncFnOnce(&Client) -> Result<Option<Principal>>,
    ) -> Result<Report> {
        let client = context.client()?;
        let name = id.to_string();
        wait(or_near(&client, Named::Principal(&name), async {
            if self.dry_run {
                return Hit::look(&client, id).await?.report(act, context);
            }
            let can_ask = prompt::is_possible();
            if !self.yes && can_ask {
                let hit = Hit::look(&client, id).await?;
                hit.lines(act, context).iter().for_each(|line| context.output.note(line));
            }
            let goes_on = self.yes || !(act.is_for_good || can_ask);
            prompt::confirm(&format!("{} {id}?", act.verb), goes_on).await?;
            let _working = progress::spinner(context.output, format!("{} {id}", act.verb));
            done(work(&client).await?, is_done)
        }))
    }
}

/// What loses its authority with a principal.
#[derive(Serialize)]
struct Hit {
    dry_run: bool,
    principal: PrincipalView,
    certificates: Vec<CertificateView>,
    more_certificates: bool,
    running_jobs: Vec<JobView>,
}

impl Hit {
    async fn look(client: &Client, id: &PrincipalId) -> Result<Self> {
        let request = GetPrincipalRequest { principal_id: id.to_string() };
        let principal = client.principals().get_principal(request).await?.into_inner().principal;
        let request = ListCertificatesRequest {
            page_size: 1_000,
            principal_id: id.to_string(),
            active: true,
            ..ListCertificatesRequest::default()
        };
        let listed = client.certificates().list_certificates(request).await?.into_inner();
        let request = ListJobsRequest {
            page_size: 1_000,
            state: JobState::Running as i32,
            ..ListJobsRequest::default()
        };
        // Who may not list jobs may still suspend who runs them.
        let jobs =
            client.jobs().list_jobs(request).await.map(tonic::Response::into_inner).unwrap_or_default();
        let is_held = |job: &airunner_proto::job::v1::Job| job.holder == id.as_str();
        Ok(Self {
            dry_run: true,
            principal: present(principal, "principal")?.into(),
            certificates: listed.certificates.into_iter().map(CertificateView::of_list).collect(),
            more_certificates: !listed.next_page_token.is_empty(),
            running_jobs: jobs.jobs.into_iter().filter(is_held).map(JobView::from).collect(),
        })
    }

    fn report(&self, act: Act, context: &Context) -> Result<Report> {
        Report::text(self.lines(act, context).join("\n"), self)
    }

    fn lines(&self, act: Act, context: &Context) -> Vec<String> {
        let principal = &self.principal;
        let mut lines =
            vec![format!("{}, {}, {}", principal.principal_id, principal.r#type, principal.status)];
        let count = self.certificates.len();
        let more = if self.more_certificates { "more than " } else { "" };
        lines.push(match count {
            0 => "has no certificate in force".to_owned(),
            count => format!("{more}{} in force, {}:", certificates(count), act.consequence),
        });
        lines.extend(self.certificates.iter().take(NAMED).map(|certificate| certificate.line(context.now())));
        lines.extend(rest(count));
        if !self.running_jobs.is_empty() {
            lines.push(format!("runs {}, which other workers take over:", jobs(self.running_jobs.len())));
        }
        let line = |job: &JobView| format!("  {}  {}", job.job_id, job.command_line());
        lines.extend(self.running_jobs.iter().take(NAMED).map(line));
        lines.extend(rest(self.running_jobs.len()));
        lines
    }
}

fn certificates(count: usize) -> String {
    if count == 1 { "1 certificate".to_owned() } else { format!("{count} certificates") }
}

fn jobs(count: usize) -> String {
    if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") }
}

/// A word for those that are not named.
fn rest(count: usize) -> Option<String> {
    (count > NAMED).then(|| format!("  and {} more", count - NAMED))
}

fn done(principal: Option<Principal>, what: &str) -> Result<Report> {
    let view = PrincipalView::from(present(principal, "principal")?);
    Report::text(format!("{} {what}", view.principal_id), &view)
}
