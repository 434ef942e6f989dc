//! The runtime, made when a command needs one, and what Ctrl-C means then.

use airunner_core::Error;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use crate::failure::{Failure, Result};

/// Runs what waits, on this thread. Ctrl-C and SIGTERM end it there: what it holds is dropped, so a prompt gives the
/// terminal back as it was.
///
/// # Errors
/// What `work` fails with; [`Failure::Interrupted`], [`Failure::Terminated`].
pub(crate) fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    on(Builder::new_current_thread(), async {
        let mut interrupts = signal(SignalKind::interrupt()).map_err(Error::internal)?;
        let mut terminations = signal(SignalKind::terminate()).map_err(Error::internal)?;
        tokio::select! {
            done = work => done,
            _ = interrupts.recv() => Err(Failure::Interrupted),
            _ = terminations.recv() => Err(Failure::Terminated),
        }
    })
}

/// Runs what waits, on this thread, and leaves signals to it.
///
/// # Errors
/// What `work` fails with.
pub(crate) fn wait_with_signals<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    on(Builder::new_current_thread(), work)
}

/// Runs what waits, on as many threads as the machine has processors, and leaves signals to it.
///
/// # Errors
/// What `work` fails with.
pub(crate) fn wait_on_all_cores<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    on(Builder::new_multi_thread(), work)
}

fn on<T>(mut builder: Builder, work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = builder.enable_all().build().map_err(Error::internal)?;
    let done = runtime.block_on(work);
    // A prompt that was given up may still wait for its line in a thread of its own.
    runtime.shutdown_background();
    done
}
