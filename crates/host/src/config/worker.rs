//! `[worker]`: the worker inside the server.

use std::num::NonZeroU32;

use airunner_core::{Isolation, Labels, QueueName, Result, check_metadata};

use super::{environment::Environment, git::GitConfig, source::Source};

/// Protocols that git knows.
const PROTOCOLS: &[&str] = &["https", "ssh", "http", "git", "file"];
/// Jobs at a time at most: what one request for work may ask for.
const MAX_CONCURRENCY: u64 = 64;
/// Bytes that a buffer may have at most.
const MAX_BUFFER: u64 = 1 << 50;
/// Labels that one worker may have.
const MAX_LABELS: usize = 50;
/// Queues that one worker may serve.
const MAX_QUEUES: usize = 16;

/// The worker inside the server.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    embedded: bool,
    same_user: bool,
    run_as: Option<String>,
    isolation: Isolation,
    best_effort: bool,
    host_network: bool,
    git_protocols: Vec<String>,
    git: GitConfig,
    concurrency: NonZeroU32,
    queues: Vec<QueueName>,
    strict_order: bool,
    labels: Labels,
    output_buffer: Option<u64>,
}

impl WorkerConfig {
    pub(super) fn validate(source: &Source, environment: Environment) -> Result<Self> {
        let embedded = source.boolean("worker.embedded")?.unwrap_or(false);
        let same_user = source.boolean("worker.same_user")?.unwrap_or(false);
        let run_as = source.text("worker.run_as")?.map(str::to_owned);
        if same_user && run_as.is_some() {
            return Err(
                source.refuse("worker.run_as", "is set, but worker.same_user is true: remove one of the two")
            );
        }
        if run_as.as_deref() == Some("") {
            return Err(source.refuse("worker.run_as", "is empty: name a user"));
        }
        if embedded && same_user && environment != Environment::Local {
            return Err(source.refuse(
                "worker.same_user",
                "is true for the worker inside the server: its jobs could read the server's keys, and only \
                 environment = \"local\" may take that risk; run workers on machines of their own",
            ));
        }
        let git_protocols: Vec<String> = source
            .list("worker.git_protocols", PROTOCOLS.len())?
            .unwrap_or_else(|| vec!["https".into(), "ssh".into()]);
        if let Some(unknown) = git_protocols.iter().find(|name| !PROTOCOLS.contains(&name.as_str())) {
            return Err(source.refuse(
                "worker.git_protocols",
                format!("holds {unknown:?}, and git's protocols are {}", PROTOCOLS.join(", ")),
            ));
        }
        let concurrency = source
            .integer("worker.concurrency", 1..=MAX_CONCURRENCY)?
            .and_then(|number| u32::try_from(number).ok().and_then(NonZeroU32::new));
        let queues =
            source.list("worker.queues", MAX_QUEUES)?.unwrap_or_else(|| vec![QueueName::default_queue()]);
        if queues.is_empty() {
            return Err(
                source.refuse("worker.queues", "is empty: name a queue, or leave it out for \"default\"")
            );
        }
        Ok(Self {
            embedded,
            same_user,
            run_as,
            isolation: source.parsed("worker.isolation")?.unwrap_or_default(),
            best_effort: source.boolean("worker.best_effort")?.unwrap_or(false),
            host_network: source.boolean("worker.host_network")?.unwrap_or(false),
            git_protocols,
            git: GitConfig::validate(source)?,
            concurrency: concurrency.unwrap_or_else(default_concurrency),
            queues,
            strict_order: source.boolean("worker.strict_order")?.unwrap_or(false),
            labels: labels(source)?,
            output_buffer: source.integer("worker.output_buffer", 0..=MAX_BUFFER)?,
        })
    }

    /// Whether the server runs one.
    pub fn embedded(&self) -> bool {
        self.embedded
    }

    /// Whether jobs run as the server's own user, who can read its keys.
    pub fn same_user(&self) -> bool {
        self.same_user
    }

    /// The user that jobs run as, where a root worker is to use another than `nobody`.
    pub fn run_as(&self) -> Option<&str> {
        self.run_as.as_deref()
    }

    /// The least that jobs are kept from the server's machine; `none` where nothing is set.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Whether jobs may run without what the machine can't give, where they say so or ask for nothing themselves.
    pub fn best_effort(&self) -> bool {
        self.best_effort
    }

    /// Whether jobs may have the machine's network where the level is `sandbox`.
    pub fn host_network(&self) -> bool {
        self.host_network
    }

    /// Protocols that git may use; https and ssh where nothing is set.
    pub fn git_protocols(&self) -> &[String] {
        &self.git_protocols
    }

    /// How repositories are fetched, and what is kept of them.
    pub fn git(&self) -> &GitConfig {
        &self.git
    }

    /// Jobs at a time, 1 to 64; as many as there are processors where it is not set.
    pub fn concurrency(&self) -> NonZeroU32 {
        self.concurrency
    }

    /// The queues that it serves; `default` where nothing is set.
    pub fn queues(&self) -> &[QueueName] {
        &self.queues
    }

    /// Whether it serves them in order of preference, and not in turn.
    pub fn strict_order(&self) -> bool {
        self.strict_order
    }

    /// What it is, for jobs that require it of their worker.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Bytes on disk for what jobs print while the server takes nothing; what is not set is the worker's own business.
    pub fn output_buffer(&self) -> Option<u64> {
        self.output_buffer
    }
}

/// `labels = ["name=value", …]`.
fn labels(source: &Source) -> Result<Labels> {
    const KEY: &str = "worker.labels";
    let texts: Vec<String> = source.list(KEY, MAX_LABELS)?.unwrap_or_default();
    let mut labels = Labels::new();
    for text in &texts {
        let Some((name, value)) = text.split_once('=') else {
            return Err(source.refuse(KEY, format!("holds {text:?}, which is not name=value")));
        };
        labels.insert(name.to_owned(), value.to_owned());
    }
    check_metadata(KEY, &labels)
        .map_err(|error| source.refuse(KEY, format!("is refused: {}", error.message())))?;
    Ok(labels)
}

fn default_concurrency() -> NonZeroU32 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    u32::try_from(processors.min(64)).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}
