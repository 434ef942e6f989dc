//! A running job: its handle, and the task that supervises it to its end. Must not decide what to run, or
//! how long it may take.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{self, Pid, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::{Sleep, sleep};

use crate::error::SpawnError;
use crate::input::Input;
use crate::isolation::Measure;
use crate::leader::Leader;
use crate::log_reader::{LogError, LogReader, Position, Progress};
use crate::output::{Drained, Outcome, Output, OutputError, Pump, Source};
use crate::pty::{self, Master, TerminalSize};
use crate::spec::{JobId, Spec};
use crate::start::{self, Started, Streams};
use crate::{group, procfs};

/// The usual time between the signal of [`Job::stop`] and the kill.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// How often, and with what pause, a program is tried that is open for writing.
const BUSY_RETRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// A signal by which a job can be asked to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of signal(7)")]
pub enum Signal {
    Hup,
    Int,
    Quit,
    Kill,
    Usr1,
    Usr2,
    #[default]
    Term,
}

/// How the first process of a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It ended, but how is not known: this process ignores `SIGCHLD` or another part of it reaps all
    /// children.
    Lost,
}

impl Exit {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Lost,
        }
    }
}

/// Whether a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its first process runs, or its group is being cleared.
    Running,
    /// Nothing of its group is left.
    Ended(Exit),
}

/// What a job used: with a cgroup, all its processes; without one, the first process and the children that it waited
/// for, to a clock tick (10 ms). What the host does not count is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// The most memory at a time, in bytes.
    pub peak_memory: Option<u64>,
    /// Processes that were killed because its memory ran out.
    pub oom_kills: Option<u64>,
    /// The most processes and threads at a time.
    pub peak_processes: Option<u64>,
    /// Read from block devices.
    pub read_bytes: Option<u64>,
    /// Written to block devices.
    pub written_bytes: Option<u64>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// How its first process ended.
    pub exit: Exit,
    /// What it used, where the host tells.
    pub usage: Option<Usage>,
    /// Processes of it that outlived `SIGKILL` by five seconds: stuck in the kernel, or of a user whom
    /// this process may not kill. Empty but on a sick machine; the mark stays then.
    pub survivors: Vec<u32>,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    Running,
    Ended(Completion),
}

impl State {
    pub(crate) fn ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

/// A job that was started. Dropping the handle kills the job and clears up in the background.
#[derive(Debug)]
pub struct Job {
    id: JobId,
    pid: u32,
    state: watch::Receiver<State>,
    stops: mpsc::UnboundedSender<Stop>,
    input: Option<Input>,
    output: Option<Output>,
    outcome: watch::Receiver<Outcome>,
    terminal: Option<Arc<Master>>,
    log_dir: Option<PathBuf>,
    logged: watch::Receiver<Progress>,
    left_out: Vec<Measure>,
}

#[derive(Debug)]
struct Stop {
    signal: Signal,
    grace: Duration,
}

impl Job {
    /// Starts a job. Once this returns, the command was found and is executing.
    ///
    /// # Errors
    /// Each [`SpawnError`] says what to put right; no process, file or descriptor is left then. A caller that
    /// drops the future leaves nothing either.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and IO.
    pub async fn spawn(spec: Spec) -> Result<Self, SpawnError> {
        let (id, buffer, log_dir) = (spec.id.clone(), spec.buffer, spec.log_dir.clone());
        let system = |action| move |source| SpawnError::System { action, source };
        let Started { leader, pidfd, streams, logs, left_out } = start_patiently(spec).await?;
        let pid = leader.pid.as_raw_nonzero().get().cast_unsigned();
        let watched = watch(pidfd).map_err(system("watch the process"))?;
        let Carried { input, stdout, stderr, terminal } =
            Carried::new(streams).map_err(system("carry its streams"))?;
        let (progress, logged) = watch::channel(Progress::default());
        let (mut pump, output) = Pump::new(stdout, stderr, buffer, progress);
        if let Some(logs) = logs {
            pump.log_to(logs.keep());
        }
        let (state_sender, state) = watch::channel(State::Running);
        let (outcome_sender, outcome) = watch::channel(None);
        let (stops, stop_receiver) = mpsc::unbounded_channel();
        tokio::spawn(pump.run(state.clone(), outcome_sender));
        tokio::spawn(async move {
            let completion = supervise(leader, watched, stop_receiver).await;
            state_sender.send_replace(State::Ended(completion));
        });
        let output = Some(output);
        Ok(Self { id, pid, state, stops, input, output, outcome, terminal, log_dir, logged, left_out })
    }

    /// The id from the specification.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// The first process, which is also the number of the group: the command's, or in a sandbox its init's, which passes
    /// signals on. Once the job has ended the number may be another's.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it runs.
    pub fn status(&self) -> Status {
        match &*self.state.borrow() {
            State::Running => Status::Running,
            State::Ended(completion) => Status::Ended(completion.exit),
        }
    }

