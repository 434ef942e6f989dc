//! `job submit`.

use std::time::Duration;

use airunner_core::QueueName;
use airunner_proto::job::v1 as pb;
use clap::Args;
use serde::Serialize;

use crate::{
    Result,
    context::Context,
    failure::Failure,
    report::{Human, Report},
    value::{Pair, duration, wire},
};

/// Add a job and print its id.
#[derive(Debug, Args)]
pub(super) struct SubmitArgs {
    /// The queue that it waits in
    #[arg(long, value_name = "NAME", default_value = "default")]
    queue: QueueName,
    /// A git repository that it runs in, with a commit, a branch or a tag after #
    #[arg(long, value_name = "URL[#REVISION]")]
    repo: Option<String>,
    /// How long it may run
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// A variable of its environment; without a value, it is taken from this one. May be given several times
    #[arg(long = "env", short = 'e', value_name = "NAME[=VALUE]")]
    environment: Vec<String>,
    /// Where it runs, relative to its workspace
    #[arg(long, value_name = "DIR", default_value = "")]
    working_dir: String,
    /// Refuse it while one of yours with the same command and arguments waits or runs
    #[arg(long)]
    unique: bool,
    /// A label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Pair>,
    /// Attempts, 1 to 100; 3 where it is not given
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true)]
    max_attempts: u32,
    /// An exit code other than 0 is an attempt that failed
    #[arg(long)]
    retry_on_exit: bool,
    /// Wait this long before it may be taken
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    delay: Option<Duration>,
    /// Connect its standard input, for `job attach --stdin`
    #[arg(long)]
    stdin: bool,
    /// A retry with the same id and content gets the same job
    #[arg(long, value_name = "ID", default_value = "")]
    request_id: String,
    /// The program and its arguments; never a shell line
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Serialize)]
struct SubmittedView {
    job_id: String,
}

impl SubmitArgs {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let request =
            pb::EnqueueJobsRequest { request_id: self.request_id.clone(), jobs: vec![self.into_spec()?] };
        let answer =
            context.call(async |client| Ok(client.jobs().enqueue_jobs(request).await?.into_inner()))?;
        let job_id = answer.job_ids.into_iter().next().unwrap_or_default();
        let human = Human::Text(job_id.clone());
        Ok(Report::new(SubmittedView { job_id }, human))
    }

    fn into_spec(self) -> Result<pb::JobSpec> {
        let mut words = self.command.into_iter();
        let environment = self.environment.iter().map(|entry| variable(entry));
        Ok(pb::JobSpec {
            queue: self.queue.to_string(),
            command: words.next().unwrap_or_default(),
            args: words.collect(),
            environment: environment.collect::<Result<_>>()?,
            working_dir: self.working_dir,
            repository: self.repo.map(|repo| repository(&repo)),
            timeout: self.timeout.map(wire),
            max_attempts: self.max_attempts,
            retry_on_exit: self.retry_on_exit,
            unique: self.unique,
            labels: self.labels.into_iter().map(|Pair(key, value)| (key, value)).collect(),
            delay: self.delay.map(wire),
            stdin: self.stdin,
        })
    }
}

/// What follows the last # is the revision.
fn repository(text: &str) -> pb::Repository {
    let (url, revision) = text.rsplit_once('#').unwrap_or((text, ""));
    pb::Repository { url: url.to_owned(), revision: revision.to_owned() }
}

/// `NAME=VALUE`, or a name whose value stands in our own environment: so a secret need not stand in an argument.
fn variable(entry: &str) -> Result<(String, String)> {
    if let Some((name, value)) = entry.split_once('=') {
        return Ok((name.to_owned(), value.to_owned()));
    }
    match airunner_host::environment_variable(entry) {
        Some(value) => Ok((entry.to_owned(), value)),
        None => Err(Failure::Usage(format!("--env {entry}: it is not set here; write {entry}=VALUE"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_may_name_a_revision() {
        for (text, url, revision) in [
            ("https://a/b.git", "https://a/b.git", ""),
            ("https://a/b.git#main", "https://a/b.git", "main"),
            ("file:///a#b/c#0123", "file:///a#b/c", "0123"),
        ] {
            let repository = repository(text);
            assert_eq!((repository.url.as_str(), repository.revision.as_str()), (url, revision));
        }
    }

    #[test]
    fn a_variable_without_a_value_is_ours() {
        assert_eq!(variable("A=b=c").unwrap(), ("A".into(), "b=c".into()));
        assert_eq!(variable("PATH").unwrap().1, std::env::var("PATH").unwrap());
        assert_eq!(variable("AIRUNNER_NOT_SET_ANYWHERE").unwrap_err().exit_code(), 2);
    }
}
