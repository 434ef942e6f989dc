//! How a job, its end and its events look.

use std::{collections::BTreeMap, fmt};

use airunner_core::Timestamp;
use airunner_proto::job::v1::{self as pb, JobState, OutputStream, exit::How, job_event::Kind};
use data_encoding::BASE64;
use serde::{Serialize, Serializer};

use super::{
    cell, duration,
    moment::{Moment, beside, told},
    pairs, precise_time, some, time,
    usage::{LimitsView, UsageView, isolation},
    word,
};

/// A job.
#[derive(Debug, Serialize)]
pub(crate) struct JobView {
    pub(crate) job_id: String,
    pub(crate) state: String,
    queue: String,
    command: String,
    args: Vec<String>,
    environment_names: Vec<String>,
    secret_environment_names: Vec<String>,
    working_dir: Option<String>,
    repository: Option<RepositoryView>,
    owner: String,
    timeout: Option<String>,
    max_attempts: u32,
    retry_on_exit: bool,
    unique: bool,
    stdin: bool,
    terminal: Option<TerminalView>,
    shared_input: bool,
    labels: BTreeMap<String, String>,
    isolation: Option<String>,
    best_effort: bool,
    limits: Option<LimitsView>,
    host_network: bool,
    certificate: Option<CertificateView>,
    priority: i32,
    requires: BTreeMap<String, String>,
    retry_delay: Option<String>,
    attempt: u32,
    holder: Option<String>,
    lease_deadline: Option<Moment>,
    process_id: Option<u32>,
    exit: Option<ExitView>,
    reason: Option<String>,
    cancelling: bool,
    created_at: Option<Moment>,
    visible_at: Option<Moment>,
    started_at: Option<Moment>,
    finished_at: Option<Moment>,
    usage: Option<UsageView>,
}

/// That it has a certificate, and what it may do with it.
#[derive(Debug, Serialize)]
struct CertificateView {
    grants: Vec<String>,
}

impl CertificateView {
    fn line(&self) -> String {
        if self.grants.is_empty() {
            return "of its own".to_owned();
        }
        format!("of its own, for {}", self.grants.join(", "))
    }
}

#[derive(Debug, Serialize)]
struct TerminalView {
    rows: u32,
    columns: u32,
}

#[derive(Debug, Serialize)]
struct RepositoryView {
    url: String,
    revision: Option<String>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitView {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl ExitView {
    /// How a process ended; none where the message does not say.
    pub(crate) fn of(exit: Option<pb::Exit>) -> Option<Self> {
        match exit?.how? {
            How::Code(code) => Some(Self::Code(code)),
            How::Signal(signal) => Some(Self::Signal(signal)),
        }
    }

    /// What a shell would have as the code: 128 + n for signal n.
    pub(crate) fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => u8::try_from(code & 0xff).unwrap_or(255),
            Self::Signal(signal) => u8::try_from(signal.clamp(1, 127)).unwrap_or(127).saturating_add(128),
        }
    }
}

impl fmt::Display for ExitView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => code.fmt(f),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl Serialize for ExitView {
    /// One of `{"code": 1}` and `{"signal": 9}`, which YAML has no other way to say than by a tag.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, number) = match self {
            Self::Code(code) => ("code", code),
            Self::Signal(signal) => ("signal", signal),
        };
        serializer.collect_map([(name, number)])
    }
}

/// The name of a job's state.
pub(crate) fn job_state(number: i32) -> String {
    word(number, JobState::as_str_name, "JOB_STATE_")
}

impl JobView {
    /// The headers of [`JobView::row`].
    pub(crate) const HEADERS: &[&str] = &["ID", "STATE", "EXIT", "QUEUE", "OWNER", "CREATED", "COMMAND"];

    /// A row of a list, as it is at `now`.
    pub(crate) fn row(&self, now: Timestamp) -> [String; 7] {
        let (id, state, queue) = (self.job_id.clone(), self.state.clone(), self.queue.clone());
        let exit = self.exit.map(|exit| exit.to_string()).unwrap_or_default();
        [id, state, exit, queue, self.owner.clone(), beside(self.created_at, now), self.command_line()]
    }

