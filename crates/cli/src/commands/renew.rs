//! `renew`, which is `certificate renew` too.

use std::path::PathBuf;

use airunner_client::{Client, IdentitySource, renew};
use serde::Serialize;

use crate::{context::Context, failure::Result, report::Report, runtime::wait};

#[derive(Serialize)]
struct RenewedView {
    serial_number: String,
    expires_at: String,
    identity: PathBuf,
    predecessor_retire_at: Option<String>,
}

/// Renews the identity of the connection.
pub(super) fn run(context: &Context) -> Result<Report> {
    let files = context.connection()?.identity_files()?;
    let mut options = context.client_options()?;
    options.identity = Some(IdentitySource::Folder(files.clone()));
    let client = Client::new(options)?;
    let renewed = wait(async { Ok(renew(&files, &client).await?) })?;
    let view = RenewedView {
        serial_number: renewed.identity.serial().to_string(),
        expires_at: renewed.identity.not_after().to_string(),
        identity: files.folder().to_owned(),
        predecessor_retire_at: renewed.predecessor_retire_at.map(|at| at.to_string()),
    };
    let old = view.predecessor_retire_at.as_ref();
    let old = old.map(|at| format!("; the old one still counts until {at}")).unwrap_or_default();
    let text = format!("renewed: certificate {} until {}{old}", view.serial_number, view.expires_at);
    Report::text(text, &view)
}
