//! `authz`: why someone may or may not do something.

use airunner_core::{Label, PrincipalId};
use airunner_proto::principal::v1::{ExplainAccessRequest, ExplainAccessResponse};
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use serde::Serialize;

use crate::{
    complete,
    context::Context,
    failure::{Failure, Result},
    near::{Named, closest, or_near},
    report::Report,
    runtime::wait,
    view::principal::{principal_status, principal_type, role},
};

/// Who may do what.
#[derive(Args, Debug)]
pub(crate) struct AuthzArgs {
    #[command(subcommand)]
    command: AuthzCommand,
}

#[derive(Debug, Subcommand)]
enum AuthzCommand {
    /// Say why a principal may or may not call an RPC
    Explain(ExplainArgs),
}

impl AuthzArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        match &self.command {
            AuthzCommand::Explain(args) => args.run(context),
        }
    }
}

/// Say why a principal may or may not call an RPC.
///
/// As in `airunner-cli authz explain w1 CancelJob`. The exit code is 0 either way: it is the answer that counts.
#[derive(Args, Debug)]
struct ExplainArgs {
    /// The principal's id
    #[arg(value_name = "PRINCIPAL", add = ArgValueCompleter::new(complete::principals))]
    principal: PrincipalId,
    /// The RPC: CancelJob, JobService/CancelJob or /airunner.job.v1.JobService/CancelJob
    #[arg(value_name = "RPC", add = ArgValueCompleter::new(complete::rpcs))]
    rpc: String,
}

#[derive(Serialize)]
struct ExplanationView {
    principal_id: String,
    method: String,
    allowed: bool,
    reason: String,
    permission: String,
    r#type: String,
    status: String,
    roles: Vec<String>,
    roles_that_allow: Vec<String>,
    notes: Vec<String>,
}

impl ExplainArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let principal_id = self.principal.to_string();
        let request = ExplainAccessRequest { principal_id: principal_id.clone(), method: self.rpc.clone() };
        let client = context.client()?;
        let answer = wait(or_near(&client, Named::Principal(&principal_id), async {
            Ok(client.principals().explain_access(request).await?.into_inner())
        }))
        .map_err(|failure| self.or_near_rpc(failure))?;
        let view = ExplanationView::of(principal_id, answer);
        Report::record(view.fields(), &view)
    }

    /// Adds the RPCs that may have been meant, where it is the RPC that is not there.
    fn or_near_rpc(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Failed(error) if error.is(Label::InvalidArgument) => {
                let name = self.rpc.rsplit(['/', '.']).next().unwrap_or(&self.rpc);
                let near = closest(name, complete::rpc_names().map(|(name, _)| name).collect());
                let failure = Failure::Failed(error);
                if near.is_empty() { failure } else { Failure::Near(near, Box::new(failure)) }
            }
            failure => failure,
        }
    }
}

impl ExplanationView {
    fn of(principal_id: String, answer: ExplainAccessResponse) -> Self {
        Self {
            principal_id,
            method: answer.method,
            allowed: answer.allowed,
            reason: answer.reason,
            permission: answer.permission,
            r#type: principal_type(answer.r#type),
            status: principal_status(answer.status),
            roles: answer.held_roles.iter().map(|number| role(*number)).collect(),
            roles_that_allow: answer.roles.iter().map(|number| role(*number)).collect(),
            notes: answer.notes,
        }
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("allowed", if self.allowed { "yes" } else { "no" }.to_owned()),
            ("because", self.reason.clone()),
            ("principal", format!("{} ({}, {})", self.principal_id, self.r#type, self.status)),
            ("its roles", self.roles.join(", ")),
            ("RPC", self.method.clone()),
            ("permission", self.permission.clone()),
            ("roles that have it", self.roles_that_allow.join(", ")),
        ];
        fields.extend(self.notes.iter().map(|note| ("note", note.clone())));
        fields
    }
}