    /// Everything, for people who look at `now`; with bars where `bars`.
    pub(crate) fn fields(&self, now: Timestamp, bars: bool) -> Vec<(&'static str, String)> {
        let yes = |is: bool| if is { "yes".to_owned() } else { String::new() };
        let repository = self.repository.as_ref().map(|repository| match &repository.revision {
            Some(revision) => format!("{}#{revision}", repository.url),
            None => repository.url.clone(),
        });
        let flags = [
            ("a terminal", self.terminal.is_some()),
            ("standard input", self.stdin),
            ("shared input", self.shared_input),
            ("another try for its exit code", self.retry_on_exit),
            ("to be the only one", self.unique),
            ("to be stopped", self.cancelling),
        ];
        let flags: Vec<_> = flags.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
        let mut fields = vec![
            ("id", self.job_id.clone()),
            ("state", self.state.clone()),
            ("exit", self.exit.map(|exit| exit.to_string()).unwrap_or_default()),
            ("because", cell(self.reason.as_ref())),
            ("command", self.command_line()),
            ("environment", self.environment_names.join(", ")),
            ("secrets", self.secret_environment_names.join(", ")),
            ("working directory", cell(self.working_dir.as_ref())),
            ("repository", cell(repository.as_ref())),
            ("queue", self.queue.clone()),
            ("priority", self.priority.to_string()),
            ("requires", pairs(&self.requires)),
            ("owner", self.owner.clone()),
            ("labels", pairs(&self.labels)),
            ("attempt", format!("{} of {}", self.attempt, self.max_attempts)),
            ("between attempts", cell(self.retry_delay.as_ref())),
            ("may run for", cell(self.timeout.as_ref())),
            ("isolation", self.isolation.clone().unwrap_or_else(|| "the worker's".to_owned())),
            ("best effort", yes(self.best_effort)),
            ("limits", self.limits.as_ref().map(LimitsView::line).unwrap_or_default()),
            ("machine's network", yes(self.host_network)),
            ("certificate", self.certificate.as_ref().map(CertificateView::line).unwrap_or_default()),
            ("asked for", flags.join(", ")),
            ("held by", cell(self.holder.as_ref())),
            ("lease until", told(self.lease_deadline, now)),
            ("process", self.process_id.map(|id| id.to_string()).unwrap_or_default()),
            ("created", told(self.created_at, now)),
            ("may be taken", told(self.visible_at, now)),
            ("started", told(self.started_at, now)),
            ("finished", told(self.finished_at, now)),
        ];
        if let Some(usage) = &self.usage {
            let life = self.started_at.zip(self.finished_at);
            let life = life.map(|(started, finished)| finished.0.since(started.0));
            fields.extend(usage.fields(self.limits.as_ref(), life, bars));
        }
        fields
    }

    /// Command and arguments as a shell would take them.
    pub(crate) fn command_line(&self) -> String {
        let words = [&self.command].into_iter().chain(&self.args).map(|word| quoted(word));
        words.collect::<Vec<_>>().join(" ")
    }
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&b);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

impl From<pb::Job> for JobView {
    fn from(job: pb::Job) -> Self {
        let repository = job
            .repository
            .map(|repository| RepositoryView { revision: some(&repository.revision), url: repository.url });
        Self {
            job_id: job.job_id,
            state: job_state(job.state),
            queue: job.queue,
            command: job.command,
            args: job.args,
            environment_names: job.environment_names,
            secret_environment_names: job.secret_environment_names,
            working_dir: some(&job.working_dir),
            repository,
            owner: job.owner,
            timeout: duration(job.timeout.as_ref()),
            max_attempts: job.max_attempts,
            retry_on_exit: job.retry_on_exit,
            unique: job.unique,
            stdin: job.stdin,
            terminal: job.terminal.map(|size| TerminalView { rows: size.rows, columns: size.columns }),
            shared_input: job.shared_input,
            labels: job.labels.into_iter().collect(),
            isolation: isolation(job.isolation),
            best_effort: job.best_effort,
            limits: job.limits.map(LimitsView::from),
            host_network: job.host_network,
            certificate: job.certificate.map(|certificate| CertificateView { grants: certificate.grants }),
            priority: job.priority,
            requires: job.requires.into_iter().collect(),
            retry_delay: duration(job.retry_delay.as_ref()),
            attempt: job.attempt,
            holder: some(&job.holder),
            lease_deadline: time(job.lease_deadline.as_ref()),
            process_id: (job.process_id > 0).then_some(job.process_id),
            exit: ExitView::of(job.exit),
            reason: some(&job.reason),
            cancelling: job.cancelling,
            created_at: time(job.created_at.as_ref()),
            visible_at: time(job.visible_at.as_ref()),
            started_at: time(job.started_at.as_ref()),
            finished_at: time(job.finished_at.as_ref()),
            usage: job.usage.map(UsageView::from),
        }
    }
}

