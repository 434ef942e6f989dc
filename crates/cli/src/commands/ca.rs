//! `ca`: what is trusted, and the issuing CA's renewal.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use airunner_client::Client;
use airunner_host::{
    Home,
    config::FlagSetting,
    files::{self, Access},
    local::{self, Means},
};
use airunner_pki::{OidArc, certificates_from_pem, parse_certificate};
use airunner_proto::ca::v1::{GetTrustBundleRequest, GetTrustBundleResponse, RenewIssuerRequest};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{certificate::ParsedView, present};
use crate::{
    bootstrap::AwsArgs,
    context::Context,
    failure::Result,
    profile::Profiles,
    report::{Report, Table},
    runtime::wait,
    secret_input,
};

/// The certificate authority.
#[derive(Args, Debug)]
pub(crate) struct CaArgs {
    #[command(subcommand)]
    command: CaCommand,
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Show the roots and issuing CAs that the server trusts
    Show,
    /// Print the roots, PEM: what verifiers pin
    Bundle(BundleArgs),
    /// Make a successor of the issuing CA, on the machine that has the root key
    RenewIssuer(RenewIssuerArgs),
}

impl CaArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        match &self.command {
            CaCommand::Show => show(context),
            CaCommand::Bundle(args) => args.run(context),
            CaCommand::RenewIssuer(args) => args.run(context),
        }
    }
}

#[derive(Serialize)]
struct CaView {
    trust_domain: String,
    bundle_hash: String,
    roots: Vec<ParsedView>,
    issuing: Vec<ParsedView>,
}

fn show(context: &Context) -> Result<Report> {
    let client = context.client()?;
    let bundle = wait(fetch(&client))?;
    let view = CaView {
        roots: certificates(&bundle.roots_pem)?,
        issuing: certificates(&bundle.issuing_pem)?,
        trust_domain: bundle.trust_domain,
        bundle_hash: bundle.bundle_hash,
    };
    let mut table = Table::new(&["CA", "SUBJECT", "UNTIL", "SERIAL NUMBER"], "there is no CA");
    for (kind, certificates) in [("root", &view.roots), ("issuing", &view.issuing)] {
        for ca in certificates {
            let (subject, until) = (ca.subject_dn.clone(), ca.not_after.beside(context.now()));
            table.add([kind.to_owned(), subject, until, ca.serial_number.clone()]);
        }
    }
    let hint = format!("trust domain {}, bundle {}", view.trust_domain, view.bundle_hash);
    Ok(Report::table(table, &view)?.with_hint(hint))
}

#[derive(Args, Debug)]
struct BundleArgs {
    /// Print the issuing CAs instead
    #[arg(long)]
    issuing: bool,
    /// Write it to this file instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct BundleView {
    trust_domain: String,
    bundle_hash: String,
    roots_pem: String,
    issuing_pem: String,
}

impl BundleArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        let client = context.client()?;
        let bundle = wait(fetch(&client))?;
        let view = BundleView {
            trust_domain: bundle.trust_domain,
            bundle_hash: bundle.bundle_hash,
            roots_pem: bundle.roots_pem,
            issuing_pem: bundle.issuing_pem,
        };
        let pem = if self.issuing { &view.issuing_pem } else { &view.roots_pem };
        let Some(path) = &self.out else { return Report::text(pem.clone(), &view) };
        files::write(path, pem.as_bytes(), Access::Public)?;
        Report::text(format!("written to {}", path.display()), &view)
    }
}

async fn fetch(client: &Client) -> Result<GetTrustBundleResponse> {
    Ok(client.certificates().get_trust_bundle(GetTrustBundleRequest {}).await?.into_inner())
}

fn certificates(pem: &str) -> Result<Vec<ParsedView>> {
    if pem.trim().is_empty() {
        return Ok(Vec::new());
    }
    let ders = certificates_from_pem(pem.as_bytes())?;
    let parse = |der: &Vec<u8>| Ok(ParsedView::from(&parse_certificate(der, &OidArc::default())?));
    ders.iter().map(parse).collect()
}

#[derive(Args, Debug)]
struct RenewIssuerArgs {
    /// The folder of the environment [env: AIRUNNER_HOME] [default: the profile's, else where `bootstrap` makes it]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// A file whose first line is the passphrase of the root key, where it is not that of server.toml
    #[arg(long, value_name = "FILE")]
    key_passphrase_file: Option<PathBuf>,
    /// Have the server do it, which may where [root] online is true
    #[arg(long, conflicts_with_all = ["home", "key_passphrase_file", "create_key", "aws_region", "aws_endpoint"])]
    server_side: bool,
    /// Where the issuing CA's key is in KMS, make one for its successor and put the alias on it
    #[arg(long)]
    create_key: bool,
    #[command(flatten)]
    aws: AwsArgs,
}

#[derive(Serialize)]
struct RenewedView {
    issuer_id: String,
    /// Where the issuing CAs were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    issuing: Option<PathBuf>,
}

impl RenewIssuerArgs {
    fn run(&self, context: &Context) -> Result<Report> {
        if self.server_side {
            let client = context.client()?;
            let renewed =
                wait(async { Ok(client.issuers().renew_issuer(RenewIssuerRequest {}).await?.into_inner()) })?;
            let issuer = present(renewed.issuer, "issuer")?;
            return RenewedView { issuer_id: issuer.issuer_id, issuing: None }.report();
        }
        let home = local_home(self.home.as_deref(), context)?;
        let passphrase = self.key_passphrase_file.as_deref().map(secret_input::first_line).transpose()?;
        let variable = |name: &str| context.environment.variable(name);
        let renewed = wait(async {
            let means = means(&variable, self.aws.settings(), context);
            Ok(local::renew_issuing_ca(&home, passphrase.as_ref(), self.create_key, &means).await?)
        })?;
        RenewedView { issuer_id: renewed.to_string(), issuing: Some(home.issuing()) }.report()
    }
}

impl RenewedView {
    fn report(self) -> Result<Report> {
        let text = format!(
            "issuing CA {} signs from now on; what the old one signed goes on counting",
            self.issuer_id
        );
        Report::text(text, &self)
    }
}

/// The folder of the environment on this machine: the one that is named, that of AIRUNNER_HOME, that of the profile, or
/// the default.
pub(super) fn local_home(home: Option<&Path>, context: &Context) -> Result<Home> {
    if let Some(home) = home {
        return Ok(Home::at(home));
    }
    if context.environment.variable("AIRUNNER_HOME").is_none() {
        let profiles = Profiles::read(&context.environment)?;
        let profile = match context.environment.variable("AIRUNNER_PROFILE") {
            Some(name) => profiles.named(&name)?,
            None => profiles.default_profile()?,
        };
        if let Some(home) = profile.home {
            return Ok(Home::at(home));
        }
    }
    Ok(Home::from_environment(&|name| context.environment.variable(name))?)
}

/// What the local environment's files are read and written with.
pub(super) fn means<'a>(
    variable: &'a dyn Fn(&str) -> Option<String>,
    flags: Vec<FlagSetting>,
    context: &Context,
) -> Means<'a> {
    let (clock, random) = (Arc::clone(&context.clock), Arc::clone(&context.random));
    Means { variable, flags, watch: &|_| Ok(()), clock, random }
}
