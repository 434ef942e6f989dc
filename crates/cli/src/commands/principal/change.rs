//! `principal` commands that change one that there is.

use std::time::Duration;

use airunner_client::Client;
use airunner_core::{DnsName, PrincipalId, Role};
use airunner_proto::{
    ca::v1::ListCertificatesRequest,
    principal::v1::{
        ActivatePrincipalRequest, DeletePrincipalRequest, Principal, RevokePrincipalRequest,
        SetPrincipalRolesRequest, SuspendPrincipalRequest, UpdatePrincipalRequest,
    },
};
use clap::Args;
use prost_types::FieldMask;

use super::{EnrolScopeArgs, PrincipalName, wire_role};
use crate::{
    commands::present,
    context::Context,
    failure::{Failure, Result},
    prompt,
    report::Report,
    runtime::wait,
    values::{self, Pair},
    view::principal::PrincipalView,
};

#[derive(Args, Debug)]
pub(super) struct UpdateArgs {
    #[command(flatten)]
    name: PrincipalName,
    /// Its mail address; "" takes it away
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// A word for people; "" takes it away
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// All names that its certificates may carry, for services; may be repeated
    #[arg(long = "dns-name", value_name = "NAME", value_delimiter = ',')]
    dns_names: Vec<DnsName>,
    /// Take all its DNS names away
    #[arg(long, conflicts_with = "dns_names")]
    no_dns_names: bool,
    /// Certificates in force at a time at most, 0 for no limit
    #[arg(long, value_name = "N")]
    max_certificates: Option<u32>,
    /// Life of its certificates, as 24h or 30d
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    validity: Option<Duration>,
    /// Give its certificates the life of its type again
    #[arg(long, conflicts_with = "validity")]
    no_validity: bool,
    /// All its metadata; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<Pair>,
    /// Take all its metadata away
    #[arg(long, conflicts_with = "metadata")]
    no_metadata: bool,
    #[command(flatten)]
    scope: EnrolScopeArgs,
    /// Only if this still is its version
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    if_version: u64,
}

impl UpdateArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let (principal, paths) = self.changes();
        if paths.is_empty() {
            return Err(Failure::Usage("nothing to change: name at least one of the options".to_owned()));
        }
        let request = UpdatePrincipalRequest {
            principal_id: self.name.get()?.to_string(),
            version: self.if_version,
            principal: Some(principal),
            update_mask: Some(FieldMask { paths: paths.into_iter().map(str::to_owned).collect() }),
        };
        let client = context.client()?;
        let answer = wait(async { Ok(client.principals().update_principal(request).await?.into_inner()) })?;
        let view = PrincipalView::from(present(answer.principal, "principal")?);
        Report::record(view.fields(), &view)
    }

    /// The new values, and which they are.
    fn changes(&self) -> (Principal, Vec<&'static str>) {
        let mut paths = Vec::new();
        let mut named = |is_named: bool, path| {
            if is_named {
                paths.push(path);
            }
        };
        named(self.email.is_some(), "email");
        named(self.description.is_some(), "description");
        named(!self.dns_names.is_empty() || self.no_dns_names, "dns_names");
        named(self.max_certificates.is_some(), "max_certificates");
        named(self.validity.is_some() || self.no_validity, "validity");
        named(!self.metadata.is_empty() || self.no_metadata, "metadata");
        named(self.scope.enrol_prefix.is_some(), "enrol_scope");
        let principal = Principal {
            email: self.email.clone().unwrap_or_default(),
            description: self.description.clone().unwrap_or_default(),
            dns_names: self.dns_names.iter().map(ToString::to_string).collect(),
            max_certificates: self.max_certificates.unwrap_or_default(),
            validity: self.validity.map(values::wire),
            metadata: self.metadata.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect(),
            enrol_scope: self.scope.scope(),
            ..Principal::default()
        };
        (principal, paths)
    }
}

