//! `certificate`: certificates of principals, as the registry has them.

mod issue;
mod local;
mod revoke;

use std::time::Duration;

use airunner_core::{Fingerprint, PrincipalId, Serial};
use airunner_proto::ca::v1::{GetCertificateRequest, ListCertificatesRequest};
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;

pub(super) use issue::KeyType;
pub(super) use local::ParsedView;
pub(crate) use local::check_identity;

use super::{Paging, PrincipalName, present, renew, watch::Watch};
use crate::{
    complete,
    context::Context,
    failure::{Failure, Result},
    near::{Named, or_near},
    report::{Report, Table},
    runtime::wait,
    values::{self, CertificateName},
    view::certificate::CertificateView,
};

/// Certificates.
#[derive(Args, Debug)]
pub(crate) struct CertificateArgs {
    #[command(subcommand)]
    command: CertificateCommand,
}

#[derive(Debug, Subcommand)]
enum CertificateCommand {
    /// Make a key here and get a certificate for it: key, CSR and certificate in one
    Generate(issue::GenerateArgs),
    /// Get a certificate for a CSR that was made elsewhere
    Issue(issue::IssueArgs),
    /// Make a certificate known that was signed elsewhere
    Register(issue::RegisterArgs),
    /// List certificates, newest first
    List(ListArgs),
    /// Show one as the registry has it
    Get(GetArgs),
    /// Show what is in a certificate's file, without a server
    Show(local::ShowArgs),
    /// Check a certificate's file against the roots of the environment, without a server
    Verify(local::VerifyArgs),
    /// Renew an identity now, as `renew` does
    Renew,
    /// Replace the server's certificate in the local environment
    Rotate(local::RotateArgs),
    /// Revoke certificates; in force when this returns
    Revoke(revoke::RevokeArgs),
}

impl CertificateArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        match &self.command {
            CertificateCommand::Generate(args) => args.run(context),
            CertificateCommand::Issue(args) => args.run(context),
            CertificateCommand::Register(args) => args.run(context),
            CertificateCommand::List(args) => args.run(context),
            CertificateCommand::Get(args) => args.run(context),
            CertificateCommand::Show(args) => args.run(context),
            CertificateCommand::Verify(args) => args.run(context),
            CertificateCommand::Renew => renew::run(context),
            CertificateCommand::Rotate(args) => args.run(context),
            CertificateCommand::Revoke(args) => args.run(context),
        }
    }
}

/// Which certificate is meant.
#[derive(Args, Clone, Debug)]
struct CertificateChoice {
    /// Its serial number, or its fingerprint
    #[arg(
        value_name = "SERIAL",
        conflicts_with_all = ["serial", "fingerprint"],
        add = ArgValueCompleter::new(complete::certificates)
    )]
    name: Option<CertificateName>,
    /// Its serial number, hex
    #[arg(
        long,
        alias = "id",
        value_name = "SERIAL",
        conflicts_with = "fingerprint",
        add = ArgValueCompleter::new(complete::certificates)
    )]
    serial: Option<Serial>,
    /// Its SHA-256, base64 or hex
    #[arg(long, value_name = "SHA-256")]
    fingerprint: Option<Fingerprint>,
}

impl CertificateChoice {
    fn get(&self) -> Option<CertificateName> {
        let serial = self.serial.map(CertificateName::Serial);
        self.name.or(serial).or(self.fingerprint.map(CertificateName::Fingerprint))
    }

    /// Serial number and fingerprint, one of them empty.
    fn wire(name: CertificateName) -> (String, String) {
        match name {
            CertificateName::Serial(serial) => (serial.to_string(), String::new()),
            CertificateName::Fingerprint(fingerprint) => (String::new(), fingerprint.to_string()),
        }
    }
}

fn which() -> Failure {
    Failure::Usage("which certificate? Name its serial number or its fingerprint".to_owned())
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Only those of this principal
    #[arg(long, value_name = "ID", add = ArgValueCompleter::new(complete::principals))]
    principal: Option<PrincipalId>,
    /// Only those that expire within this time, as 30d
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    expires_within: Option<Duration>,
    /// Only revoked ones
    #[arg(long, conflicts_with = "not_revoked")]
    revoked: bool,
    /// Only those that are not revoked
    #[arg(long)]
    not_revoked: bool,
    /// Only those that count: not expired, revoked or past the time for which they overlap with their successor
    #[arg(long, conflicts_with = "revoked")]
    active: bool,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    watch: Watch,
}

impl ListArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let client = context.client()?;
        let fetch = async |page_size, page_token| {
            let request = ListCertificatesRequest {
                page_size,
                page_token,
                principal_id: self.principal.as_ref().map(ToString::to_string).unwrap_or_default(),
                expires_within: self.expires_within.map(values::wire),
                revoked: (self.revoked || self.not_revoked).then_some(self.revoked),
                active: self.active,
            };
            let answer = client.certificates().list_certificates(request).await?.into_inner();
            let views: Vec<_> = answer.certificates.into_iter().map(CertificateView::of_list).collect();
            Ok((views, answer.next_page_token))
        };
        self.watch.run(context, async || {
            let listed = self.paging.collect(context.output, fetch).await?;
            let mut table = Table::new(CertificateView::HEADERS, "there are no such certificates");
            listed.items.iter().for_each(|view| table.add(view.row(context.now())));
            Ok(listed.note(Report::table(table, &listed.value("certificates")?)?))
        })
    }
}

#[derive(Args, Debug)]
struct GetArgs {
    #[command(flatten)]
    choice: CertificateChoice,
    /// Print the certificate itself, PEM
    #[arg(long)]
    pem: bool,
}

impl GetArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let (serial_number, fingerprint) = CertificateChoice::wire(self.choice.get().ok_or_else(which)?);
        let serial = serial_number.clone();
        let request = GetCertificateRequest { serial_number, fingerprint };
        let client = context.client()?;
        let answer = wait(or_near(&client, Named::Certificate(&serial), async {
            Ok(client.certificates().get_certificate(request).await?.into_inner())
        }))?;
        let view = CertificateView::from(present(answer.certificate, "certificate")?);
        match &view.pem {
            Some(pem) if self.pem => Report::text(pem.clone(), &view),
            _ => Report::record(view.fields(context.now()), &view),
        }
    }
}
