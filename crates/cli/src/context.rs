//! What a command works with: the environment, the connection, time and chance. Nothing is read before it is asked for.

use std::{path::PathBuf, sync::Arc};

use airunner_client::{Client, ClientOptions};
use airunner_core::{Clock, SecureRandom, Timestamp};
use airunner_net::system::{SystemClock, SystemRandom};

use crate::{
    cli::Cli,
    connection::{Connection, ConnectionArgs},
    failure::Result,
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
    pub(crate) fn new(cli: &Cli, environment: Environment) -> Result<Self> {
        let output = Output::of_process(cli.output.output, &environment)?;
        Ok(Self::with(output, cli.connection.clone(), environment))
    }

    /// A context in which nothing is printed.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub(crate) fn quiet(given: ConnectionArgs, environment: Environment) -> Result<Self> {
        let output = Output::of_process(None, &environment)?;
        Ok(Self::with(output, given, environment))
    }

    fn with(output: Output, given: ConnectionArgs, environment: Environment) -> Self {
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom::new()));
        Self { output, environment, clock, random, given }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The connection that was chosen.
    ///
    /// # Errors
    /// Usage, `config` and `file`, see [`Connection::resolve`].
    pub(crate) fn connection(&self) -> Result<Connection> {
        Connection::resolve(&self.given, &self.environment)
    }

    /// The profile that was named, by option or variable.
    pub(crate) fn profile_name(&self) -> Option<String> {
        self.given.profile.clone().or_else(|| self.environment.variable("AIRUNNER_PROFILE"))
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

    /// Those of this process.
    pub(crate) fn of_process() -> Self {
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
