//! One job, from the claim to the word of how it ended.

use std::{
    collections::HashMap,
    convert::Infallible,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use airunner_exec::{Exit, Job as Process, JobId, Output, Spec, Stdin, Stream};
use airunner_proto::job::v1::{
    CancelledOutcome, Exit as WireExit, HandedBackOutcome, Job, Note, OutputStream, Started, TimedOutOutcome,
    completion::Outcome, exit::How, job_event::Kind,
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    complete::complete,
    confinement::Confinement,
    git,
    held::{Control, Held},
    identity::JobIdentity,
    line::size,
    process::{Attendant, Piece, Stopped},
    shared::Shared,
    workspace::Workspace,
};

/// What is to be done.
pub(super) struct Work {
    pub(super) job: Job,
    pub(super) environment: HashMap<String, String>,
}

/// Runs a job under its lease, and tells how it ended once the server has all that it printed. Of a lost lease nothing is
/// told.
pub(super) async fn run(
    shared: Arc<Shared>,
    held: Arc<Held>,
    work: Work,
    controls: mpsc::UnboundedReceiver<Control>,
) {
    let (attendant, pieces) = Attendant::new(Arc::clone(&shared), Arc::clone(&held), controls);
    let confinement = Confinement::of(&work.job, &shared.options);
    let level = confinement.as_ref().map(Confinement::wire).unwrap_or_default();
    let mut task = Task { attendant, work };
    let outcome = task.run(confinement, pieces).await;
    let usage = task.attendant.used.at(level);
    held.outbox.settled().await;
    let outcome = held.outbox.failure().map_or(outcome, |why| {
        Some(Outcome::Failed(format!("the server did not get what the job printed: {why}")))
    });
    let is_over = if let Some(outcome) = outcome.filter(|_| !held.lost.is_cancelled()) {
        shared.narrow().await;
        complete(&shared, &held, outcome, usage).await
    } else {
        tracing::warn!(job = held.job_id, attempt = held.attempt, "the lease was lost, and the job killed");
        false
    };
    shared.release(&held, is_over);
}

struct Task {
    attendant: Attendant,
    work: Work,
}

/// Where a job's command runs.
struct Place<'a> {
    confinement: &'a Confinement,
    workspace: &'a Workspace,
    /// Where the working directory counts from.
    base: &'a Path,
}

impl Task {
    /// How the job ended; none where its lease was lost.
    async fn run(
        &mut self,
        confinement: Result<Confinement, Failed>,
        pieces: mpsc::UnboundedReceiver<Piece>,
    ) -> Option<Outcome> {
        let (shared, held) = (Arc::clone(&self.attendant.shared), Arc::clone(&self.attendant.held));
        // Two attempts of one job would share its marks.
        let turn = async {
            shared.predecessor_gone(&held).await;
            shared.slots.acquire().await.ok()
        };
        let Some(_slot) = self.attendant.before(turn).await else { return self.stopped(None) };
        let confinement = match confinement {
            Ok(confinement) => confinement,
            Err(Failed(why)) => return Some(Outcome::Failed(why)),
        };
        let name = format!("{}-{}", held.job_id, held.attempt);
        let workspace = match Workspace::make(&shared.site.work, name, shared.site.user).await {
            Ok(workspace) => workspace,
            Err(error) => return Some(Outcome::Failed(error.message().to_owned())),
        };
        let outcome = match self.prepare(&confinement, &workspace).await {
            Ok((base, mut identity)) => {
                let place = Place { confinement: &confinement, workspace: &workspace, base: &base };
                let outcome = self.execute(&place, identity.as_mut(), pieces).await;
                if let Some(identity) = identity {
                    identity.remove().await;
                }
                outcome
            }
            Err(Failed(_)) if self.attendant.stopped.is_some() => self.stopped(None),
            Err(Failed(why)) => Some(Outcome::Failed(why)),
        };
        workspace.remove().await;
        outcome
    }

    /// Fetches the repository, where there is one, and then has the job certified, where it wants that. Returns where the
    /// working directory counts from, and the job's identity.
    async fn prepare(
        &mut self,
        confinement: &Confinement,
        workspace: &Workspace,
    ) -> Result<(PathBuf, Option<JobIdentity>), Failed> {
        let base = match self.work.job.repository.clone() {
            None => workspace.path().to_owned(),
            Some(repository) => {
                self.note(format!("fetching {}", git::shown(&repository.url)));
                git::fetch(&mut self.attendant, confinement, workspace, &repository).await?
            }
        };
        if self.work.job.certificate.is_none() {
            return Ok((base, None));
        }
        let (shared, held) = (Arc::clone(&self.attendant.shared), Arc::clone(&self.attendant.held));
        let name = format!("{}-{}", held.job_id, held.attempt);
        let obtained = self.attendant.before(JobIdentity::obtain(&shared, &held, &name)).await;
        let stopped = || Failed("the job was stopped before it had its certificate".to_owned());
        Ok((base, Some(obtained.ok_or_else(stopped)??)))
    }

