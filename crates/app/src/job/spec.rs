//! What a job may be: every limit on what a caller asks to be run, in one place.

use std::{collections::BTreeMap, ops::RangeInclusive, path::Component, path::Path, time::Duration};

use airunner_core::{
    Error, Isolation, Job, JobId, JobSpec, JobState, Labels, PrincipalId, QueueName, Repository,
    ResourceLimits, Result, Timestamp, check_metadata,
};

use super::secrets::SecretEnvironment;
use crate::context::Context;

/// Bytes of a command at most.
const MAX_COMMAND: usize = 4_096;
/// Arguments at most, and their bytes together.
const MAX_ARGS: usize = 1_024;
const MAX_ARGS_BYTES: usize = 128 * 1024;
/// Environment variables at most, and their bytes together.
const MAX_ENV: usize = 256;
const MAX_ENV_BYTES: usize = 64 * 1024;
/// Secret variables at most, and their bytes together.
const MAX_SECRETS: usize = 64;
const MAX_SECRET_BYTES: usize = 16 * 1024;
/// The longest time-out.
const MAX_TIMEOUT: Duration = Duration::from_hours(7 * 24);
/// The longest delay.
const MAX_DELAY: Duration = Duration::from_hours(30 * 24);
/// Attempts at most.
const MAX_ATTEMPTS: u32 = 100;
/// What a kernel can number (`PID_MAX_LIMIT`).
const MAX_PROCESSES: u64 = 4 << 20;
/// What `fs.nr_open` can be set to.
const MAX_OPEN_FILES: u64 = (1 << 30) - 8;
/// What a job may require of its worker at most: labels, and their bytes together.
const MAX_REQUIRED: usize = 8;
const MAX_REQUIRED_BYTES: usize = 512;

/// What a caller wants to be run.
#[derive(Clone, Debug, Default)]
pub struct NewJob {
    /// Where it is to wait; the default queue where nothing is said.
    pub queue: Option<QueueName>,
    /// How long it waits before it may be taken.
    pub delay: Duration,
    /// What is to be run.
    pub spec: JobSpec,
    /// Variables whose values are to be sealed.
    pub secrets: SecretEnvironment,
}

impl NewJob {
    /// The job that this makes.
    ///
    /// # Errors
    /// `invalid-argument` naming the field.
    pub(crate) fn into_job(
        mut self,
        context: &Context,
        id: JobId,
        owner: &PrincipalId,
        now: Timestamp,
        unique: bool,
    ) -> Result<Job> {
        check(&self.spec)?;
        if self.delay > MAX_DELAY {
            return Err(Error::invalid("delay", "a delay is at most 30 days"));
        }
        check_secrets(&self.spec, &self.secrets)?;
        self.spec.secrets = self.secrets.seal(context, &id)?;
        self.spec.unique |= unique;
        Ok(Job {
            id,
            queue: self.queue.unwrap_or_else(QueueName::default_queue),
            owner: owner.clone(),
            spec: self.spec,
            state: JobState::Scheduled,
            attempt: 0,
            handed_back: 0,
            lease: None,
            process_id: None,
            exit: None,
            reason: String::new(),
            usage: None,
            cancellation: None,
            certificates: Vec::new(),
            created_at: now,
            visible_at: now.plus(self.delay),
            rank: None,
            started_at: None,
            finished_at: None,
        })
    }
}