/// An event, for programs.
#[derive(Debug, Serialize)]
pub(crate) struct EventView {
    sequence: u64,
    at: Option<String>,
    #[serde(flatten)]
    kind: EventKind,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum EventKind {
    Started {
        process_id: u32,
    },
    /// The bytes in base64, since they need not be text.
    Output {
        stream: String,
        data: String,
    },
    Note {
        message: String,
    },
    AttemptEnded {
        outcome: String,
        exit: Option<ExitView>,
        reason: Option<String>,
        last: bool,
    },
    Gap {
        lost_until: u64,
    },
    Unknown,
}

impl From<pb::JobEvent> for EventView {
    fn from(event: pb::JobEvent) -> Self {
        let kind = match event.kind {
            Some(Kind::Started(started)) => EventKind::Started { process_id: started.process_id },
            Some(Kind::Output(output)) => EventKind::Output {
                stream: word(output.stream, OutputStream::as_str_name, "OUTPUT_STREAM_"),
                data: BASE64.encode(&output.data),
            },
            Some(Kind::Note(note)) => EventKind::Note { message: note.message },
            Some(Kind::AttemptEnded(ended)) => EventKind::AttemptEnded {
                outcome: ended.outcome,
                exit: ExitView::of(ended.exit),
                reason: some(&ended.reason),
                last: ended.last,
            },
            Some(Kind::Gap(gap)) => EventKind::Gap { lost_until: gap.lost_until },
            None => EventKind::Unknown,
        };
        Self { sequence: event.sequence, at: precise_time(event.at.as_ref()), kind }
    }
}

/// The end of a job, for programs.
#[derive(Debug, Serialize)]
pub(crate) struct EndedView {
    kind: &'static str,
    pub(crate) state: String,
    pub(crate) exit: Option<ExitView>,
    pub(crate) reason: Option<String>,
}

impl From<pb::JobEnded> for EndedView {
    fn from(ended: pb::JobEnded) -> Self {
        Self {
            kind: "ended",
            state: job_state(ended.state),
            exit: ExitView::of(ended.exit),
            reason: some(&ended.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_what_a_shell_makes_of_it() {
        for (exit, code) in [
            (ExitView::Code(0), 0),
            (ExitView::Code(7), 7),
            (ExitView::Code(255), 255),
            (ExitView::Signal(9), 137),
            (ExitView::Signal(15), 143),
        ] {
            assert_eq!(exit.shell_code(), code, "{exit:?}");
        }
    }

    #[test]
    fn an_exit_is_told_alike_in_every_format() {
        let value = serde_norway::to_value(ExitView::Signal(9)).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), r#"{"signal":9}"#);
        assert_eq!(serde_norway::to_string(&ExitView::Code(7)).unwrap(), "code: 7\n");
    }

    #[test]
    fn a_command_line_can_be_pasted() {
        let job = pb::Job {
            command: "sh".to_owned(),
            args: ["-c", "echo it's", ""].map(str::to_owned).to_vec(),
            ..pb::Job::default()
        };
        assert_eq!(JobView::from(job).command_line(), r"sh -c 'echo it'\''s' ''");
    }

    #[test]
    fn an_event_is_flat_and_names_its_kind() {
        let output = pb::Output { stream: 2, data: vec![0xff].into() };
        let event = pb::JobEvent { sequence: 7, at: None, kind: Some(Kind::Output(output)) };
        assert_eq!(
            serde_json::to_string(&EventView::from(event)).unwrap(),
            r#"{"sequence":7,"at":null,"kind":"output","stream":"stderr","data":"/w=="}"#
        );
    }
}
