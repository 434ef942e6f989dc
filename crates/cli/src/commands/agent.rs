//! `agent`: keeps an identity alive.

use std::sync::Arc;

use airunner_agent::{RotationOptions, rotate};
use airunner_client::{Client, IdentitySource};
use clap::Args;

use crate::{
    context::Context,
    failure::Result,
    report::Report,
    runtime::wait_with_signals,
    service::{shutdown_signal, start_log},
};

/// Keep an identity fresh until stopped.
///
/// Renews the identity's folder (--identity, or that of the profile) at two thirds of its life plus up to a tenth by
/// chance, and tries again while that fails. Logs to stderr, at the level of AIRUNNER_LOG (info).
#[derive(Args, Debug)]
pub(crate) struct AgentArgs {
    /// What to run after each exchange, by `sh -c`, as "systemctl reload nginx"
    #[arg(long, value_name = "LINE")]
    after: Option<String>,
}

impl AgentArgs {
    pub(crate) fn run(&self, context: &Context) -> Result<Report> {
        let files = context.connection()?.identity_files()?;
        let mut options = context.client_options()?;
        options.identity = Some(IdentitySource::Folder(files.clone()));
        let client = Client::new(options)?;
        start_log(&context.environment)?;
        wait_with_signals(async {
            let shutdown = shutdown_signal()?;
            let (clock, random) = (Arc::clone(&context.clock), Arc::clone(&context.random));
            tracing::info!(identity = %files.folder().display(), "keeping it fresh");
            rotate(client, RotationOptions { files, after: self.after.clone() }, clock, random, shutdown)
                .await;
            Ok(Report::nothing())
        })
    }
}
