//! What of a job never changes, as stores keep it: one JSON text. What changes in its life stands beside it.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use airunner_core::{
    Cancellation, Exit, Job, JobId, JobState, Lease, PrincipalId, ProcessType, QueueName, Repository,
    Timestamp,
};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

/// What was asked for: the part of a job that never changes and is not searched by.
#[derive(Serialize, Deserialize)]
pub struct JobSpec<'j> {
    command: Cow<'j, str>,
    args: Cow<'j, [String]>,
    environment: Cow<'j, BTreeMap<String, String>>,
    working_dir: Cow<'j, str>,
    repository: Option<Cow<'j, Repository>>,
    process_type: ProcessType,
    stdin: bool,
    timeout: Option<Duration>,
    max_attempts: u32,
    retry_on_exit: bool,
    unique: bool,
    labels: Cow<'j, BTreeMap<String, String>>,
}

impl<'j> From<&'j Job> for JobSpec<'j> {
    fn from(job: &'j Job) -> Self {
        Self {
            command: Cow::Borrowed(&job.command),
            args: Cow::Borrowed(&job.args),
            environment: Cow::Borrowed(&job.environment),
            working_dir: Cow::Borrowed(&job.working_dir),
            repository: job.repository.as_ref().map(Cow::Borrowed),
            process_type: job.process_type,
            stdin: job.stdin,
            timeout: job.timeout,
            max_attempts: job.max_attempts,
            retry_on_exit: job.retry_on_exit,
            unique: job.unique,
            labels: Cow::Borrowed(&job.labels),
        }
    }
}

impl JobSpec<'_> {
    /// The job that has this of its own, and `life` beside it.
    pub fn into_job(self, life: JobLife) -> Job {
        Job {
            id: life.id,
            queue: life.queue,
            command: self.command.into_owned(),
            args: self.args.into_owned(),
            environment: self.environment.into_owned(),
            working_dir: self.working_dir.into_owned(),
            repository: self.repository.map(Cow::into_owned),
            owner: life.owner,
            process_type: self.process_type,
            stdin: self.stdin,
            timeout: self.timeout,
            max_attempts: self.max_attempts,
            retry_on_exit: self.retry_on_exit,
            unique: self.unique,
            labels: self.labels.into_owned(),
            state: life.state,
            attempt: life.attempt,
            handed_back: life.handed_back,
            lease: life.lease,
            process_id: life.process_id,
            exit: life.exit,
            reason: life.reason,
            cancellation: life.cancellation,
            created_at: life.created_at,
            visible_at: life.visible_at,
            started_at: life.started_at,
            finished_at: life.finished_at,
        }
    }
}

/// The part of a job that a store searches by or changes.
#[expect(missing_docs, reason = "each field is that of Job")]
pub struct JobLife {
    pub id: JobId,
    pub queue: QueueName,
    pub owner: PrincipalId,
    pub state: JobState,
    pub attempt: u32,
    pub handed_back: u32,
    pub lease: Option<Lease>,
    pub process_id: Option<u32>,
    pub exit: Option<Exit>,
    pub reason: String,
    pub cancellation: Option<Cancellation>,
    pub created_at: Timestamp,
    pub visible_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// What jobs of the same owner, command and arguments have in common.
pub fn alike(job: &Job) -> [u8; 16] {
    let mut context = Context::new(&SHA256);
    let owner = job.owner.folded();
    let parts = [owner.as_str(), job.command.as_str()].into_iter().chain(job.args.iter().map(String::as_str));
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut common = [0; 16];
    common.copy_from_slice(&context.finish().as_ref()[..16]);
    common
}
