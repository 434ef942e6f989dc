//! `certificate revoke`.

use airunner_client::Client;
use airunner_core::{PrincipalId, RevocationReason};
use airunner_proto::ca::v1::{
    self as pb, GetCertificateRequest, RevokeCertificatesRequest, RevokeCertificatesResponse,
};
use clap::Args;
use clap_complete::ArgValueCompleter;
use serde::Serialize;

use super::CertificateChoice;
use crate::{
    commands::present,
    complete,
    context::Context,
    failure::{Failure, Result},
    near::{Named, or_near},
    progress, prompt,
    report::Report,
    runtime::wait,
    values,
    view::certificate::CertificateView,
};

/// Certificates that a preview names one by one.
const NAMED: usize = 10;

#[derive(Args, Debug)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    choice: CertificateChoice,
    /// All certificates of this principal that have not expired
    #[arg(
        long,
        value_name = "ID",
        conflicts_with_all = ["name", "serial", "fingerprint"],
        add = ArgValueCompleter::new(complete::principals)
    )]
    principal: Option<PrincipalId>,
    /// Why, as RFC 5280 names it: keyCompromise, superseded, cessationOfOperation, privilegeWithdrawn...
    #[arg(long, value_name = "REASON", default_value = "unspecified", value_parser = values::reason)]
    reason: RevocationReason,
    /// Only say what would be revoked
    #[arg(long)]
    dry_run: bool,
    /// Wait until every live server has applied it, 10 s at most
    #[arg(long)]
    wait: bool,
    /// Don't ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Serialize)]
struct RevokedView {
    dry_run: bool,
    serial_numbers: Vec<String>,
    servers: Vec<ServerView>,
}

#[derive(Serialize)]
struct ServerView {
    server_id: String,
    address: String,
    applied: bool,
    fenced: bool,
}

impl RevokeArgs {
    pub(super) fn run(&self, context: &Context) -> Result<Report> {
        let request = self.request()?;
        let client = context.client()?;
        let (serial, principal) = (request.serial_number.clone(), request.principal_id.clone());
        let named =
            if principal.is_empty() { Named::Certificate(&serial) } else { Named::Principal(&principal) };
        let answer = wait(or_near(&client, named, async {
            let hit = if self.dry_run { None } else { self.confirm(context, &client, &request).await? };
            // All of it is one act: there is no more and less of it to be shown.
            let what = hit.map_or_else(|| "revoking".to_owned(), |hit| format!("revoking {}", counted(hit)));
            let until = if self.wait { ", until every server has applied it" } else { "" };
            let _working = progress::spinner(context.output, what + until);
            Ok(client.certificates().revoke_certificates(request).await?.into_inner())
        }))?;
        self.report(answer)
    }

    fn request(&self) -> Result<RevokeCertificatesRequest> {
        let (serial_number, fingerprint) = match (self.choice.get(), &self.principal) {
            (Some(name), _) => CertificateChoice::wire(name),
            (None, Some(_)) => (String::new(), String::new()),
            (None, None) => {
                return Err(Failure::Usage(
                    "which certificate? Name its serial number or its fingerprint, or a --principal"
                        .to_owned(),
                ));
            }
        };
        Ok(RevokeCertificatesRequest {
            serial_number,
            fingerprint,
            principal_id: self.principal.as_ref().map(ToString::to_string).unwrap_or_default(),
            reason: wire_reason(self.reason) as i32,
            dry_run: self.dry_run,
            wait: self.wait,
        })
    }

    /// Shows which certificates would be hit, if someone is asked. Returns how many then.
    async fn confirm(
        &self,
        context: &Context,
        client: &Client,
        request: &RevokeCertificatesRequest,
    ) -> Result<Option<usize>> {
        let whose = self.principal.as_ref().map(|id| format!(" of {id}")).unwrap_or_default();
        if self.yes || !prompt::is_possible() {
            let which = if self.principal.is_some() { "all certificates" } else { "this certificate" };
            prompt::confirm(&format!("Revoke {which}{whose}?"), self.yes).await?;
            return Ok(None);
        }
        let dry_run = RevokeCertificatesRequest { dry_run: true, wait: false, ..request.clone() };
        let hit = client.certificates().revoke_certificates(dry_run).await?.into_inner().serial_numbers;
        for serial_number in hit.iter().take(NAMED) {
            let one = GetCertificateRequest { serial_number: serial_number.clone(), ..Default::default() };
            let found = client.certificates().get_certificate(one).await?.into_inner().certificate;
            let view = CertificateView::from(present(found, "certificate")?);
            context.output.note(&view.line(context.now()));
        }
        if hit.len() > NAMED {
            context.output.note(&format!("  and {} more", hit.len() - NAMED));
        }
        prompt::confirm(&format!("Revoke {}{whose}, for good?", counted(hit.len())), false).await?;
        Ok(Some(hit.len()))
    }

    fn report(&self, answer: RevokeCertificatesResponse) -> Result<Report> {
        let server = |server: pb::ServerApplied| ServerView {
            server_id: server.server_id,
            address: server.address,
            applied: server.applied,
            fenced: server.fenced,
        };
        let view = RevokedView {
            dry_run: self.dry_run,
            serial_numbers: answer.serial_numbers,
            servers: answer.servers.into_iter().map(server).collect(),
        };
        let mut lines = vec![match (view.serial_numbers.len(), self.dry_run) {
            (0, _) => "there is nothing to revoke: what matches is revoked already, or expired".to_owned(),
            (count, true) => format!("{} would be revoked:", counted(count)),
            (count, false) => format!("{} revoked:", counted(count)),
        }];
        lines.extend(view.serial_numbers.iter().map(|serial| format!("  {serial}")));
        lines.extend(view.servers.iter().map(|server| {
            let state = match (server.applied, server.fenced) {
                (true, _) => "applied",
                (false, true) => "does not serve any more",
                (false, false) => "not applied yet",
            };
            format!("server {} at {}: {state}", server.server_id, server.address)
        }));
        let is_late = view.servers.iter().any(|server| !server.applied && !server.fenced);
        let report = Report::text(lines.join("\n"), &view)?;
        // Whoever waits wants to know that it is in force everywhere.
        Ok(if is_late { report.with_code(1) } else { report })
    }
}

fn counted(count: usize) -> String {
    if count == 1 { "1 certificate".to_owned() } else { format!("{count} certificates") }
}

const fn wire_reason(reason: RevocationReason) -> pb::RevocationReason {
    match reason {
        RevocationReason::Unspecified => pb::RevocationReason::Unspecified,
        RevocationReason::KeyCompromise => pb::RevocationReason::KeyCompromise,
        RevocationReason::CaCompromise => pb::RevocationReason::CaCompromise,
        RevocationReason::AffiliationChanged => pb::RevocationReason::AffiliationChanged,
        RevocationReason::Superseded => pb::RevocationReason::Superseded,
        RevocationReason::CessationOfOperation => pb::RevocationReason::CessationOfOperation,
        RevocationReason::CertificateHold => pb::RevocationReason::CertificateHold,
        RevocationReason::PrivilegeWithdrawn => pb::RevocationReason::PrivilegeWithdrawn,
        RevocationReason::AaCompromise => pb::RevocationReason::AaCompromise,
    }
}