    /// What the job runs without, though its level has it: only with [`Spec::best_effort`] anything at all.
    pub fn left_out(&self) -> &[Measure] {
        &self.left_out
    }

    /// What it used, once the job has ended.
    pub fn usage(&self) -> Option<Usage> {
        match &*self.state.borrow() {
            State::Running => None,
            State::Ended(completion) => completion.usage,
        }
    }

    /// The standard input, where the specification asks for one or for a terminal; `None` if it was taken before.
    ///
    /// It stays open as long as it or this handle lives: take it and drop it to end the input.
    pub fn input(&mut self) -> Option<Input> {
        self.input.take()
    }

    /// The live output from its first byte; `None` if it was taken before.
    ///
    /// Until it is read or dropped the job blocks once pipe and buffer are full: take it before
    /// [`wait`](Self::wait).
    pub fn output(&mut self) -> Option<Output> {
        self.output.take()
    }

    /// The output from any position, out of the files in [`Spec::log_dir`]: any number of readers, which slow neither
    /// the job nor each other. Blocks shortly.
    ///
    /// The job still waits for whoever has the live [`output`](Self::output): take it and drop it where only the files
    /// are read.
    ///
    /// # Errors
    /// [`LogError`] if the job keeps no files, or they were taken away.
    pub fn output_from(&self, from: Position) -> Result<LogReader, LogError> {
        let directory = self.log_dir.as_deref().ok_or(LogError::NoLogs)?;
        LogReader::open(directory, from, self.logged.clone())
    }

    /// Changes the size of its terminal, in characters; the job is told by a signal (`SIGWINCH`).
    ///
    /// # Errors
    /// [`NoTerminal`] if it has none.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), NoTerminal> {
        let terminal = self.terminal.as_ref().ok_or(NoTerminal)?;
        pty::resize(terminal.as_ref(), TerminalSize { rows, columns }).map_err(|_| NoTerminal)
    }

    /// Waits until no process of the job's group, or of its cgroup, is left. Safe to cancel, and may be called again.
    ///
    /// Does not wait for the output to be read: for that see [`drained`](Self::drained).
    pub async fn wait(&self) -> Completion {
        let mut state = self.state.clone();
        match state.wait_for(State::ended).await.as_deref() {
            Ok(State::Ended(completion)) => completion.clone(),
            // The runtime is shutting down, and has killed the group.
            _ => Completion { exit: Exit::Lost, usage: None, survivors: Vec::new() },
        }
    }

    /// Waits until all output is in the log files and was given to the reader. Safe to cancel.
    ///
    /// # Errors
    /// [`OutputError`] if a pipe or a log file failed; what could be carried was.
    pub async fn drained(&self) -> Result<Drained, OutputError> {
        let mut outcome = self.outcome.clone();
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            // As in `wait`.
            _ => Ok(Drained { held: true, ..Drained::default() }),
        }
    }

    /// Signals the group, kills what is left of it after `grace`, and waits for the end.
    ///
    /// A grace of zero kills at once. Of several calls the earliest kill counts. A job that has ended is not
    /// touched. Dropping the future takes nothing back.
    pub async fn stop(&self, signal: Signal, grace: Duration) -> Completion {
        // The supervisor is gone only when the job is.
        let _ = self.stops.send(Stop { signal, grace });
        self.wait().await
    }
}

/// The job has no terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job has no terminal: ask for one with Spec::pty")]
pub struct NoTerminal;

/// The streams, ready for the runtime.
struct Carried {
    input: Option<Input>,
    stdout: Source,
    stderr: Option<Source>,
    terminal: Option<Arc<Master>>,
}

impl Carried {
    fn new(streams: Streams) -> io::Result<Self> {
        Ok(match streams {
            Streams::Pipes { stdin, stdout, stderr } => Self {
                input: stdin.map(Input::to_pipe).transpose()?,
                stdout: Source::pipe(stdout)?,
                stderr: Some(Source::pipe(stderr)?),
                terminal: None,
            },
            Streams::Terminal(master) => {
                let master = Arc::new(Master::new(master)?);
                Self {
                    input: Some(Input::to_terminal(Arc::clone(&master))),
                    stdout: Source::Terminal(Arc::clone(&master)),
                    stderr: None,
                    terminal: Some(master),
                }
            }
        })
    }
}

/// A program that was just written may be held open for a moment by another thread's fork.
async fn start_patiently(spec: Spec) -> Result<Started, SpawnError> {
    let spec = std::sync::Arc::new(spec);
    let mut tries = 0;
    loop {
        let spec = std::sync::Arc::clone(&spec);
        let started = tokio::task::spawn_blocking(move || start::start(&spec)).await;
        match started {
            Ok(Err(SpawnError::Busy(_))) if tries < BUSY_RETRIES => {
                tries += 1;
                sleep(BUSY_PAUSE).await;
            }
            Ok(result) => return result,
            Err(error) => {
                let source = io::Error::other(error);
                return Err(SpawnError::System { action: "start the process", source });
            }
        }
    }
}

