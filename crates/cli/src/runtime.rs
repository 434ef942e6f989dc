//! The runtime, made when a command needs one, and what Ctrl-C means then.

use airunner_core::Error;
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::failure::{Failure, Result};

/// Runs what waits, on this thread. Ctrl-C and SIGTERM end it there: what it holds is dropped, so a prompt gives the
/// terminal back as it was.
///
/// # Errors
/// What `work` fails with; [`Failure::Interrupted`], [`Failure::Terminated`].
pub(crate) fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    on(Builder::new_current_thread(), async {
        let mut signals = Signals::listen()?;
        tokio::select! {
            done = work => done,
            failure = signals.next() => Err(failure),
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

/// Ctrl-C and SIGTERM.
pub(crate) struct Signals {
    interrupts: Signal,
    terminations: Signal,
}

impl Signals {
    /// Takes them from now on; they no longer end the process.
    ///
    /// # Errors
    /// Where signals can't be listened to.
    pub(crate) fn listen() -> Result<Self> {
        Ok(Self {
            interrupts: signal(SignalKind::interrupt()).map_err(Error::internal)?,
            terminations: signal(SignalKind::terminate()).map_err(Error::internal)?,
        })
    }

    /// Waits for one: [`Failure::Interrupted`] or [`Failure::Terminated`].
    pub(crate) async fn next(&mut self) -> Failure {
        tokio::select! {
            _ = self.interrupts.recv() => Failure::Interrupted,
            _ = self.terminations.recv() => Failure::Terminated,
        }
    }
}

fn on<T>(mut builder: Builder, work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = builder.enable_all().build().map_err(Error::internal)?;
    let done = runtime.block_on(work);
    // A prompt that was given up may still wait for its line in a thread of its own.
    runtime.shutdown_background();
    done
}
