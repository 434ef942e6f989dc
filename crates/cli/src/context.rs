//! What every command is given: the connection it may open, the console, the clock and randomness.

use std::sync::Arc;

use airunner_client::Client;
use airunner_core::{Clock, SecureRandom, Timestamp};
use airunner_net::system::{SystemClock, SystemRandom};

use crate::{Result, connection::ConnectionArgs, report::Console};

pub(crate) struct Context {
    connection: ConnectionArgs,
    console: Console,
    clock: Arc<SystemClock>,
    random: Arc<SystemRandom>,
}

impl Context {
    pub(crate) fn new(connection: ConnectionArgs, console: Console) -> Self {
        Self { connection, console, clock: Arc::new(SystemClock), random: Arc::new(SystemRandom::new()) }
    }

    pub(crate) fn connection_args(&self) -> &ConnectionArgs {
        &self.connection
    }

    pub(crate) fn console(&self) -> &Console {
        &self.console
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn random(&self) -> Arc<dyn SecureRandom> {
        self.random.clone()
    }

    /// A client that shows who calls; it connects with its first call.
    pub(crate) fn client(&self) -> Result<Client> {
        let mut options = self.connection()?.options()?;
        options.clock = self.clock();
        options.random = self.random();
        Ok(Client::new(options)?)
    }

    /// Runs what talks to the server, with such a client.
    pub(crate) fn call<T, F>(&self, act: impl FnOnce(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let client = self.client()?;
        block_on(act(client))
    }
}

/// Runs a future to its end on a runtime of its own: made here, where it is first needed.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(airunner_core::Error::internal)?;
    let result = runtime.block_on(future);
    // A thread that waits for a terminal or a disk is not waited for.
    runtime.shutdown_background();
    result
}
