//! What commands have that run for long: a log on stderr, and signals that tell them to stop. What they do is not known
//! here.

use std::io::{self, IsTerminal};

use airunner_core::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Environment,
    failure::{Failure, Result},
};

/// Starts the log: on stderr, from `info` on, or as the variable AIRUNNER_LOG says.
///
/// # Errors
/// Usage, where the variable can't be understood.
pub(crate) fn start_log(environment: &Environment) -> Result<()> {
    let wanted = environment.variable("AIRUNNER_LOG").unwrap_or_else(|| "info".to_owned());
    let filter = tracing_subscriber::EnvFilter::builder().parse(&wanted).map_err(|error| {
        Failure::Usage(format!("AIRUNNER_LOG is {wanted:?}: {error}; write a level, as info or debug"))
    })?;
    let is_plain = environment.variable("NO_COLOR").is_some();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(!is_plain && io::stderr().is_terminal());
    Ok(log.try_init().map_err(Error::internal)?)
}

/// A token that SIGINT and SIGTERM cancel.
///
/// # Errors
/// Where signals can't be listened to.
pub(crate) fn shutdown_signal() -> Result<CancellationToken> {
    let mut interrupts = signal(SignalKind::interrupt()).map_err(Error::internal)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(Error::internal)?;
    let shutdown = CancellationToken::new();
    let told = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupts.recv() => {}
            _ = terminations.recv() => {}
        }
        tracing::info!("told to stop");
        told.cancel();
    });
    Ok(shutdown)
}
