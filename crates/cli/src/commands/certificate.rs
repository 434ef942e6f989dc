//! `certificate`: issue, look up, revoke. What looks at files is in `certificate/`.

mod generate;
mod inspect;

use std::{path::PathBuf, time::Duration};

use airunner_core::{Fingerprint, PrincipalId, RevocationReason, Serial};
use airunner_host::{
    environment_variable,
    files::{self, Access},
    local::{self, Means},
};
use airunner_proto::ca::v1 as pb;
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use super::{ca::local_home, paging::PageArgs, renew::RenewArgs};
use crate::{
    Result,
    context::{Context, block_on},
    failure::Failure,
    prompt,
    report::{Human, Report},
    value::{PrincipalArg, duration, wire},
    view::certificate::{CertificateView, reason_number},
};

/// Certificates.
#[derive(Debug, Args)]
pub(crate) struct CertificateArgs {
    #[command(subcommand)]
    command: CertificateCommand,
}

#[derive(Debug, Subcommand)]
enum CertificateCommand {
    /// Make a key and a CSR here, and have the certificate issued
    Generate(generate::GenerateArgs),
    /// Have a certificate issued for a CSR
    Issue(IssueArgs),
    /// Make a certificate known that was signed elsewhere
    Register(RegisterArgs),
    /// List certificates
    List(ListArgs),
    /// Show a certificate of the registry
    Get(GetArgs),
    /// Show the certificates in a file
    Show(inspect::ShowArgs),
    /// Check a certificate in a file: its chain, its time, and what the registry says of it
    Verify(inspect::VerifyArgs),
    /// Renew an identity's certificate now
    Renew(RenewArgs),
    /// Replace the server's certificate of the local environment now
    Rotate(RotateArgs),
    /// Revoke certificates; in force at once
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
struct IssueArgs {
    #[command(flatten)]
    principal: PrincipalArg,
    /// The CSR, PEM or DER; - is standard input
    #[arg(long, value_name = "FILE")]
    csr: PathBuf,
    /// A shorter life than the principal's
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    validity: Option<Duration>,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// A retry with the same id and content gets the same certificate
    #[arg(long, value_name = "ID", default_value = "")]
    request_id: String,
    /// Write certificate and chain here; without it, they are printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RegisterArgs {
    #[command(flatten)]
    principal: PrincipalArg,
    /// The certificate, PEM or DER; - is standard input
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only this principal's
    #[arg(long, visible_alias = "account", value_name = "PRINCIPAL")]
    principal: Option<PrincipalId>,
    /// Only those that expire within this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires_within: Option<Duration>,
    /// Only revoked ones
    #[arg(long, conflicts_with = "active")]
    revoked: bool,
    /// Only those that count now
    #[arg(long)]
    active: bool,
    #[command(flatten)]
    page: PageArgs,
}

/// Which certificate.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["serial", "id", "fingerprint"]))]
struct GetArgs {
    /// Its serial number, hex
    serial: Option<Serial>,
    /// The same, as a flag
    #[arg(long, value_name = "SERIAL", alias = "serial")]
    id: Option<Serial>,
    /// Its SHA-256, base64 or hex, in place of the serial number
    #[arg(long, value_name = "SHA-256")]
    fingerprint: Option<Fingerprint>,
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// The server's certificate
    // The global flag of this name takes a URL; clap keeps both under one id, so this is a text too.
    #[arg(long, required = true, num_args = 0..=1, require_equals = true, default_missing_value = "", hide_possible_values = true)]
    server: Option<String>,
    /// The folder of the local environment; by default the profile's
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
}

/// Which certificates, and why.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["serial", "id", "fingerprint", "principal"]))]
struct RevokeArgs {
    /// A serial number, hex
    serial: Option<Serial>,
    /// The same, as a flag
    #[arg(long, value_name = "SERIAL", alias = "serial")]
    id: Option<Serial>,
    /// A SHA-256, base64 or hex
    #[arg(long, value_name = "SHA-256")]
    fingerprint: Option<Fingerprint>,
    /// All unexpired certificates of this principal
    #[arg(long, visible_alias = "account", value_name = "PRINCIPAL")]
    principal: Option<PrincipalId>,
    /// Why, as in RFC 5280: keyCompromise, superseded, cessationOfOperation …
    #[arg(long, value_name = "REASON", default_value = "unspecified")]
    reason: RevocationReason,
    /// Only say what would be revoked
    #[arg(long)]
    dry_run: bool,
    /// Wait until every server has applied it, at most 10 s
    #[arg(long)]
    wait: bool,
    /// Don't ask
    #[arg(long, short = 'y')]
    yes: bool,
}

#[derive(Serialize)]
struct IssuedView {
    #[serde(flatten)]
    certificate: CertificateView,
    chain_pem: String,
}

impl CertificateArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Report> {
        match self.command {
            CertificateCommand::Generate(args) => args.run(context),
            CertificateCommand::Issue(args) => args.run(context),
            CertificateCommand::Register(args) => args.run(context),
            CertificateCommand::List(args) => args.run(context),
            CertificateCommand::Get(args) => args.run(context),
            CertificateCommand::Show(args) => args.run(context),
            CertificateCommand::Verify(args) => args.run(context),
            CertificateCommand::Renew(args) => args.run(context),
            CertificateCommand::Rotate(args) => args.run(context),
            CertificateCommand::Revoke(args) => args.run(context),
        }
    }
}