    async fn execute(
        &mut self,
        place: &Place<'_>,
        identity: Option<&mut JobIdentity>,
        pieces: mpsc::UnboundedReceiver<Piece>,
    ) -> Option<Outcome> {
        let mut process = match self.start(place, identity.as_deref()).await {
            Ok(process) => process,
            Err(Failed(why)) => return Some(Outcome::Failed(why)),
        };
        self.push(Kind::Started(Started { process_id: process.pid() }));
        if !process.left_out().is_empty() {
            let parts: Vec<_> = process.left_out().iter().map(ToString::to_string).collect();
            self.note(format!(
                "this host can't give all that was asked for: the job runs without {}",
                parts.join(", ")
            ));
        }
        let feeding = process.input().map(|input| tokio::spawn(feed(input, pieces)));
        let printing = process.output().map(|output| {
            tokio::spawn(print(Arc::clone(&self.attendant.shared), Arc::clone(&self.attendant.held), output))
        });
        let limit = self.work.job.timeout.and_then(|limit| Duration::try_from(limit).ok());
        let renewing =
            renewing(identity, Arc::clone(&self.attendant.shared), Arc::clone(&self.attendant.held));
        let exit = tokio::select! {
            exit = self.attendant.attend(&process, limit) => exit,
            never = renewing => match never {},
        };
        if let Some(feeding) = feeding {
            feeding.abort();
        }
        self.printed(printing).await;
        if let Err(error) = process.drained().await {
            self.note(format!("the output is not complete: {error}"));
        }
        match self.attendant.stopped {
            Some(_) => self.stopped(Some(exit)),
            None => Some(ended(exit)),
        }
    }

    async fn start(&self, place: &Place<'_>, identity: Option<&JobIdentity>) -> Result<Process, Failed> {
        let Place { confinement, workspace, base } = place;
        let shared = &self.attendant.shared;
        let spec = self.spec(workspace, base)?;
        let spec = match identity {
            Some(identity) => identity.furnish(spec, shared),
            None => spec,
        };
        let shown = identity.map(JobIdentity::directory);
        let spec = confinement.confine(spec, &shared.site, workspace, shown)?;
        Process::spawn(spec).await.map_err(|error| confinement.explain(&error))
    }

    fn spec(&self, workspace: &Workspace, base: &Path) -> Result<Spec, Failed> {
        let (job, site) = (&self.work.job, &self.attendant.shared.site);
        let id = JobId::new(&job.job_id).map_err(|error| Failed(error.to_string()))?;
        let mut spec = Spec::new(id, &job.command)
            .args(&job.args)
            .env("PATH", &self.attendant.shared.options.path)
            .env("HOME", workspace.path())
            .env("AIRUNNER_ATTEMPT", job.attempt.to_string())
            .directory(base.join(&job.working_dir))
            .mark_dir(&site.marks)
            .stdin(if job.stdin { Stdin::Piped } else { Stdin::Empty });
        for (name, value) in &self.work.environment {
            spec = spec.env(name, value);
        }
        if let Some(size) = job.terminal.and_then(size) {
            spec = spec.pty(size.rows, size.columns);
        }
        Ok(spec)
    }

    /// Waits until everything that was printed is in the outbox. A stream of output has an end, since its pipes do.
    async fn printed(&mut self, printing: Option<JoinHandle<()>>) {
        if let Some(printing) = printing
            && let Err(error) = printing.await
        {
            tracing::error!(%error, "the output of a job was not read to its end");
        }
    }

    /// What is told of a job that was stopped.
    fn stopped(&self, exit: Option<Exit>) -> Option<Outcome> {
        let exit = exit.and_then(wire);
        match self.attendant.stopped? {
            Stopped::Cancelled => Some(Outcome::Cancelled(CancelledOutcome { exit })),
            Stopped::TimedOut => Some(Outcome::TimedOut(TimedOutOutcome { exit })),
            Stopped::Shutdown => {
                if exit.is_some() {
                    self.note(
                        "the worker was stopped: the job was killed and goes back to its queue".to_owned(),
                    );
                }
                Some(Outcome::HandedBack(HandedBackOutcome {}))
            }
            // The outbox has the reason.
            Stopped::Broken => Some(Outcome::Failed(String::new())),
            Stopped::Lost => None,
        }
    }

    fn note(&self, message: String) {
        self.push(Kind::Note(Note { message }));
    }

    fn push(&self, kind: Kind) {
        let clock = &self.attendant.shared.clock;
        self.attendant.held.outbox.push(kind, clock.now(), clock.monotonic());
    }
}

/// Why a job could not be run, for people.
#[derive(Debug)]
pub(super) struct Failed(pub(super) String);

impl From<airunner_core::Error> for Failed {
    fn from(error: airunner_core::Error) -> Self {
        Self(error.message().to_owned())
    }
}

/// Renews what is to be renewed while the job runs.
async fn renewing(identity: Option<&mut JobIdentity>, shared: Arc<Shared>, held: Arc<Held>) -> Infallible {
    match identity {
        Some(identity) => identity.keep(shared, held).await,
        None => std::future::pending().await,
    }
}

/// Takes what a job prints to its outbox.
async fn print(shared: Arc<Shared>, held: Arc<Held>, mut output: Output) {
    while let Some(chunk) = output.next().await {
        let stream = match chunk.stream {
            Stream::Stdout => OutputStream::Stdout,
            Stream::Stderr => OutputStream::Stderr,
        };
        if !held.outbox.push_output(stream, chunk.bytes.into(), &*shared.clock).await {
            return;
        }
    }
}

/// Writes standard input as it comes, until its end or the job's.
async fn feed(mut input: airunner_exec::Input, mut pieces: mpsc::UnboundedReceiver<Piece>) {
    while let Some((bytes, end)) = pieces.recv().await {
        if let Err(error) = input.write(&bytes).await {
            tracing::debug!(%error, "input that nobody read");
            return;
        }
        if end {
            return;
        }
    }
}

fn ended(exit: Exit) -> Outcome {
    match wire(exit) {
        Some(exit) => Outcome::Exited(exit),
        None => Outcome::Failed(
            "how the process ended is not known: something else on the worker reaped it".to_owned(),
        ),
    }
}

fn wire(exit: Exit) -> Option<WireExit> {
    let how = match exit {
        Exit::Code(code) => How::Code(code),
        Exit::Signal(signal) => How::Signal(signal),
        Exit::Lost => return None,
    };
    Some(WireExit { how: Some(how) })
}
