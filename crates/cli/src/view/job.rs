//! Jobs.

use std::collections::BTreeMap;

use airunner_core::JobState;
use airunner_proto::job::v1::{self as pb, exit::How};
use serde::Serialize;

use super::{Fields, duration, pairs, text, time};
use crate::report::Human;

/// A job.
#[derive(Serialize)]
pub(crate) struct JobView {
    pub(crate) job_id: String,
    pub(crate) state: &'static str,
    queue: String,
    pub(crate) command: String,
    pub(crate) args: Vec<String>,
    environment_names: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<RepositoryView>,
    owner: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    attempt: u32,
    max_attempts: u32,
    retry_on_exit: bool,
    unique: bool,
    stdin: bool,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_deadline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<ExitView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    cancelling: bool,
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    visible_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
}

#[derive(Serialize)]
struct RepositoryView {
    url: String,
    revision: String,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExitView {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl ExitView {
    pub(crate) fn of(exit: Option<pb::Exit>) -> Option<Self> {
        exit.and_then(|exit| exit.how).map(|how| match how {
            How::Code(code) => Self::Code(code),
            How::Signal(signal) => Self::Signal(signal),
        })
    }

    /// What a shell would say: the code, or 128 and the signal.
    pub(crate) fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            Self::Signal(signal) => u8::try_from(128 + (signal & 0x7f)).unwrap_or(u8::MAX),
        }
    }
}

impl std::fmt::Display for ExitView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl From<pb::Job> for JobView {
    fn from(job: pb::Job) -> Self {
        Self {
            state: state_name(job.state),
            repository: job
                .repository
                .map(|repository| RepositoryView { url: repository.url, revision: repository.revision }),
            timeout: duration(job.timeout),
            labels: job.labels.into_iter().collect(),
            holder: text(job.holder),
            lease_deadline: time(job.lease_deadline.as_ref()),
            process_id: Some(job.process_id).filter(|id| *id != 0),
            exit: ExitView::of(job.exit),
            reason: text(job.reason),
            created_at: time(job.created_at.as_ref()),
            visible_at: time(job.visible_at.as_ref()).filter(|_| job.created_at != job.visible_at),
            started_at: time(job.started_at.as_ref()),
            finished_at: time(job.finished_at.as_ref()),
            working_dir: text(job.working_dir),
            job_id: job.job_id,
            queue: job.queue,
            command: job.command,
            args: job.args,
            environment_names: job.environment_names,
            owner: job.owner,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            retry_on_exit: job.retry_on_exit,
            unique: job.unique,
            stdin: job.stdin,
            cancelling: job.cancelling,
        }
    }
}

impl JobView {
    /// The head of a table of jobs.
    pub(crate) const HEAD: &'static [&'static str] =
        &["job", "state", "owner", "queue", "attempt", "created", "command"];

    pub(crate) fn row(&self) -> Vec<String> {
        vec![
            self.job_id.clone(),
            self.state_and_exit(),
            self.owner.clone(),
            self.queue.clone(),
            format!("{}/{}", self.attempt, self.max_attempts),
            self.created_at.clone().unwrap_or_default(),
            self.command_line(),
        ]
    }

    pub(crate) fn fields(&self) -> Human {
        let repository = self.repository.as_ref().map(|repository| match repository.revision.as_str() {
            "" => repository.url.clone(),
            revision => format!("{}#{revision}", repository.url),
        });
        Fields::new()
            .with("job", &self.job_id)
            .with("state", self.state_and_exit())
            .maybe("reason", self.reason.as_ref())
            .with("command", self.command_line())
            .maybe("repository", repository.as_ref())
            .maybe("working dir", self.working_dir.as_ref())
            .list("environment", &self.environment_names)
            .with("owner", &self.owner)
            .with("queue", &self.queue)
            .with("attempt", format!("{} of {}", self.attempt, self.max_attempts))
            .maybe("time-out", self.timeout.as_ref())
            .list("labels", &pairs(&self.labels))
            .maybe("held by", self.holder.as_ref())
            .maybe("lease until", self.lease_deadline.as_ref())
            .maybe("process", self.process_id.as_ref())
            .maybe("created", self.created_at.as_ref())
            .maybe("not before", self.visible_at.as_ref())
            .maybe("started", self.started_at.as_ref())
            .maybe("finished", self.finished_at.as_ref())
            .done()
    }

    /// The command with its arguments, as a shell would take them.
    pub(crate) fn command_line(&self) -> String {
        let words = std::iter::once(&self.command).chain(&self.args);
        words.map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    fn state_and_exit(&self) -> String {
        match self.exit {
            Some(exit) if exit != ExitView::Code(0) => format!("{} ({exit})", self.state),
            _ if self.cancelling && self.state == JobState::Running.as_str() => {
                format!("{} (stopping)", self.state)
            }
            _ => self.state.to_owned(),
        }
    }
}

/// A state's name.
pub(crate) fn state_name(number: i32) -> &'static str {
    let same = |state: &&JobState| state_number(**state) == number;
    JobState::ALL.iter().find(same).map_or("unknown", |state| state.as_str())
}

/// The number of a state.
pub(crate) fn state_number(state: JobState) -> i32 {
    match state {
        JobState::Scheduled => pb::JobState::Scheduled,
        JobState::Running => pb::JobState::Running,
        JobState::Completed => pb::JobState::Completed,
        JobState::Failed => pb::JobState::Failed,
        JobState::Cancelled => pb::JobState::Cancelled,
        JobState::TimedOut => pb::JobState::TimedOut,
    }
    .into()
}

fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_s_end_is_told_as_shells_do() {
        assert_eq!(ExitView::Code(3).shell_code(), 3);
        assert_eq!(ExitView::Signal(9).shell_code(), 137);
        assert_eq!(ExitView::Code(-1).shell_code(), 255);
    }

    #[test]
    fn a_command_line_can_be_pasted_into_a_shell() {
        for (word, text) in
            [("ls", "ls"), ("", "''"), ("a b", "'a b'"), ("it's", "'it'\\''s'"), ("$x", "'$x'")]
        {
            assert_eq!(quoted(word), text);
        }
    }

    #[test]
    fn states_have_one_word() {
        for state in JobState::ALL {
            assert_eq!(state_name(state_number(*state)), state.as_str());
            assert!(!state.as_str().contains(' '));
        }
    }
}
