//! `renew`: an identity's certificate, now.

use airunner_client::{Client, renew};
use clap::Args;
use serde::Serialize;

use crate::{
    Result,
    context::{Context, block_on},
    report::Report,
    view::Fields,
};

/// Renew an identity's certificate now.
#[derive(Debug, Args)]
pub(crate) struct RenewArgs {}

#[derive(Serialize)]
struct RenewView {
    serial_number: String,
    expires_at: String,
    folder: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor_retire_at: Option<String>,
}

impl RenewArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Report> {
        let connection = context.connection()?;
        let files = connection.identity_files()?;
        let mut options = connection.options()?;
        options.clock = context.clock();
        options.random = context.random();
        let client = Client::new(options)?;
        let renewed = block_on(async { Ok(renew(&files, &client).await?) })?;
        let view = RenewView {
            serial_number: renewed.identity.serial().to_string(),
            expires_at: renewed.identity.not_after().to_string(),
            folder: files.folder().display().to_string(),
            predecessor_retire_at: renewed.predecessor_retire_at.map(|at| at.to_string()),
        };
        let human = Fields::new()
            .with("certificate", &view.serial_number)
            .with("expires", &view.expires_at)
            .maybe("old one until", view.predecessor_retire_at.as_ref())
            .with("folder", &view.folder)
            .done();
        Ok(Report::new(view, human))
    }
}