#[derive(Args, Debug)]
pub(super) struct RolesArgs {
    #[command(flatten)]
    name: PrincipalName,
    /// A role that it is to have; may be repeated. Those that are not named it loses
    #[arg(
        long = "role",
        alias = "roles",
        value_name = "ROLE",
        value_delimiter = ',',
        value_parser = values::role(),
        required_unless_present = "default"
    )]
    roles: Vec<Role>,
    /// Give it the role that comes with its type
    #[arg(long, conflicts_with = "roles")]
    default: bool,
    /// Only if this still is its version
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    if_version: u64,
}

impl RolesArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let request = SetPrincipalRolesRequest {
            principal_id: self.name.get()?.to_string(),
            version: self.if_version,
            roles: self.roles.iter().map(|role| wire_role(*role) as i32).collect(),
        };
        let client = context.client()?;
        let answer =
            wait(async { Ok(client.principals().set_principal_roles(request).await?.into_inner()) })?;
        let view = PrincipalView::from(present(answer.principal, "principal")?);
        Report::record(view.fields(), &view)
    }
}

#[derive(Args, Debug)]
pub(super) struct SuspendArgs {
    #[command(flatten)]
    name: PrincipalName,
    /// Why; it is told to the principal and kept in the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

impl SuspendArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let request = SuspendPrincipalRequest {
            principal_id: self.name.get()?.to_string(),
            reason: self.reason.clone(),
        };
        let client = context.client()?;
        let answer = wait(async { Ok(client.principals().suspend_principal(request).await?.into_inner()) })?;
        done(answer.principal, "is suspended")
    }
}

#[derive(Args, Debug)]
pub(super) struct ActivateArgs {
    #[command(flatten)]
    name: PrincipalName,
}

impl ActivateArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let request = ActivatePrincipalRequest { principal_id: self.name.get()?.to_string() };
        let client = context.client()?;
        let answer = wait(async { Ok(client.principals().activate_principal(request).await?.into_inner()) })?;
        done(answer.principal, "is active")
    }
}

#[derive(Args, Debug)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    name: PrincipalName,
    /// Why; it is kept in the audit log
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Don't ask
    #[arg(long, short)]
    yes: bool,
}

impl RevokeArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let id = self.name.get()?;
        let client = context.client()?;
        let answer = wait(async {
            confirm(&client, id, "Suspend", self.yes).await?;
            let request =
                RevokePrincipalRequest { principal_id: id.to_string(), reason: self.reason.clone() };
            Ok(client.principals().revoke_principal(request).await?.into_inner())
        })?;
        done(answer.principal, "is suspended, and all its certificates are revoked")
    }
}

#[derive(Args, Debug)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    name: PrincipalName,
    /// Don't ask
    #[arg(long, short)]
    yes: bool,
}

impl DeleteArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let id = self.name.get()?;
        let client = context.client()?;
        let answer = wait(async {
            confirm(&client, id, "Delete", self.yes).await?;
            let request = DeletePrincipalRequest { principal_id: id.to_string() };
            Ok(client.principals().delete_principal(request).await?.into_inner())
        })?;
        done(answer.principal, "is deleted, and all its certificates are revoked")
    }
}

/// Shows who would be hit, and how many certificates with it.
async fn confirm(client: &Client, id: &PrincipalId, act: &str, assumed: bool) -> Result<()> {
    if assumed || !prompt::is_possible() {
        return prompt::confirm(&format!("{act} {id} (revokes all its certificates)?"), assumed).await;
    }
    let request = ListCertificatesRequest {
        page_size: 1_000,
        principal_id: id.to_string(),
        active: true,
        ..ListCertificatesRequest::default()
    };
    let answer = client.certificates().list_certificates(request).await?.into_inner();
    let hit = match (answer.certificates.len(), answer.next_page_token.is_empty()) {
        (0, _) => "it has no certificate in force".to_owned(),
        (1, _) => "revokes its certificate".to_owned(),
        (count, true) => format!("revokes its {count} certificates"),
        (count, false) => format!("revokes its certificates, {count} and more"),
    };
    prompt::confirm(&format!("{act} {id} ({hit})?"), false).await
}

fn done(principal: Option<Principal>, what: &str) -> Result<Report> {
    let view = PrincipalView::from(present(principal, "principal")?);
    Report::text(format!("{} {what}", view.principal_id), &view)
}