fn check(spec: &JobSpec) -> Result<()> {
    if spec.command.is_empty() || spec.command.len() > MAX_COMMAND || spec.command.contains('\0') {
        return Err(Error::invalid("command", "a command is 1 to 4,096 bytes without NUL"));
    }
    let args_bytes: usize = spec.args.iter().map(|arg| arg.len() + 1).sum();
    if spec.args.len() > MAX_ARGS || args_bytes > MAX_ARGS_BYTES {
        return Err(Error::invalid("args", "arguments are at most 1,024, of at most 128 KiB together"));
    }
    if spec.args.iter().any(|arg| arg.contains('\0')) {
        return Err(Error::invalid("args", "an argument can't hold NUL"));
    }
    check_environment(&spec.environment)?;
    check_working_dir(&spec.working_dir)?;
    spec.repository.as_ref().map_or(Ok(()), check_repository)?;
    check_metadata("labels", &spec.labels)?;
    if spec.terminal().is_some() && spec.max_attempts != 1 {
        return Err(Error::invalid(
            "max_attempts",
            "a job with a terminal has one attempt: what was typed at it can't be typed again",
        ));
    }
    if spec.timeout.is_some_and(|timeout| timeout.is_zero() || timeout > MAX_TIMEOUT) {
        return Err(Error::invalid("timeout", "a time-out is more than zero and at most 7 days"));
    }
    if !(1..=MAX_ATTEMPTS).contains(&spec.max_attempts) {
        return Err(Error::invalid("max_attempts", "1 to 100 attempts"));
    }
    if !JobSpec::PRIORITIES.contains(&spec.priority) {
        return Err(Error::invalid("priority", "a priority is a whole number from -100 to 100"));
    }
    if spec.retry_delay > JobSpec::MAX_RETRY_DELAY {
        return Err(Error::invalid("retry_delay", "a job waits at most 1 hour for another attempt"));
    }
    check_requires(&spec.requires)?;
    check_limits(&spec.limits)?;
    check_isolation(spec)
}

fn check_requires(requires: &Labels) -> Result<()> {
    check_metadata("requires", requires)?;
    let size: usize = requires.iter().map(|(name, value)| name.len() + value.len()).sum();
    if requires.len() > MAX_REQUIRED || size > MAX_REQUIRED_BYTES {
        return Err(Error::invalid(
            "requires",
            "a job requires at most 8 labels of its worker, of at most 512 bytes together",
        ));
    }
    Ok(())
}

/// Whether a machine has as much is seen where the job runs.
fn check_limits(limits: &ResourceLimits) -> Result<()> {
    let within =
        |value: Option<u64>, range: RangeInclusive<u64>| value.is_none_or(|value| range.contains(&value));
    let refuse = |name: &str, why: &str| Err(Error::invalid(format!("limits.{name}"), why));
    if !within(limits.cpu_millis.map(u64::from), 10..=1_024_000) {
        return refuse("cpu_millis", "CPU time is limited to 0.01 to 1,024 CPUs, or with 0 not at all");
    }
    if !within(limits.memory_bytes, 1 << 20..=1 << 46) {
        return refuse("memory_bytes", "memory is limited to 1 MiB to 64 TiB, or with 0 not at all");
    }
    if !within(limits.processes.map(u64::from), 1..=MAX_PROCESSES) {
        return refuse("processes", "processes are limited to 4,194,304 at most, or with 0 not at all");
    }
    if !within(limits.open_files, 1..=MAX_OPEN_FILES) {
        return refuse("open_files", "open files are limited to 1,073,741,816 at most, or with 0 not at all");
    }
    if !within(limits.file_size_bytes, 1..=i64::MAX.unsigned_abs()) {
        return refuse(
            "file_size_bytes",
            "file size is limited to 2^63 - 1 bytes at most, or with 0 not at all",
        );
    }
    Ok(())
}

/// A job that says nothing of its isolation has that of its worker, which is seen there.
fn check_isolation(spec: &JobSpec) -> Result<()> {
    let Some(level) = spec.isolation else { return Ok(()) };
    if !spec.limits.is_empty() && level < Isolation::Limits {
        return Err(Error::invalid(
            "limits",
            "nothing keeps limits at the isolation none: ask for the isolation limits or sandbox, or leave it out for \
             the worker's own",
        ));
    }
    if spec.host_network && level < Isolation::Sandbox {
        return Err(Error::invalid(
            "host_network",
            format!(
                "a job at the isolation {level} has the machine's network anyway: ask for the isolation sandbox, or \
                 leave host_network out"
            ),
        ));
    }
    Ok(())
}

fn check_environment(environment: &BTreeMap<String, String>) -> Result<()> {
    let size: usize = environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if environment.len() > MAX_ENV || size > MAX_ENV_BYTES {
        return Err(Error::invalid("environment", "variables are at most 256, of at most 64 KiB together"));
    }
    environment.iter().try_for_each(|(name, value)| check_variable("environment", name, value.contains('\0')))
}

