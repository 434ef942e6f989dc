//! What is to run and how: what `submit`, `start` and `exec` have in common. What becomes of it is theirs.

use std::{collections::HashMap, fs, time::Duration};

use airunner_core::{Isolation, Permission, QueueName};
use airunner_proto::job::v1::{self as pb, JobCertificate, JobSpec, Repository, ResourceLimits};
use clap::Args;

use super::terminal;
use crate::{
    context::Environment,
    failure::{Failure, Result},
    values::{self, Pair, SecretVariable, Variable},
};

// No doc comment: clap would make it the description of every command that takes these.
#[derive(Args, Debug)]
pub(super) struct SpecArgs {
    /// A git repository that the worker clones first, and runs the command in; after #, a commit, branch or tag
    #[arg(long, value_name = "URL[#REV]")]
    repo: Option<String>,
    /// Where it waits [default: default]
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// How long it may run, as 30m
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// A variable of its environment; without =VALUE, with the value that it has here. May be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<Variable>,
    /// A variable whose value is kept sealed, and shown to nobody but its worker: the value that it has here, or what is in the
    /// file. May be repeated
    #[arg(long, value_name = "NAME[=@FILE]")]
    secret_env: Vec<SecretVariable>,
    /// Refuse it while one of yours with the same command and arguments waits or runs
    #[arg(long)]
    unique: bool,
    /// A label; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<Pair>,
    /// How often it is tried when a worker is lost, 1 to 100 [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    max_attempts: Option<u32>,
    /// Take an exit code other than 0 for a failed attempt, and try again
    #[arg(long)]
    retry_on_exit: bool,
    /// How far it is kept from its machine, at least; without it, as far as its worker says
    #[arg(long, value_name = "LEVEL", value_parser = values::isolation())]
    isolation: Option<Isolation>,
    /// Run it also without what the worker's machine can't give, where the worker allows that
    #[arg(long)]
    best_effort: bool,
    /// CPU time at most, in CPUs: 0.5 is half of one
    #[arg(long, value_name = "N", value_parser = values::cpus)]
    cpus: Option<u32>,
    /// Memory at most, as 256M or 2G, of all its processes together: it is killed when that runs out
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    memory: Option<u64>,
    /// Processes and threads at a time, at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    processes: Option<u32>,
    /// Files that each of its processes may have open
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    open_files: Option<u64>,
    /// The size of each file that it writes, at most, as 1G
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    file_size: Option<u64>,
    /// In a sandbox: the machine's network in the place of a loopback
    #[arg(long)]
    host_network: bool,
    /// How long it waits after a failed attempt, at most 1h; twice as long after each further one [default: 0]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    retry_delay: Option<Duration>,
    /// Before every job of a lower one in its queue, -100 to 100 [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-100..=100))]
    priority: Option<i32>,
    /// A label that a worker must have to be given it; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    require: Vec<Pair>,
    /// Give it a terminal, as large as the one here; it has one attempt
    #[arg(long, short)]
    tty: bool,
    /// Let everyone who is attached write to it, and not one at a time
    #[arg(long)]
    shared_input: bool,
    /// Give it a certificate of its own, which ends with it: so others can tell which job calls, and `airunner-cli` in the
    /// job is the job
    #[arg(long)]
    certificate: bool,
    /// Let it do this with its certificate, in your name; may be repeated
    #[arg(long, value_name = "PERMISSION", value_parser = values::grant())]
    grant: Vec<Permission>,
    /// Where it runs, relative to its workspace
    #[arg(long, value_name = "DIR")]
    working_dir: Option<String>,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

impl SpecArgs {
    /// The job on the wire.
    ///
    /// # Errors
    /// Usage, where a variable that is to be passed on is not set.
    pub(super) fn spec(&self, environment: &Environment) -> Result<JobSpec> {
        let Some((command, args)) = self.command.split_first() else {
            return Err(Failure::Usage("there is no command".to_owned()));
        };
        let variable = |variable: &Variable| {
            let value = variable.value.clone().or_else(|| environment.variable(&variable.name));
            let value = value.ok_or_else(|| Failure::Usage(format!("{} is not set here", variable.name)))?;
            Ok((variable.name.clone(), value))
        };
        let mut variables: HashMap<_, _> = self.env.iter().map(variable).collect::<Result<_>>()?;
        if let Some(term) = environment.variable("TERM").filter(|_| self.tty) {
            variables.entry("TERM".to_owned()).or_insert(term);
        }
        let secrets = self
            .secret_env
            .iter()
            .map(|variable| Ok((variable.name.clone(), secret(variable, environment)?)));
        Ok(JobSpec {
            secret_environment: secrets.collect::<Result<_>>()?,
            queue: self.queue.as_ref().map(ToString::to_string).unwrap_or_default(),
            command: command.clone(),
            args: args.to_vec(),
            environment: variables,
            terminal: self.tty.then(terminal::size),
            shared_input: self.shared_input,
            working_dir: self.working_dir.clone().unwrap_or_default(),
            repository: self.repo.as_deref().map(repository),
            timeout: self.timeout.map(values::wire),
            max_attempts: self.max_attempts.unwrap_or_default(),
            retry_on_exit: self.retry_on_exit,
            unique: self.unique,
            labels: self.label.iter().map(Pair::entry).collect(),
            priority: self.priority.unwrap_or_default(),
            requires: self.require.iter().map(Pair::entry).collect(),
            retry_delay: self.retry_delay.map(values::wire),
            isolation: self.isolation.map_or(pb::Isolation::Unspecified, wire_isolation).into(),
            best_effort: self.best_effort,
            limits: Some(self.limits()).filter(|limits| *limits != ResourceLimits::default()),
            host_network: self.host_network,
            certificate: (self.certificate || !self.grant.is_empty())
                .then(|| JobCertificate { grants: self.grant.iter().map(ToString::to_string).collect() }),
            ..JobSpec::default()
        })
    }

    fn limits(&self) -> ResourceLimits {
        ResourceLimits {
            cpu_millis: self.cpus.unwrap_or_default(),
            memory_bytes: self.memory.unwrap_or_default(),
            processes: self.processes.unwrap_or_default(),
            open_files: self.open_files.unwrap_or_default(),
            file_size_bytes: self.file_size.unwrap_or_default(),
        }
    }
}

fn secret(variable: &SecretVariable, environment: &Environment) -> Result<String> {
    let SecretVariable { name, file } = variable;
    let Some(file) = file else {
        return environment.variable(name).ok_or_else(|| Failure::Usage(format!("{name} is not set here")));
    };
    let text = fs::read_to_string(file).map_err(|error| {
        Failure::Usage(format!("the value of {name} can't be read from {}: {error}", file.display()))
    })?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

const fn wire_isolation(level: Isolation) -> pb::Isolation {
    match level {
        Isolation::None => pb::Isolation::None,
        Isolation::Limits => pb::Isolation::Limits,
        Isolation::Sandbox => pb::Isolation::Sandbox,
    }
}

fn repository(text: &str) -> Repository {
    let (url, revision) = text.split_once('#').unwrap_or((text, ""));
    Repository { url: url.to_owned(), revision: revision.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_cut_at_its_revision() {
        let found = repository("https://example.com/a.git#v1.0");
        assert_eq!((found.url.as_str(), found.revision.as_str()), ("https://example.com/a.git", "v1.0"));
        assert_eq!(repository("https://example.com/a.git").revision, "");
    }
}
