//! `ca`: the certificate authority.

use std::path::PathBuf;

use airunner_host::{
    Home, environment_variable, files,
    local::{self, Means},
};
use airunner_pki::{IssuerCertificate, certificates_from_pem};
use airunner_proto::ca::v1 as pb;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    Result,
    context::{Context, block_on},
    report::{Human, Report},
    view::Fields,
};

/// The certificate authority.
#[derive(Debug, Args)]
pub(crate) struct CaArgs {
    #[command(subcommand)]
    command: CaCommand,
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Which CAs are trusted, and until when
    Show,
    /// Print the trust bundle, PEM
    Bundle(BundleArgs),
    /// Make a successor of the issuing CA, on the machine that has the root's key
    RenewIssuer(RenewIssuerArgs),
}

#[derive(Debug, Args)]
struct BundleArgs {
    /// The issuing CAs too
    #[arg(long)]
    issuing: bool,
}

#[derive(Debug, Args)]
struct RenewIssuerArgs {
    /// The folder of the local environment; by default the profile's
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct CaView {
    trust_domain: String,
    bundle_hash: String,
    authorities: Vec<AuthorityView>,
}

#[derive(Serialize)]
struct AuthorityView {
    kind: &'static str,
    subject: String,
    key: &'static str,
    not_before: String,
    not_after: String,
    sha256: String,
}

#[derive(Serialize)]
struct BundleView {
    trust_domain: String,
    bundle_hash: String,
    roots_pem: String,
    issuing_pem: String,
}

impl CaArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Report> {
        match self.command {
            CaCommand::Show => show(context),
            CaCommand::Bundle(args) => args.run(context),
            CaCommand::RenewIssuer(args) => args.run(context),
        }
    }
}

fn show(context: &Context) -> Result<Report> {
    let bundle = bundle(context)?;
    let mut authorities =
        of(&bundle.roots_pem, if bundle.issuing_pem.is_empty() { "single" } else { "root" })?;
    authorities.extend(of(&bundle.issuing_pem, "issuing")?);
    let rows = authorities
        .iter()
        .map(|ca| {
            vec![
                ca.kind.to_owned(),
                ca.subject.clone(),
                ca.key.to_owned(),
                ca.not_after.clone(),
                ca.sha256.clone(),
            ]
        })
        .collect();
    let human = Human::Table {
        head: &["kind", "subject", "key", "until", "sha-256"],
        rows,
        empty: "There is no CA.",
    };
    let view = CaView { trust_domain: bundle.trust_domain, bundle_hash: bundle.bundle_hash, authorities };
    Ok(Report::new(view, human))
}

fn of(pem: &str, kind: &'static str) -> Result<Vec<AuthorityView>> {
    if pem.is_empty() {
        return Ok(Vec::new());
    }
    let view = |der: Vec<u8>| {
        let ca = IssuerCertificate::parse(&der)?;
        Ok(AuthorityView {
            kind,
            subject: ca.subject_dn().to_owned(),
            key: ca.algorithm().as_str(),
            not_before: ca.not_before().to_string(),
            not_after: ca.not_after().to_string(),
            sha256: ca.fingerprint().to_hex(),
        })
    };
    certificates_from_pem(pem.as_bytes())?.into_iter().map(view).collect()
}

impl BundleArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let bundle = bundle(context)?;
        let issuing = if self.issuing { bundle.issuing_pem.as_str() } else { "" };
        let text = format!("{}{issuing}", bundle.roots_pem);
        let view = BundleView {
            trust_domain: bundle.trust_domain,
            bundle_hash: bundle.bundle_hash,
            roots_pem: bundle.roots_pem,
            issuing_pem: bundle.issuing_pem,
        };
        Ok(Report::new(view, Human::Text(text)))
    }
}

fn bundle(context: &Context) -> Result<pb::GetTrustBundleResponse> {
    let request = pb::GetTrustBundleRequest {};
    context.call(async |client| Ok(client.certificates().get_trust_bundle(request).await?.into_inner()))
}

impl RenewIssuerArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let home = local_home(context, self.output_dir.as_deref())?;
        let means =
            Means { variable: &environment_variable, clock: context.clock(), random: context.random() };
        let passphrase = context.connection_args().key_passphrase_file.as_ref();
        let passphrase = passphrase.map(|path| files::read_passphrase(path)).transpose()?;
        let id = block_on(async { Ok(local::renew_issuing_ca(&home, passphrase.as_ref(), &means).await?) })?;
        let document = serde_json::json!({ "issuer_id": id.to_string(), "home": home.path() });
        let human = Fields::new()
            .with("issuing CA", id.to_string())
            .with("old one", "signs no more; what it signed goes on counting")
            .done();
        Ok(Report::new(document, human))
    }
}

/// The local environment that is meant: the one that is named, the profile's, or the default.
pub(super) fn local_home(context: &Context, named: Option<&std::path::Path>) -> Result<Home> {
    if let Some(path) = named {
        return Ok(Home::at(super::enroll::absolute(path)?));
    }
    if let Some(path) = context.connection()?.home {
        return Ok(Home::at(path));
    }
    Ok(Home::from_environment(airunner_host::config::Environment::Local, &environment_variable)?)
}
