//! `principal`: the registry.

mod authority;
mod change;

use std::time::Duration;

use airunner_core::{DnsName, PrincipalStatus, PrincipalType, Role};
use airunner_proto::principal::v1::{
    self as pb, CreatePrincipalRequest, GetPrincipalRequest, ListPrincipalsRequest,
};
use clap::{Args, Subcommand};

use super::{Paging, PrincipalName, present, watch::Watch};
use crate::{
    context::Context,
    failure::Result,
    near::{Named, or_near},
    report::{Report, Table},
    runtime::wait,
    values::{self, Pair},
    view::principal::PrincipalView,
};

/// Principals.
#[derive(Args, Debug)]
pub(crate) struct PrincipalArgs {
    #[command(subcommand)]
    command: PrincipalCommand,
}

#[derive(Debug, Subcommand)]
enum PrincipalCommand {
    /// Add a principal
    Create(CreateArgs),
    /// Show one
    Get(GetArgs),
    /// List them
    List(ListArgs),
    /// Change what is known of one; what is not named stays
    Update(change::UpdateArgs),
    /// Set its roles
    Roles(change::RolesArgs),
    /// Take all its authority away until it is activated
    Suspend(authority::SuspendArgs),
    /// Give a suspended one its authority back
    Activate(authority::ActivateArgs),
    /// Suspend it and revoke all its certificates
    Revoke(authority::RevokeArgs),
    /// End it for good and revoke all its certificates; its id stays taken
    Delete(authority::DeleteArgs),
}

impl PrincipalArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        match &self.command {
            PrincipalCommand::Create(args) => args.run(context),
            PrincipalCommand::Get(args) => args.run(context),
            PrincipalCommand::List(args) => args.run(context),
            PrincipalCommand::Update(args) => args.run(context),
            PrincipalCommand::Roles(args) => args.run(context),
            PrincipalCommand::Suspend(args) => args.run(context),
            PrincipalCommand::Activate(args) => args.run(context),
            PrincipalCommand::Revoke(args) => args.run(context),
            PrincipalCommand::Delete(args) => args.run(context),
        }
    }
}

/// Whom an enroller may bring in.
#[derive(Args, Clone, Debug)]
struct EnrolScopeArgs {
    /// For enrollers: the ids of those it may bring in start with this
    #[arg(long, value_name = "TEXT", requires = "enrol_types", hide_short_help = true)]
    enrol_prefix: Option<String>,
    /// For enrollers: the types of those it may bring in, of worker and service
    #[arg(
        long,
        value_name = "TYPE",
        value_delimiter = ',',
        value_parser = values::principal_type(),
        requires = "enrol_prefix",
        hide_short_help = true
    )]
    enrol_types: Vec<PrincipalType>,
}

impl EnrolScopeArgs {
    fn scope(&self) -> Option<pb::EnrolScope> {
        let types = self.enrol_types.iter().map(|kind| wire_type(*kind) as i32).collect();
        self.enrol_prefix.clone().map(|id_prefix| pb::EnrolScope { id_prefix, types })
    }
}

#[derive(Args, Debug)]
struct CreateArgs {
    #[command(flatten)]
    name: PrincipalName,
    /// What it is
    #[arg(long = "type", value_name = "TYPE", value_parser = values::principal_type())]
    kind: PrincipalType,
    /// Roles, instead of the one that comes with the type; may be repeated
    #[arg(long = "role", value_name = "ROLE", value_delimiter = ',', value_parser = values::role())]
    roles: Vec<Role>,
    /// Names that its certificates may carry, for services; may be repeated
    #[arg(long = "dns-name", value_name = "NAME", value_delimiter = ',')]
    dns_names: Vec<DnsName>,
    /// Its mail address
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// A word for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Certificates in force at a time at most, 0 for no limit [default: 3]
    #[arg(long, value_name = "N")]
    max_certificates: Option<u32>,
    /// Life of its certificates, as 24h or 30d [default: its type's]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    validity: Option<Duration>,
    /// Metadata; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<Pair>,
    #[command(flatten)]
    scope: EnrolScopeArgs,
}

