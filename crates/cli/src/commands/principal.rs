//! `principal`: the registry.

use std::time::Duration;

use airunner_core::{DnsName, PrincipalId, PrincipalStatus, PrincipalType, Role};
use airunner_proto::principal::v1 as pb;
use clap::{Args, Subcommand};

use super::paging::PageArgs;
use crate::{
    Result,
    context::Context,
    failure::Failure,
    prompt,
    report::{Human, Report},
    value::{Pair, PrincipalArg, duration, wire},
    view::principal::{PrincipalView, role_number, status_number, type_number},
};

/// The registry of principals.
#[derive(Debug, Args)]
pub(crate) struct PrincipalArgs {
    #[command(subcommand)]
    command: PrincipalCommand,
}

#[derive(Debug, Subcommand)]
enum PrincipalCommand {
    /// Add a principal
    Create(CreateArgs),
    /// Show a principal
    Get(PrincipalArg),
    /// List principals
    List(ListArgs),
    /// Change what is given
    Update(Box<UpdateArgs>),
    /// Set a principal's roles
    Roles(RolesArgs),
    /// Take all authority away until it is activated; in force at once
    Suspend(SuspendArgs),
    /// Give a suspended principal its authority back
    Activate(PrincipalArg),
    /// Suspend a principal and revoke all its certificates
    Revoke(EndArgs),
    /// End a principal for good; its id stays taken
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its id: 1 to 64 of A-Z a-z 0-9 . _ @ + -
    #[arg(value_name = "PRINCIPAL")]
    principal: PrincipalId,
    /// admin, worker, user or service
    #[arg(long = "type", value_name = "TYPE")]
    principal_type: PrincipalType,
    /// A role in place of the type's own; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<Role>,
    #[command(flatten)]
    fields: FieldArgs,
}

/// What can be set of a principal.
#[derive(Debug, Args)]
struct FieldArgs {
    /// Its mail address
    #[arg(long)]
    email: Option<String>,
    /// What it is
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A name that its certificates carry (services); may be given several times
    #[arg(long = "dns-name", value_name = "NAME")]
    dns_names: Vec<DnsName>,
    /// Certificates at a time; 0 is no limit
    #[arg(long, value_name = "N")]
    max_certificates: Option<u32>,
    /// Life of its certificates, 5m to 90d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    validity: Option<Duration>,
    /// A label; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<Pair>,
    /// For an enroller: ids that it may bring in start with this
    #[arg(long, value_name = "PREFIX")]
    enrol_prefix: Option<String>,
    /// For an enroller: a type that it may bring in, worker or service; may be given several times
    #[arg(long = "enrol-type", value_name = "TYPE", requires = "enrol_prefix")]
    enrol_types: Vec<PrincipalType>,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only those of this type
    #[arg(long = "type", value_name = "TYPE")]
    principal_type: Option<PrincipalType>,
    /// Only those of this status; without it, all but the deleted
    #[arg(long)]
    status: Option<PrincipalStatus>,
    /// Only those whose id starts so
    #[arg(long)]
    prefix: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    #[command(flatten)]
    principal: PrincipalArg,
    #[command(flatten)]
    fields: FieldArgs,
    /// Set nothing but empty this field; may be given several times
    #[arg(long, value_name = "FIELD", value_parser = ["email", "description", "dns_names", "validity", "metadata", "enrol_scope"])]
    clear: Vec<String>,
    /// Refuse unless this is still its version
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    expect_version: u64,
}

#[derive(Debug, Args)]
struct RolesArgs {
    #[command(flatten)]
    principal: PrincipalArg,
    /// The roles that it is to have, and no others; may be given several times
    #[arg(long = "set", value_name = "ROLE", value_delimiter = ',', conflicts_with = "default")]
    set: Vec<Role>,
    /// Give its type's own role back
    #[arg(long)]
    default: bool,
}

#[derive(Debug, Args)]
struct SuspendArgs {
    #[command(flatten)]
    principal: PrincipalArg,
    /// Why; told to the principal and kept in the audit log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

#[derive(Debug, Args)]
struct EndArgs {
    #[command(flatten)]
    principal: PrincipalArg,
    /// Why; kept in the audit log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Don't ask
    #[arg(long, short = 'y')]
    yes: bool,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    #[command(flatten)]
    principal: PrincipalArg,
    /// Don't ask
    #[arg(long, short = 'y')]
    yes: bool,
}

impl PrincipalArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Report> {
        match self.command {
            PrincipalCommand::Create(args) => args.run(context),
            PrincipalCommand::Get(principal) => {
                let request = pb::GetPrincipalRequest { principal_id: principal.get() };
                let answer = context
                    .call(async |client| Ok(client.principals().get_principal(request).await?.into_inner()));
                shown(answer?.principal)
            }
            PrincipalCommand::List(args) => args.run(context),
            PrincipalCommand::Update(args) => args.run(context),
            PrincipalCommand::Roles(args) => args.run(context),
            PrincipalCommand::Suspend(args) => {
                let request =
                    pb::SuspendPrincipalRequest { principal_id: args.principal.get(), reason: args.reason };
                let answer = context.call(async |client| {
                    Ok(client.principals().suspend_principal(request).await?.into_inner())
                });
                shown(answer?.principal)
            }
            PrincipalCommand::Activate(principal) => {
                let request = pb::ActivatePrincipalRequest { principal_id: principal.get() };
                let answer = context.call(async |client| {
                    Ok(client.principals().activate_principal(request).await?.into_inner())
                });
                shown(answer?.principal)
            }
            PrincipalCommand::Revoke(args) => {
                let principal_id = args.principal.get();
                prompt::confirm(
                    &format!("suspend {principal_id} and revoke all its certificates"),
                    args.yes,
                )?;
                let request = pb::RevokePrincipalRequest { principal_id, reason: args.reason };
                let answer = context.call(async |client| {
                    Ok(client.principals().revoke_principal(request).await?.into_inner())
                });
                shown(answer?.principal)
            }
            PrincipalCommand::Delete(args) => {
                let principal_id = args.principal.get();
                prompt::confirm(&format!("delete {principal_id} for good"), args.yes)?;
                let request = pb::DeletePrincipalRequest { principal_id };
                let answer = context.call(async |client| {
                    Ok(client.principals().delete_principal(request).await?.into_inner())
                });
                shown(answer?.principal)
            }
        }
    }
}

