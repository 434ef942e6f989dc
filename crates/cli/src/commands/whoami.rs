//! `whoami`.

use airunner_proto::principal::v1 as pb;
use clap::Args;
use serde::Serialize;

use crate::{
    Result,
    context::Context,
    report::Report,
    view::{Fields, principal::PrincipalView, text, time},
};

/// Who the server takes you for.
#[derive(Debug, Args)]
pub(crate) struct WhoamiArgs {}

#[derive(Serialize)]
struct WhoamiView {
    #[serde(flatten)]
    principal: PrincipalView,
    permissions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_hash: Option<String>,
    spiffe_id: String,
}

impl WhoamiArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Report> {
        let answer = context.call(async |client| {
            Ok(client.principals().who_am_i(pb::WhoAmIRequest {}).await?.into_inner())
        })?;
        let view = WhoamiView {
            principal: answer.principal.unwrap_or_default().into(),
            permissions: answer.permissions,
            serial_number: text(answer.serial_number),
            expires_at: time(answer.expires_at.as_ref()),
            fingerprint: text(answer.fingerprint),
            certificate_hash: text(answer.certificate_hash),
            spiffe_id: answer.spiffe_id,
        };
        let [principal, principal_type, status, roles] = view.principal.who();
        let human = Fields::new()
            .with("principal", principal)
            .with("type", principal_type)
            .with("status", status)
            .with("roles", roles)
            .list("permissions", &view.permissions)
            .with("SPIFFE id", &view.spiffe_id)
            .maybe("certificate", view.serial_number.as_ref())
            .maybe("expires", view.expires_at.as_ref())
            .maybe("SHA-256", view.fingerprint.as_ref())
            .done();
        Ok(Report::new(view, human))
    }
}