impl CreateArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let request = CreatePrincipalRequest {
            principal_id: self.name.get()?.to_string(),
            r#type: wire_type(self.kind) as i32,
            roles: self.roles.iter().map(|role| wire_role(*role) as i32).collect(),
            enrol_scope: self.scope.scope(),
            dns_names: self.dns_names.iter().map(ToString::to_string).collect(),
            email: self.email.clone().unwrap_or_default(),
            description: self.description.clone().unwrap_or_default(),
            max_certificates: self.max_certificates,
            validity: self.validity.map(values::wire),
            metadata: self.metadata.iter().map(|pair| (pair.key.clone(), pair.value.clone())).collect(),
        };
        let client = context.client()?;
        let answer = wait(async { Ok(client.principals().create_principal(request).await?.into_inner()) })?;
        let view = PrincipalView::from(present(answer.principal, "principal")?);
        let hint = format!("its first certificate: airunner-cli enrollment create {}", view.principal_id);
        Ok(Report::record(view.fields(context.now()), &view)?.with_hint(hint))
    }
}

#[derive(Args, Debug)]
struct GetArgs {
    #[command(flatten)]
    name: PrincipalName,
}

impl GetArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let request = GetPrincipalRequest { principal_id: self.name.get()?.to_string() };
        let client = context.client()?;
        let id = self.name.get()?.as_str();
        let answer = wait(or_near(&client, Named::Principal(id), async {
            Ok(client.principals().get_principal(request).await?.into_inner())
        }))?;
        let view = PrincipalView::from(present(answer.principal, "principal")?);
        Report::record(view.fields(context.now()), &view)
    }
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Only those of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = values::principal_type())]
    kind: Option<PrincipalType>,
    /// Only those of this status: active, suspended or deleted (those are left out otherwise)
    #[arg(long, value_name = "STATUS")]
    status: Option<PrincipalStatus>,
    /// Only those whose id starts with this
    #[arg(long, value_name = "TEXT")]
    id_prefix: Option<String>,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    watch: Watch,
}

impl ListArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let client = context.client()?;
        let fetch = async |page_size, page_token| {
            let request = ListPrincipalsRequest {
                page_size,
                page_token,
                r#type: self.kind.map_or(0, |kind| wire_type(kind) as i32),
                status: self.status.map_or(0, |status| wire_status(status) as i32),
                id_prefix: self.id_prefix.clone().unwrap_or_default(),
            };
            let answer = client.principals().list_principals(request).await?.into_inner();
            let views: Vec<_> = answer.principals.into_iter().map(PrincipalView::from).collect();
            Ok((views, answer.next_page_token))
        };
        self.watch.run(context, async || {
            let listed = self.paging.collect(context.output, fetch).await?;
            let mut table = Table::new(PrincipalView::HEADERS, "there are no such principals");
            listed.items.iter().for_each(|view| table.add(view.row(context.now())));
            Ok(listed.note(Report::table(table, &listed.value("principals")?)?))
        })
    }
}

const fn wire_type(kind: PrincipalType) -> pb::PrincipalType {
    match kind {
        PrincipalType::Admin => pb::PrincipalType::Admin,
        PrincipalType::Worker => pb::PrincipalType::Worker,
        PrincipalType::User => pb::PrincipalType::User,
        PrincipalType::Service => pb::PrincipalType::Service,
    }
}

const fn wire_role(role: Role) -> pb::Role {
    match role {
        Role::Admin => pb::Role::Admin,
        Role::Worker => pb::Role::Worker,
        Role::User => pb::Role::User,
        Role::Service => pb::Role::Service,
        Role::Viewer => pb::Role::Viewer,
        Role::Enroller => pb::Role::Enroller,
    }
}

const fn wire_status(status: PrincipalStatus) -> pb::PrincipalStatus {
    match status {
        PrincipalStatus::Active => pb::PrincipalStatus::Active,
        PrincipalStatus::Suspended => pb::PrincipalStatus::Suspended,
        PrincipalStatus::Deleted => pb::PrincipalStatus::Deleted,
    }
}
