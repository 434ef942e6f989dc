//! The role of the init: process 1 of a sandbox. Starts the command, passes signals on to it, reaps whatever
//! dies, and ends with the command or the supervisor; with it the kernel ends the rest. Must run nothing else.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio, exit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group,
    set_dumpable_behavior, wait,
};

use super::{COMMAND_ROLE, HandOver, identity};
use crate::plan::Plan;
use crate::report::{Failure, Reporter, Step};
use crate::spec::JOB_ID_VARIABLE;
use crate::user::RunAs;

/// In the order in which they are passed on when several came at once: a process that is stopped hears what came
/// before it is continued.
const PASSED_ON: [Signal; 8] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
    Signal::TERM,
    Signal::CONT,
];

/// Runs until the command has ended, or the supervisor has.
pub(super) fn run() -> ! {
    let Ok(handed) = HandOver::receive() else { exit(1) };
    let started = start(handed);
    let (mut supervisor, signals, command) = match started {
        Ok(started) => started,
        Err((handed, failure)) => {
            Reporter(File::from(handed.report)).failure(&failure);
            exit(1)
        }
    };
    let status = attend(&mut supervisor, &signals, command);
    // The supervisor may be gone by now, and then nobody asks.
    let _ = send(&supervisor, &status.as_raw().to_ne_bytes(), SendFlags::NOSIGNAL);
    exit(status.exit_status().unwrap_or(1))
}

type Started = (OwnedFd, Signals, Pid);

fn start(handed: HandOver) -> Result<Started, (HandOver, Failure)> {
    match try_start(&handed) {
        Ok(started) => Ok(started),
        Err(failure) => Err((handed, failure)),
    }
}

fn try_start(handed: &HandOver) -> Result<Started, Failure> {
    let fail = |error: io::Error| Failure::new(Step::Init, error);
    let fail_errno = |error: Errno| Failure::new(Step::Init, error);
    // A group of its own, which the supervisor can signal.
    rustix::process::setsid().map_err(fail_errno)?;
    let plan = handed.plan.try_clone().and_then(Plan::read).map_err(fail)?;
    let confinement = plan.sandbox.as_ref().ok_or_else(|| fail_errno(Errno::INVAL))?;
    if let Some(ids) = confinement.user_namespace {
        identity::map_ids(ids)?;
    }
    identity::enter_cgroup_namespace()?;
    let signals = Signals::listen().map_err(fail)?;
    silence().map_err(fail)?;
    // Standard input is what the supervisor holds the other end of, for as long as it lives.
    let supervisor = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(fail_errno)?;
    let child = spawn_command(handed, &plan).map_err(fail)?;
    let pid = Pid::from_child(&child);
    resign(plan.user)?;
    Ok((supervisor, signals, pid))
}

/// Standard output and error are still the supervisor's, who wants them closed when it closes them.
fn silence() -> io::Result<()> {
    let nothing = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nothing)?;
    Ok(rustix::stdio::dup2_stderr(&nothing)?)
}

/// The command begins as this program, too: while its root is still the host's, where its libraries are.
fn spawn_command(handed: &HandOver, plan: &Plan) -> io::Result<Child> {
    let (mine, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let role = std::str::from_utf8(COMMAND_ROLE.to_bytes()).map_err(io::Error::other)?;
    let id = plan.program.environment.get(std::ffi::OsStr::new(JOB_ID_VARIABLE));
    let child = Command::new("/proc/self/exe")
        .arg0(role)
        .env_clear()
        .envs(id.map(|id| (JOB_ID_VARIABLE, id)))
        .stdin(Stdio::from(theirs))
        .spawn()?;
    handed.send(mine)?;
    Ok(child)
}

/// From here on this process may do no more than the job, which may not look into it.
fn resign(user: Option<RunAs>) -> Result<(), Failure> {
    identity::drop_bounding_set()?;
    identity::become_user(user)?;
    identity::drop_capabilities()?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Failure::new(Step::Capabilities, error))
}

/// Until the command has ended. Ends this process at once when the supervisor has.
fn attend(supervisor: &mut OwnedFd, signals: &Signals, command: Pid) -> WaitStatus {
    loop {
        // What came before the poll has left a byte in the pipe.
        let mut descriptors = [
            PollFd::new(&signals.wake, PollFlags::IN),
            PollFd::from_borrowed_fd(supervisor.as_fd(), PollFlags::IN),
        ];
        match poll(&mut descriptors, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => exit(1),
        }
        // The supervisor says nothing more, so that this is its end.
        if !descriptors[1].revents().is_empty() {
            exit(1)
        }
        signals.clear();
        for signal in signals.came() {
            if kill_process_group(command, signal) == Err(Errno::SRCH) {
                // It has no group of its own yet. As it is not reaped, the number is still its own.
                let _ = kill_process(command, signal);
            }
        }
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == command {
                return status;
            }
        }
    }
}

/// What signals have left behind: a flag each, and a byte that wakes.
struct Signals {
    flags: Vec<(Signal, Arc<AtomicBool>)>,
    wake: UnixStream,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let mut flags = Vec::new();
        for signal in PASSED_ON {
            let flag = Arc::new(AtomicBool::new(false));
            // The flag is registered first, and is set when the byte comes.
            signal_hook::flag::register(signal.as_raw(), Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(signal.as_raw(), waker.try_clone()?)?;
            flags.push((signal, flag));
        }
        signal_hook::low_level::pipe::register(Signal::CHILD.as_raw(), waker)?;
        Ok(Self { flags, wake })
    }

    fn clear(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.wake).read(&mut bytes), Ok(1..)) {}
    }

    fn came(&self) -> impl Iterator<Item = Signal> {
        let came = self.flags.iter().filter(|(_, flag)| flag.swap(false, Ordering::Relaxed));
        came.map(|(signal, _)| *signal)
    }
}
