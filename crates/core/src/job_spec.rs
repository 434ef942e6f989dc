//! What is asked to be run, and how. It never changes in the life of its job; where that is, is in `job.rs`.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Grants, Isolation, ResourceLimits, Sealed, TerminalSize};

/// Names with a value each: what a job or a worker is said to be, and what a job requires of its worker.
pub type Labels = BTreeMap<String, String>;

/// Whether `labels` hold every name of `wanted` with the value that it has there.
pub fn holds_all(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// How a job's standard streams are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessType {
    /// Separate pipes for stdout and stderr.
    #[default]
    Pipe,
    /// A terminal (PTY), controlling, of this size at first. What it prints is all of stdout.
    Terminal(TerminalSize),
}

/// A git repository that the worker clones before it runs the command in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Where it is.
    pub url: String,
    /// A commit id, branch or tag; empty is the remote's HEAD.
    pub revision: String,
}

/// Variables of a job whose values are in the store only sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSecrets {
    /// Their names, in order.
    pub names: Vec<String>,
    /// Their values, as whoever sealed them wrote them.
    pub sealed: Sealed,
}

/// What is asked to be run. Stores keep it as one JSON text: a field that is not there has its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobSpec {
    /// The program, looked up in the job's PATH.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment. Values are shown to the lease holder only.
    pub environment: BTreeMap<String, String>,
    /// Variables whose values are sealed.
    pub secrets: Option<JobSecrets>,
    /// Where it runs, relative to its workspace; empty is the workspace.
    pub working_dir: String,
    /// What is cloned first.
    pub repository: Option<Repository>,
    /// How its streams are connected.
    pub process_type: ProcessType,
    /// Whether its standard input is connected; without it, it is empty. A terminal's always is.
    pub stdin: bool,
    /// Whether everyone who is attached may write to it; else one at a time.
    pub shared_input: bool,
    /// How long it may run; none is without limit.
    pub timeout: Option<Duration>,
    /// Attempts at most (those that were handed back don't count).
    pub max_attempts: u32,
    /// Whether an exit code other than 0 is an attempt that failed.
    pub retry_on_exit: bool,
    /// No second one of the same owner, command and arguments while this one waits or runs, whichever of the two asks
    /// for it.
    pub unique: bool,
    /// Labels.
    pub labels: Labels,
    /// Within its queue, a job of a higher priority goes before every job of a lower one.
    pub priority: i32,
    /// Labels that a worker must have to be given the job.
    pub requires: Labels,
    /// How long the job waits after its first failed attempt; twice as long after each further one, and
    /// [`Self::MAX_RETRY_DELAY`] at most. Zero is at once.
    pub retry_delay: Duration,
    /// How far it is kept from its machine, at least; none leaves it to the worker, whose own level is the least.
    pub isolation: Option<Isolation>,
    /// Run it also without what the host can't give. Counts only where the worker allows it.
    pub best_effort: bool,
    /// What it may use at most.
    pub limits: ResourceLimits,
    /// In a sandbox: the machine's network in the place of a loopback.
    pub host_network: bool,
    /// What it may do with the certificate that it is given; none gives it no certificate.
    pub certificate: Option<Grants>,
}

impl JobSpec {
    /// Attempts where nothing else is said.
    pub const DEFAULT_MAX_ATTEMPTS: u32 = 3;
    /// The priorities that there are; 0 where nothing else is said.
    pub const PRIORITIES: RangeInclusive<i32> = -100..=100;
    /// The longest that a job waits for another attempt.
    pub const MAX_RETRY_DELAY: Duration = Duration::from_hours(1);

    /// How long the job waits after this many attempts that count, the last of which failed.
    pub fn backoff(&self, attempts: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
        self.retry_delay.saturating_mul(doubled).min(Self::MAX_RETRY_DELAY)
    }

    /// Its terminal's size at first, where it has one.
    pub const fn terminal(&self) -> Option<TerminalSize> {
        match self.process_type {
            ProcessType::Terminal(size) => Some(size),
            ProcessType::Pipe => None,
        }
    }

    /// Whether something can be written to it.
    pub const fn takes_input(&self) -> bool {
        self.stdin || self.terminal().is_some()
    }
}

impl Default for JobSpec {
    fn default() -> Self {
        Self {
            command: String::new(),
            args: Vec::new(),
            environment: BTreeMap::new(),
            secrets: None,
            working_dir: String::new(),
            repository: None,
            process_type: ProcessType::default(),
            stdin: false,
            shared_input: false,
            timeout: None,
            max_attempts: Self::DEFAULT_MAX_ATTEMPTS,
            retry_on_exit: false,
            unique: false,
            labels: Labels::new(),
            priority: 0,
            requires: Labels::new(),
            retry_delay: Duration::ZERO,
            isolation: None,
            best_effort: false,
            limits: ResourceLimits::default(),
            host_network: false,
            certificate: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_waits_twice_as_long_each_time_and_an_hour_at_most() {
        let spec = JobSpec { retry_delay: Duration::from_secs(10), ..JobSpec::default() };
        let waits: Vec<_> = [1, 2, 3, 9, 10, 100].map(|attempts| spec.backoff(attempts).as_secs()).into();
        assert_eq!(waits, [10, 20, 40, 2_560, 3_600, 3_600]);
        assert_eq!(JobSpec::default().backoff(7), Duration::ZERO);
    }

    #[test]
    fn labels_are_held_by_name_and_value() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let worker = labels(&[("arch", "arm64"), ("gpu", "yes")]);
        assert!(holds_all(&worker, &labels(&[])));
        assert!(holds_all(&worker, &labels(&[("gpu", "yes")])));
        assert!(!holds_all(&worker, &labels(&[("gpu", "no")])));
        assert!(!holds_all(&worker, &labels(&[("gpu", "yes"), ("zone", "a")])));
    }
}
