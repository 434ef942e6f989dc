//! What a job may be: every limit on what a caller asks to be run, in one place.

use std::{collections::BTreeMap, path::Component, path::Path, time::Duration};

use airunner_core::{
    Error, Job, JobId, JobState, PrincipalId, ProcessType, QueueName, Repository, Result, Timestamp,
    check_metadata,
};

/// Bytes of a command at most.
const MAX_COMMAND: usize = 4_096;
/// Arguments at most, and their bytes together.
const MAX_ARGS: usize = 1_024;
const MAX_ARGS_BYTES: usize = 128 * 1024;
/// Environment variables at most, and their bytes together.
const MAX_ENV: usize = 256;
const MAX_ENV_BYTES: usize = 64 * 1024;
/// The longest time-out.
const MAX_TIMEOUT: Duration = Duration::from_hours(7 * 24);
/// The longest delay.
const MAX_DELAY: Duration = Duration::from_hours(30 * 24);
/// Attempts at most.
const MAX_ATTEMPTS: u32 = 100;

/// What a caller wants to be run.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each field is that of Job")]
pub struct JobSpec {
    pub queue: Option<QueueName>,
    pub command: String,
    pub args: Vec<String>,
    pub environment: BTreeMap<String, String>,
    pub working_dir: String,
    pub repository: Option<Repository>,
    pub timeout: Option<Duration>,
    /// 0 is the default.
    pub max_attempts: u32,
    pub retry_on_exit: bool,
    pub unique: bool,
    pub labels: BTreeMap<String, String>,
    /// How long it waits before it may be taken.
    pub delay: Duration,
    pub stdin: bool,
}

impl JobSpec {
    /// The job that this makes.
    ///
    /// # Errors
    /// `invalid-argument` naming the field.
    pub(crate) fn into_job(
        self,
        id: JobId,
        owner: &PrincipalId,
        now: Timestamp,
        unique: bool,
    ) -> Result<Job> {
        self.check()?;
        Ok(Job {
            id,
            queue: self.queue.unwrap_or_else(QueueName::default_queue),
            command: self.command,
            args: self.args,
            environment: self.environment,
            working_dir: self.working_dir,
            repository: self.repository,
            owner: owner.clone(),
            process_type: ProcessType::Pipe,
            stdin: self.stdin,
            timeout: self.timeout,
            max_attempts: if self.max_attempts == 0 { Job::DEFAULT_MAX_ATTEMPTS } else { self.max_attempts },
            retry_on_exit: self.retry_on_exit,
            unique: self.unique || unique,
            labels: self.labels,
            state: JobState::Scheduled,
            attempt: 0,
            handed_back: 0,
            lease: None,
            process_id: None,
            exit: None,
            reason: String::new(),
            cancellation: None,
            created_at: now,
            visible_at: now.plus(self.delay),
            started_at: None,
            finished_at: None,
        })
    }

    fn check(&self) -> Result<()> {
        if self.command.is_empty() || self.command.len() > MAX_COMMAND || self.command.contains('\0') {
            return Err(Error::invalid("command", "a command is 1 to 4,096 bytes without NUL"));
        }
        let args_bytes: usize = self.args.iter().map(|arg| arg.len() + 1).sum();
        if self.args.len() > MAX_ARGS || args_bytes > MAX_ARGS_BYTES {
            return Err(Error::invalid("args", "arguments are at most 1,024, of at most 128 KiB together"));
        }
        if self.args.iter().any(|arg| arg.contains('\0')) {
            return Err(Error::invalid("args", "an argument can't hold NUL"));
        }
        check_environment(&self.environment)?;
        check_working_dir(&self.working_dir)?;
        self.repository.as_ref().map_or(Ok(()), check_repository)?;
        check_metadata("labels", &self.labels)?;
        if self.timeout.is_some_and(|timeout| timeout.is_zero() || timeout > MAX_TIMEOUT) {
            return Err(Error::invalid("timeout", "a time-out is more than zero and at most 7 days"));
        }
        if self.delay > MAX_DELAY {
            return Err(Error::invalid("delay", "a delay is at most 30 days"));
        }
        if self.max_attempts > MAX_ATTEMPTS {
            return Err(Error::invalid("max_attempts", "at most 100 attempts"));
        }
        Ok(())
    }
}

fn check_environment(environment: &BTreeMap<String, String>) -> Result<()> {
    let size: usize = environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if environment.len() > MAX_ENV || size > MAX_ENV_BYTES {
        return Err(Error::invalid("environment", "variables are at most 256, of at most 64 KiB together"));
    }
    for (name, value) in environment {
        let starts = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !starts || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Error::invalid("environment", format!("{name:?} is not a name of A-Z a-z 0-9 _")));
        }
        if name.starts_with("AIRUNNER_") {
            return Err(Error::invalid(
                "environment",
                "names that start with AIRUNNER_ are set by the worker",
            ));
        }
        if value.contains('\0') {
            return Err(Error::invalid("environment", format!("the value of {name} holds NUL")));
        }
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
    let has_scheme = scheme.is_some_and(|scheme| ["https", "ssh", "file", "git"].contains(&scheme));
    if !has_scheme || url.len() > 2_048 || !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::invalid(
            "repository.url",
            "a repository is an https, ssh, git or file URL of at most 2,048 printable characters",
        ));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut JobSpec)) -> Option<String> {
        let mut spec = JobSpec { command: "true".to_owned(), ..JobSpec::default() };
        change(&mut spec);
        spec.check().err().and_then(|error| error.field().map(str::to_owned))
    }

    #[test]
    fn each_limit_names_its_field() {
        assert_eq!(refused(|_| {}), None);
        assert_eq!(refused(|s| s.command.clear()).as_deref(), Some("command"));
        assert_eq!(refused(|s| s.args = vec!["a\0b".to_owned()]).as_deref(), Some("args"));
        assert_eq!(refused(|s| s.args = vec!["x".repeat(10_000_000)]).as_deref(), Some("args"));
        assert_eq!(refused(|s| s.working_dir = "../x".to_owned()).as_deref(), Some("working_dir"));
        assert_eq!(refused(|s| s.working_dir = "/etc".to_owned()).as_deref(), Some("working_dir"));
        for name in ["", "1A", "A-B", "A B", "AIRUNNER_X"] {
            let environment = BTreeMap::from([(name.to_owned(), String::new())]);
            assert_eq!(refused(|s| s.environment = environment).as_deref(), Some("environment"), "{name}");
        }
        for url in ["", "--upload-pack=x", "ext::sh -c x", "/tmp/x", "https://a b"] {
            let repository = Repository { url: url.to_owned(), revision: String::new() };
            assert_eq!(
                refused(|s| s.repository = Some(repository)).as_deref(),
                Some("repository.url"),
                "{url}"
            );
        }
        let repository = Repository { url: "https://a/b".to_owned(), revision: "--help".to_owned() };
        assert_eq!(refused(|s| s.repository = Some(repository)).as_deref(), Some("repository.revision"));
    }
}
