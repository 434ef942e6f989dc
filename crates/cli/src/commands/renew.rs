//! `renew`.

use std::path::PathBuf;

use airunner_client::{Client, IdentitySource, renew};
use clap::Args;
use serde::Serialize;

use crate::{context::Context, failure::Result, report::Report};

/// Renew an identity now.
///
/// A new key and its certificate take the place of the old ones in the identity's folder (--identity, or that of the
/// profile); whatever uses the folder takes them over. The old certificate still counts for an hour.
#[derive(Args, Debug)]
pub(crate) struct RenewArgs {}

#[derive(Serialize)]
struct RenewedView {
    serial_number: String,
    expires_at: String,
    identity: PathBuf,
    predecessor_retire_at: Option<String>,
}

impl RenewArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        let files = context.connection()?.identity_files()?;
        let mut options = context.client_options()?;
        options.identity = Some(IdentitySource::Folder(files.clone()));
        let client = Client::new(options)?;
        let renewed = context.wait(async { Ok(renew(&files, &client).await?) })?;
        let view = RenewedView {
            serial_number: renewed.identity.serial().to_string(),
            expires_at: renewed.identity.not_after().to_string(),
            identity: files.folder().to_owned(),
            predecessor_retire_at: renewed.predecessor_retire_at.map(|at| at.to_string()),
        };
        let mut text = format!("renewed: certificate {} until {}", view.serial_number, view.expires_at);
        if let Some(at) = &view.predecessor_retire_at {
            text.push_str(&format!("; the old one still counts until {at}"));
        }
        Report::text(text, &view)
    }
}