impl IssueArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let request = pb::IssueCertificateRequest {
            principal_id: self.principal.get(),
            csr: inspect::read(&self.csr)?,
            validity: self.validity.map(wire),
            description: self.description,
            request_id: self.request_id,
        };
        let answer = context
            .call(async |client| Ok(client.certificates().issue_certificate(request).await?.into_inner()))?;
        let view = IssuedView {
            certificate: answer.certificate.unwrap_or_default().into(),
            chain_pem: answer.chain_pem,
        };
        let pem = format!("{}{}", view.certificate.pem, view.chain_pem);
        let human = match &self.out {
            Some(path) => {
                files::write(path, pem.as_bytes(), Access::Public)?;
                view.certificate.fields(&context.now().to_string())
            }
            None => Human::Text(pem),
        };
        Ok(Report::new(view, human))
    }
}

impl RegisterArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let request = pb::RegisterCertificateRequest {
            principal_id: self.principal.get(),
            certificate: inspect::read(&self.certificate)?,
            description: self.description,
        };
        let answer = context.call(async |client| {
            Ok(client.certificates().register_certificate(request).await?.into_inner())
        })?;
        Ok(shown(answer.certificate, context))
    }
}

impl ListArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let listed = context.call(async |client| {
            let fetch = |page_size, page_token| {
                let request = pb::ListCertificatesRequest {
                    page_size,
                    page_token,
                    principal_id: self.principal.as_ref().map(ToString::to_string).unwrap_or_default(),
                    expires_within: self.expires_within.map(wire),
                    revoked: self.revoked.then_some(true),
                    active: self.active,
                };
                let mut certificates = client.certificates();
                async move {
                    let answer = certificates.list_certificates(request).await?.into_inner();
                    let page = answer.certificates.into_iter().map(CertificateView::from).collect();
                    Ok((page, answer.next_page_token))
                }
            };
            self.page.collect(fetch).await
        })?;
        listed.note(context);
        let now = context.now().to_string();
        let rows = listed.items.iter().map(|certificate: &CertificateView| certificate.row(&now)).collect();
        let human =
            Human::Table { head: CertificateView::HEAD, rows, empty: "There is no such certificate." };
        Ok(Report::new(listed.document("certificates"), human))
    }
}

impl GetArgs {
    fn run(self, context: &Context) -> Result<Report> {
        let request = pb::GetCertificateRequest {
            serial_number: self.serial.or(self.id).map(|serial| serial.to_string()).unwrap_or_default(),
            fingerprint: self.fingerprint.map(|fingerprint| fingerprint.to_string()).unwrap_or_default(),
        };
        let answer = context
            .call(async |client| Ok(client.certificates().get_certificate(request).await?.into_inner()))?;
        Ok(shown(answer.certificate, context))
    }
}