fn check_secrets(spec: &JobSpec, secrets: &SecretEnvironment) -> Result<()> {
    let size: usize = secrets.iter().map(|(name, value)| name.len() + value.expose().len() + 2).sum();
    if secrets.names().count() > MAX_SECRETS || size > MAX_SECRET_BYTES {
        return Err(Error::invalid(
            "secret_environment",
            "secret variables are at most 64, of at most 16 KiB together",
        ));
    }
    if let Some(name) = secrets.names().find(|name| spec.environment.contains_key(*name)) {
        return Err(Error::invalid(
            "secret_environment",
            format!("{name} is in environment too: leave it out of one of the two"),
        ));
    }
    secrets
        .iter()
        .try_for_each(|(name, value)| check_variable("secret_environment", name, value.expose().contains(&0)))
}

fn check_variable(field: &str, name: &str, has_nul: bool) -> Result<()> {
    let starts = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !starts || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Error::invalid(field, format!("{name:?} is not a name of A-Z a-z 0-9 _")));
    }
    if name.starts_with("AIRUNNER_") {
        return Err(Error::invalid(field, "names that start with AIRUNNER_ are set by the worker"));
    }
    if has_nul {
        return Err(Error::invalid(field, format!("the value of {name} holds NUL")));
    }
    Ok(())
}

fn check_working_dir(path: &str) -> Result<()> {
    let stays =
        Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if stays && path.len() <= 4_096 && !path.contains('\0') {
        return Ok(());
    }
    Err(Error::invalid("working_dir", "a working directory is relative to the workspace and stays in it"))
}

fn check_repository(repository: &Repository) -> Result<()> {
    let url = &repository.url;
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let has_scheme = scheme.is_some_and(|scheme| ["https", "http", "ssh", "file", "git"].contains(&scheme));
    if !has_scheme || url.len() > 2_048 || !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::invalid(
            "repository.url",
            "a repository is an https, http, ssh, git or file URL of at most 2,048 printable characters",
        ));
    }
    check_userinfo(url)?;
    let revision = &repository.revision;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
    if revision.len() > 255
        || revision.starts_with('-')
        || revision.contains("..")
        || !revision.bytes().all(allowed)
    {
        return Err(Error::invalid("repository.revision", "a revision is a commit id, a branch or a tag"));
    }
    Ok(())
}