impl CreateArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let fields = self.fields.into_principal();
        let request = pb::CreatePrincipalRequest {
            principal_id: self.principal.to_string(),
            r#type: type_number(self.principal_type),
            roles: self.roles.into_iter().map(role_number).collect(),
            enrol_scope: fields.principal.enrol_scope,
            dns_names: fields.principal.dns_names,
            email: fields.principal.email,
            description: fields.principal.description,
            max_certificates: fields.max_certificates,
            validity: fields.principal.validity,
            metadata: fields.principal.metadata,
        };
        let answer = context
            .call(async |client| Ok(client.principals().create_principal(request).await?.into_inner()));
        shown(answer?.principal)
    }
}

/// What was given, as a message and as the names of its fields.
struct Given {
    principal: pb::Principal,
    max_certificates: Option<u32>,
    names: Vec<&'static str>,
}

impl FieldArgs {
    fn into_principal(self) -> Given {
        let names = [
            ("email", self.email.is_some()),
            ("description", self.description.is_some()),
            ("dns_names", !self.dns_names.is_empty()),
            ("max_certificates", self.max_certificates.is_some()),
            ("validity", self.validity.is_some()),
            ("metadata", !self.metadata.is_empty()),
            ("enrol_scope", self.enrol_prefix.is_some()),
        ];
        let enrol_types = self.enrol_types;
        let principal = pb::Principal {
            email: self.email.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            dns_names: self.dns_names.iter().map(ToString::to_string).collect(),
            max_certificates: self.max_certificates.unwrap_or_default(),
            validity: self.validity.map(wire),
            metadata: self.metadata.into_iter().map(|Pair(key, value)| (key, value)).collect(),
            enrol_scope: self.enrol_prefix.map(|id_prefix| pb::EnrolScope {
                id_prefix,
                types: enrol_types.into_iter().map(type_number).collect(),
            }),
            ..pb::Principal::default()
        };
        let names = names.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect();
        Given { principal, max_certificates: self.max_certificates, names }
    }
}

impl ListArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let listed = context.call(async |client| {
            let fetch = |page_size, page_token| {
                let request = pb::ListPrincipalsRequest {
                    page_size,
                    page_token,
                    r#type: self.principal_type.map(type_number).unwrap_or_default(),
                    status: self.status.map(status_number).unwrap_or_default(),
                    id_prefix: self.prefix.clone().unwrap_or_default(),
                };
                let mut principals = client.principals();
                async move {
                    let answer = principals.list_principals(request).await?.into_inner();
                    let page = answer.principals.into_iter().map(PrincipalView::from).collect();
                    Ok((page, answer.next_page_token))
                }
            };
            self.page.collect(fetch).await
        })?;
        listed.note(context);
        let rows = listed.items.iter().map(PrincipalView::row).collect();
        let human = Human::Table { head: PrincipalView::HEAD, rows, empty: "There is no such principal." };
        Ok(Report::new(listed.document("principals"), human))
    }
}

impl UpdateArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let given = self.fields.into_principal();
        let both = self.clear.iter().find(|name| given.names.contains(&name.as_str()));
        if let Some(name) = both {
            return Err(Failure::Usage(format!("{name} is set and cleared at once")));
        }
        let paths: Vec<String> =
            given.names.iter().map(|name| (*name).to_owned()).chain(self.clear).collect();
        if paths.is_empty() {
            return Err(Failure::Usage(
                "there is nothing to change: give what is to be set, or --clear".to_owned(),
            ));
        }
        let request = pb::UpdatePrincipalRequest {
            principal_id: self.principal.get(),
            version: self.expect_version,
            principal: Some(given.principal),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        let answer = context
            .call(async |client| Ok(client.principals().update_principal(request).await?.into_inner()));
        shown(answer?.principal)
    }
}

impl RolesArgs {
    fn run(self, context: &Context) -> Result<Report> {
        if self.set.is_empty() && !self.default {
            return Err(Failure::Usage(
                "which roles? Give --set ROLE, or --default for its type's own".to_owned(),
            ));
        }
        let roles = self.set.into_iter().map(role_number).collect();
        let request = pb::SetPrincipalRolesRequest { principal_id: self.principal.get(), version: 0, roles };
        let answer = context
            .call(async |client| Ok(client.principals().set_principal_roles(request).await?.into_inner()));
        shown(answer?.principal)
    }
}

fn shown(principal: Option<pb::Principal>) -> Result<Report> {
    let view = PrincipalView::from(principal.unwrap_or_default());
    let human = view.fields();
    Ok(Report::new(view, human))
}
