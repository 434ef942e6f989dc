//! What a command works with: the environment, the connection, time and chance, and the runtime, made when it is needed.

use std::{future::Future, path::PathBuf, sync::Arc};

use airunner_client::{Client, ClientOptions};
use airunner_core::{Clock, Error, SecureRandom};
use airunner_net::system::{SystemClock, SystemRandom};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use crate::{
    cli::Cli,
    connection::{Connection, ConnectionArgs},
    failure::{Failure, Result},
    report::Output,
};

/// What every command gets.
pub(crate) struct Context {
    /// How results are written.
    pub(crate) output: Output,
    /// Variables and folders of the user.
    pub(crate) environment: Environment,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Chance.
    pub(crate) random: Arc<dyn SecureRandom>,
    given: ConnectionArgs,
}

impl Context {
    /// The context of this process. Reads no file.
    ///
    /// # Errors
    /// A usage error for an output format that is none.
    pub(crate) fn new(cli: &Cli) -> Result<Self> {
        let environment = Environment::of_process();
        Ok(Self {
            output: Output::of_process(cli.output.output, &environment)?,
            environment,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom::new()),
            given: cli.connection.clone(),
        })
    }

    /// The connection that was chosen.
    ///
    /// # Errors
    /// Usage, `config` and `file`, see [`Connection::resolve`].
    pub(crate) fn connection(&self) -> Result<Connection> {
        Connection::resolve(&self.given, &self.environment)
    }

    /// What a client is made of.
    ///
    /// # Errors
    /// As [`Context::connection`], and where nothing says which server or identity.
    pub(crate) fn client_options(&self) -> Result<ClientOptions> {
        self.connection()?.options(Arc::clone(&self.clock), Arc::clone(&self.random))
    }

    /// A client of the server. It connects with its first call.
    ///
    /// # Errors
    /// As [`Context::client_options`]; `file` where the identity can't be used.
    pub(crate) fn client(&self) -> Result<Client> {
        Ok(Client::new(self.client_options()?)?)
    }

    /// Runs what waits, on this thread. Ctrl-C and SIGTERM end it there: what it holds is dropped, so a prompt gives the
    /// terminal back as it was.
    ///
    /// # Errors
    /// What `work` fails with; [`Failure::Interrupted`], [`Failure::Terminated`].
    pub(crate) fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
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
    pub(crate) fn wait_with_signals<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        on(Builder::new_current_thread(), work)
    }

    /// Runs what waits, on as many threads as the machine has processors, and leaves signals to it.
    ///
    /// # Errors
    /// What `work` fails with.
    pub(crate) fn wait_on_all_cores<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        on(Builder::new_multi_thread(), work)
    }
}

fn on<T>(mut builder: Builder, work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = builder.enable_all().build().map_err(Error::internal)?;
    let done = runtime.block_on(work);
    // A prompt that was given up may still wait for its line in a thread of its own.
    runtime.shutdown_background();
    done
}

type Variables = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Variables of the environment. An empty one counts as not set.
#[derive(Clone)]
pub(crate) struct Environment(Arc<Variables>);

impl Environment {
    /// Variables from anywhere.
    pub(crate) fn new(variable: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(variable))
    }

    fn of_process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    /// The variable, if it is set.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// A folder of the XDG base directory specification: its variable, or else one below `HOME`. As that wants, a
    /// relative path is ignored.
    pub(crate) fn folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let named = self.variable(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        named.or_else(|| self.variable("HOME").map(|home| PathBuf::from(home).join(below_home)))
    }
}