/// A URL is shown to everyone who may see the job, and a password in it with it. Over http a user alone is a secret too:
/// many servers take a token for one.
fn check_userinfo(url: &str) -> Result<()> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return Ok(()) };
    if user.contains(':') || scheme.starts_with("http") {
        return Err(Error::invalid(
            "repository.url",
            "a repository's URL holds no password and, over https, no user: whoever sees the job would read them. Leave \
             out what stands before the @, and have the operator of the worker give it a credential for that server \
             (worker.git_credentials)",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use airunner_core::{ProcessType, TerminalSize};

    use super::*;

    fn refused(change: impl FnOnce(&mut JobSpec)) -> Option<String> {
        let mut spec = JobSpec { command: "true".to_owned(), ..JobSpec::default() };
        change(&mut spec);
        check(&spec).err().and_then(|error| error.field().map(str::to_owned))
    }

    #[test]
    fn each_limit_names_its_field() {
        assert_eq!(refused(|_| {}), None);
        assert_eq!(refused(|s| s.command.clear()).as_deref(), Some("command"));
        assert_eq!(refused(|s| s.args = vec!["a\0b".to_owned()]).as_deref(), Some("args"));
        assert_eq!(refused(|s| s.args = vec!["x".repeat(10_000_000)]).as_deref(), Some("args"));
        let size = TerminalSize { rows: 24, columns: 80 };
        assert_eq!(
            refused(|s| s.process_type = ProcessType::Terminal(size)).as_deref(),
            Some("max_attempts")
        );
        assert_eq!(refused(|s| s.working_dir = "../x".to_owned()).as_deref(), Some("working_dir"));
        assert_eq!(refused(|s| s.working_dir = "/etc".to_owned()).as_deref(), Some("working_dir"));
        for name in ["", "1A", "A-B", "A B", "AIRUNNER_X"] {
            let environment = BTreeMap::from([(name.to_owned(), String::new())]);
            assert_eq!(refused(|s| s.environment = environment).as_deref(), Some("environment"), "{name}");
        }
        for priority in [-101, 101, i32::MIN, i32::MAX] {
            assert_eq!(refused(|s| s.priority = priority).as_deref(), Some("priority"), "{priority}");
        }
        assert_eq!(refused(|s| (s.priority, s.retry_delay) = (-100, JobSpec::MAX_RETRY_DELAY)), None);
        assert_eq!(refused(|s| s.retry_delay = Duration::from_secs(3_601)).as_deref(), Some("retry_delay"));
        let labels = |count: usize, value: &str| -> Labels {
            (0..count).map(|n| (format!("l{n}"), value.to_owned())).collect()
        };
        assert_eq!(refused(|s| s.requires = labels(8, "x")), None);
        for requires in [labels(9, "x"), labels(1, &"x".repeat(600)), labels(1, "a\nb")] {
            assert_eq!(
                refused(|s| s.requires = requires.clone()).as_deref(),
                Some("requires"),
                "{requires:?}"
            );
        }
        for url in [
            "",
            "--upload-pack=x",
            "ext::sh -c x",
            "/tmp/x",
            "https://a b",
            "https://me:secret@a/b",
            "https://secret@a/b",
            "HTTPS://a/b",
            "ssh://git:secret@a/b",
            "git://me:secret@a",
        ] {
            let repository = Repository { url: url.to_owned(), revision: String::new() };
            assert_eq!(
                refused(|s| s.repository = Some(repository)).as_deref(),
                Some("repository.url"),
                "{url}"
            );
        }
        for url in ["ssh://git@a/b", "https://a/b@c:d", "http://a:80/b", "https://a/b?c=d@e:f"] {
            let repository = Repository { url: url.to_owned(), revision: String::new() };
            assert_eq!(refused(|s| s.repository = Some(repository)), None, "{url}");
        }
        let repository = Repository { url: "https://a/b".to_owned(), revision: "--help".to_owned() };
        assert_eq!(refused(|s| s.repository = Some(repository)).as_deref(), Some("repository.revision"));
    }

    #[test]
    fn a_limit_beyond_sense_names_its_field() {
        type Change = fn(&mut ResourceLimits);
        let wrong: [(&str, Change); 7] = [
            ("limits.cpu_millis", |l| l.cpu_millis = Some(9)),
            ("limits.cpu_millis", |l| l.cpu_millis = Some(u32::MAX)),
            ("limits.memory_bytes", |l| l.memory_bytes = Some(4_096)),
            ("limits.memory_bytes", |l| l.memory_bytes = Some(u64::MAX)),
            ("limits.processes", |l| l.processes = Some(u32::MAX)),
            ("limits.open_files", |l| l.open_files = Some(u64::MAX)),
            ("limits.file_size_bytes", |l| l.file_size_bytes = Some(u64::MAX)),
        ];
        for (field, change) in wrong {
            assert_eq!(refused(|s| change(&mut s.limits)).as_deref(), Some(field));
        }
        let sound = ResourceLimits {
            cpu_millis: Some(500),
            memory_bytes: Some(64 << 20),
            processes: Some(1),
            open_files: Some(64),
            file_size_bytes: Some(1),
        };
        assert_eq!(refused(|s| s.limits = sound), None);
    }

    #[test]
    fn limits_and_the_hosts_network_need_a_level_that_knows_them_unless_none_is_said() {
        let limits = ResourceLimits { processes: Some(8), ..ResourceLimits::default() };
        for (level, limited, networked) in [
            (None, None, None),
            (Some(Isolation::None), Some("limits"), Some("host_network")),
            (Some(Isolation::Limits), None, Some("host_network")),
            (Some(Isolation::Sandbox), None, None),
        ] {
            let found = refused(|s| (s.isolation, s.limits) = (level, limits));
            assert_eq!(found.as_deref(), limited, "{level:?}");
            let found = refused(|s| (s.isolation, s.host_network) = (level, true));
            assert_eq!(found.as_deref(), networked, "{level:?}");
        }
    }
}
