//! `principal` commands that change what is known of one and what it may do.

use std::time::Duration;

use airunner_core::{DnsName, Role};
use airunner_proto::principal::v1::{Principal, SetPrincipalRolesRequest, UpdatePrincipalRequest};
use clap::Args;
use prost_types::FieldMask;

use super::{EnrolScopeArgs, PrincipalName, wire_role};
use crate::{
    commands::present,
    context::Context,
    failure::{Failure, Result},
    near::{Named, or_near},
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
        let id = self.name.get()?.as_str();
        let answer = wait(or_near(&client, Named::Principal(id), async {
            Ok(client.principals().update_principal(request).await?.into_inner())
        }))?;
        let view = PrincipalView::from(present(answer.principal, "principal")?);
        Report::record(view.fields(context.now()), &view)
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
        let id = self.name.get()?.as_str();
        let answer = wait(or_near(&client, Named::Principal(id), async {
            Ok(client.principals().set_principal_roles(request).await?.into_inner())
        }))?;
        let view = PrincipalView::from(present(answer.principal, "principal")?);
        Report::record(view.fields(context.now()), &view)
    }
}