async fn supervise(
    mut leader: Leader,
    watched: AsyncFd<OwnedFd>,
    mut stops: mpsc::UnboundedReceiver<Stop>,
) -> Completion {
    let pid = leader.pid;
    let mut listening = true;
    let mut kill_at = None;
    loop {
        tokio::select! {
            () = ended(&watched, pid) => break,
            stop = stops.recv(), if listening => if let Some(stop) = stop {
                kill_at = Some(request(&leader, &stop, kill_at));
            } else {
                // The handle was dropped.
                listening = false;
                leader.kill();
            },
            () = due(&mut kill_at) => {
                kill_at = None;
                leader.kill();
            }
        }
    }
    // The leader is not reaped yet, so the number is still this group's: kill the rest now.
    leader.kill();
    let cgroup = leader.cgroup().map(|cgroup| cgroup.leaf().clone());
    let counted = tokio::task::spawn_blocking(move || usage(pid)).await.ok().flatten();
    // The leader is a zombie, so this does not block.
    let exit = leader.reap().map_or(Exit::Lost, Exit::of);
    let mut survivors = group::settle(pid).await;
    let mut usage = counted;
    if let Some(cgroup) = cgroup {
        survivors.extend(cgroup.settle().await);
        survivors.sort_unstable();
        survivors.dedup();
        usage = cgroup.usage().or(usage);
    }
    if survivors.is_empty() {
        // It fails only when the runtime is shutting down; the next sweep removes the mark then.
        let _ = tokio::task::spawn_blocking(move || leader.forget()).await;
    }
    Completion { exit, usage, survivors }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types whose descriptor may change; that of an OwnedFd cannot"
)]
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

/// Returns when the process has ended, and leaves it to be reaped. Safe to cancel.
async fn ended(watched: &AsyncFd<OwnedFd>, pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    loop {
        // An error on either call means that there is no such child any more.
        let Ok(mut ready) = watched.readable().await else { return };
        match process::waitid(WaitId::Pid(pid), options) {
            Ok(None) => ready.clear_ready(),
            Ok(Some(_)) | Err(_) => return,
        }
    }
}

/// Signals the group, and says when it is to be killed: at the earliest time anyone asked for.
fn request(leader: &Leader, stop: &Stop, earlier: Option<Pin<Box<Sleep>>>) -> Pin<Box<Sleep>> {
    if stop.signal == Signal::Kill || stop.grace.is_zero() {
        leader.kill();
    } else {
        group::signal(leader.pid, stop.signal.number());
        // A stopped process hears nothing but this and the kill.
        group::signal(leader.pid, process::Signal::CONT);
    }
    let kill_at = Box::pin(sleep(stop.grace));
    match earlier {
        Some(earlier) if earlier.deadline() < kill_at.deadline() => earlier,
        _ => kill_at,
    }
}

async fn due(kill_at: &mut Option<Pin<Box<Sleep>>>) {
    match kill_at {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

/// `USER_HZ`, the unit of `/proc`, on every architecture that Rust runs Linux on. To ask for it takes `/proc/self/auxv` on
/// kernels before 6.4, which a hardened process without root may not read.
const TICKS_PER_SECOND: u64 = 100;

/// A zombie still has its times. Blocks.
fn usage(pid: Pid) -> Option<Usage> {
    let stat = procfs::stat(pid).ok()?;
    let time = |ticks: u64| Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND));
    Some(Usage {
        user: time(stat.user_ticks),
        system: time(stat.system_ticks),
        peak_memory: None,
        oom_kills: None,
        peak_processes: None,
        read_bytes: None,
        written_bytes: None,
    })
}

impl Signal {
    /// The signal of this number on this machine; none where it is not one of these.
    pub fn from_number(number: i32) -> Option<Self> {
        const ALL: [Signal; 7] =
            [Signal::Hup, Signal::Int, Signal::Quit, Signal::Kill, Signal::Usr1, Signal::Usr2, Signal::Term];
        ALL.into_iter().find(|signal| signal.number().as_raw() == number)
    }

    fn number(self) -> process::Signal {
        match self {
            Self::Hup => process::Signal::HUP,
            Self::Int => process::Signal::INT,
            Self::Quit => process::Signal::QUIT,
            Self::Kill => process::Signal::KILL,
            Self::Usr1 => process::Signal::USR1,
            Self::Usr2 => process::Signal::USR2,
            Self::Term => process::Signal::TERM,
        }
    }
}
