//! `whoami`.

use airunner_proto::principal::v1::WhoAmIRequest;
use serde::Serialize;

use super::present;
use crate::{
    context::Context,
    failure::Result,
    report::Report,
    runtime::wait,
    view::{
        self,
        moment::{Moment, told},
        principal::PrincipalView,
    },
};

#[derive(Serialize)]
struct WhoamiView {
    principal: PrincipalView,
    permissions: Vec<String>,
    serial_number: String,
    expires_at: Option<Moment>,
    fingerprint: String,
    certificate_hash: String,
    spiffe_id: String,
    job_id: Option<String>,
    server_version: String,
}

/// Asks the server who is calling.
pub(super) fn run(context: &Context) -> Result<Report> {
    let client = context.client()?;
    let answer = wait(async { Ok(client.principals().who_am_i(WhoAmIRequest {}).await?.into_inner()) })?;
    let view = WhoamiView {
        principal: present(answer.principal, "principal")?.into(),
        permissions: answer.permissions,
        serial_number: answer.serial_number,
        expires_at: view::time(answer.expires_at.as_ref()),
        fingerprint: answer.fingerprint,
        certificate_hash: answer.certificate_hash,
        spiffe_id: answer.spiffe_id,
        job_id: view::some(&answer.job_id),
        server_version: answer.server_version,
    };
    let mut fields = view.principal.fields(context.now());
    // Of oneself one wants to know what one is and may, not how the record came to be.
    fields.retain(|(name, _)| ["id", "type", "status", "roles", "email"].contains(name));
    fields.extend([
        ("permissions", view.permissions.join(", ")),
        ("job", view::cell(view.job_id.as_ref())),
        ("SPIFFE id", view.spiffe_id.clone()),
        ("serial number", view.serial_number.clone()),
        ("expires", told(view.expires_at, context.now())),
        ("fingerprint", view.fingerprint.clone()),
        ("certificate hash", view.certificate_hash.clone()),
        ("server's version", view.server_version.clone()),
    ]);
    Report::record(fields, &view)
}