impl RotateArgs {
    fn run(self, context: &Context) -> Result<Report> {
        if self.server.is_some_and(|server| !server.is_empty()) {
            return Err(Failure::Usage(
                "--server stands without a value here: it says whose certificate".to_owned(),
            ));
        }
        let home = local_home(context, self.output_dir.as_deref())?;
        let means =
            Means { variable: &environment_variable, clock: context.clock(), random: context.random() };
        let step = block_on(async { Ok(local::rotate_server(&home, &means).await?) })?;
        let document = serde_json::json!({
            "what": step.what,
            "outcome": step.outcome.as_str(),
            "detail": step.detail,
            "file": home.server().cert,
        });
        let text = format!(
            "{} {}: {}\nA running server takes it from {} within seconds.",
            step.what,
            step.outcome,
            step.detail,
            home.server().cert.display()
        );
        Ok(Report::new(document, Human::Text(text)))
    }
}

#[derive(Serialize)]
struct RevokedView {
    serial_numbers: Vec<String>,
    dry_run: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    servers: Vec<AppliedView>,
}

#[derive(Serialize)]
struct AppliedView {
    server_id: String,
    address: String,
    applied: bool,
    fenced: bool,
}

impl RevokeArgs {
    fn run(self, context: &Context) -> Result<Report> {
        if !self.dry_run {
            prompt::confirm(&format!("revoke {} for good", self.what()), self.yes)?;
        }
        let request = pb::RevokeCertificatesRequest {
            serial_number: self.serial.or(self.id).map(|serial| serial.to_string()).unwrap_or_default(),
            fingerprint: self.fingerprint.map(|fingerprint| fingerprint.to_string()).unwrap_or_default(),
            principal_id: self.principal.as_ref().map(ToString::to_string).unwrap_or_default(),
            reason: reason_number(self.reason),
            dry_run: self.dry_run,
            wait: self.wait,
        };
        let answer = context.call(async |client| {
            Ok(client.certificates().revoke_certificates(request).await?.into_inner())
        })?;
        let servers = answer.servers.into_iter().map(|server| AppliedView {
            server_id: server.server_id,
            address: server.address,
            applied: server.applied,
            fenced: server.fenced,
        });
        let view = RevokedView {
            serial_numbers: answer.serial_numbers,
            dry_run: self.dry_run,
            servers: servers.collect(),
        };
        let text = view.text();
        Ok(Report::new(view, Human::Text(text)))
    }

    fn what(&self) -> String {
        match (&self.principal, self.fingerprint, self.serial.or(self.id)) {
            (Some(principal), ..) => format!("all certificates of {principal}"),
            (None, Some(fingerprint), _) => format!("the certificate with SHA-256 {fingerprint}"),
            (None, None, Some(serial)) => format!("the certificate {serial}"),
            (None, None, None) => "nothing".to_owned(),
        }
    }
}

impl RevokedView {
    fn text(&self) -> String {
        let done = if self.dry_run { "would be revoked" } else { "revoked" };
        if self.serial_numbers.is_empty() {
            return format!("No certificate {done}: none counts that was not revoked before.");
        }
        let mut lines: Vec<String> =
            self.serial_numbers.iter().map(|serial| format!("{serial}  {done}")).collect();
        lines.extend(self.servers.iter().map(|server| {
            let state = match (server.applied, server.fenced) {
                (true, _) => "applied",
                (false, true) => "stands still, and serves nobody",
                (false, false) => "not yet",
            };
            format!("server {} {}: {state}", server.server_id, server.address)
        }));
        lines.join("\n")
    }
}

fn shown(certificate: Option<pb::Certificate>, context: &Context) -> Report {
    let view = CertificateView::from(certificate.unwrap_or_default());
    let human = view.fields(&context.now().to_string());
    Report::new(view, human)
}
