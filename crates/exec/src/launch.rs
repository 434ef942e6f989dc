//! The supervisor's half of a job with isolation or a terminal: gives birth to stage two, hands over, and hears how
//! it went. Must not do anything that stage two can do.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{getegid, geteuid};

use crate::cgroup::JobCgroup;
use crate::clone::{self, Birth};
use crate::error::SpawnError;
use crate::isolation::{Isolation, Measure};
use crate::leader::Leader;
use crate::lookup::Missing;
use crate::mark::Mark;
use crate::memory_file::MemoryFile;
use crate::plan::{Confinement, Plan, ProcessLimits};
use crate::pty::Terminal;
use crate::report::{Failure, Report, Step};
use crate::sandbox::Network;
use crate::spec::{JOB_ID_VARIABLE, Spec, Stdin};
use crate::stage_two::{self, COMMAND_ROLE, HandOver, INIT_ROLE};
use crate::start::{Logs, Started, Streams, explain_execution};
use crate::user::RunAs;

/// How long stage two may take; it is a matter of milliseconds, but for a program on a slow disk.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// Starts the job, if need be and wanted without what the host refuses.
pub(crate) fn start(spec: &Spec) -> Result<Started, SpawnError> {
    if !stage_two::is_there() {
        return Err(SpawnError::StageTwoMissing);
    }
    let mut left_out = Vec::new();
    if spec.isolation >= Isolation::Limits {
        left_out.extend(check_cgroups(spec)?);
    }
    let sandboxed = spec.isolation == Isolation::Sandbox;
    let started = match Launch::new(spec, sandboxed).start() {
        Err(error) if sandboxed && spec.best_effort && is_refused_by_host(&error) => {
            left_out.extend([Measure::Namespaces]);
            Launch::new(spec, false).start()?
        }
        result => result?,
    };
    left_out.extend(started.left_out);
    Ok(Started { left_out, ..started })
}

/// What the host has no controller for; an error, unless best effort is asked for.
fn check_cgroups(spec: &Spec) -> Result<Vec<Measure>, SpawnError> {
    let missing = match &spec.cgroups {
        Some(cgroups) => cgroups.missing(&spec.limits),
        None if spec.best_effort => return Ok(vec![Measure::Cgroup]),
        None => return Err(SpawnError::NoCgroups),
    };
    match missing.first() {
        Some(measure) if !spec.best_effort => {
            let source = io::Error::new(io::ErrorKind::Unsupported, "its cgroup controller is not delegated");
            Err(SpawnError::Unavailable { measure: *measure, source })
        }
        _ => Ok(missing),
    }
}

/// Not what the caller got wrong, such as a path that is missing.
fn is_refused_by_host(error: &SpawnError) -> bool {
    let furnishing = [Step::Init, Step::IdMap, Step::Mounts, Step::HostName, Step::Loopback];
    let refusals = [Errno::PERM, Errno::NOSYS, Errno::INVAL, Errno::NODEV, Errno::NOSPC];
    match error {
        SpawnError::Unavailable { measure: Measure::Namespaces, .. } => true,
        SpawnError::StageTwo { step, source, .. } => {
            let errno = Errno::from_io_error(source);
            furnishing.contains(step) && errno.is_some_and(|errno| refusals.contains(&errno))
        }
        _ => false,
    }
}

struct Launch<'a> {
    spec: &'a Spec,
    namespaces: bool,
}

/// Both ends of what a job reads and writes.
struct Ends {
    job: [OwnedFd; 3],
    ours: Streams,
}

impl<'a> Launch<'a> {
    fn new(spec: &'a Spec, namespaces: bool) -> Self {
        Self { spec, namespaces }
    }

    fn start(&self) -> Result<Started, SpawnError> {
        let spec = self.spec;
        let logs = spec.log_dir.as_deref().map(Logs::create).transpose()?;
        let Ends { job: [stdin, stdout, stderr], ours } =
            open_streams(spec).map_err(system("make the job's streams"))?;
        let plan = self.plan().seal().map_err(system("write the plan"))?;
        let (heard, report) = pipe_with(PipeFlags::CLOEXEC).map_err(system("make a pipe"))?;
        let files = self.files().map_err(system("give the job its files"))?;
        let hand_over = HandOver { plan, stdin, stdout, stderr, report, files };
        let (leader, pidfd) = self.give_birth(hand_over)?;
        let report = match listen(heard) {
            Ok(report) => report,
            Err(error) => {
                let _ = leader.abandon();
                return Err(system("hear from the process")(error));
            }
        };
        match report {
            Report { failure: Some(failure), .. } => {
                let _ = leader.abandon();
                Err(self.explain(failure))
            }
            Report { ready: false, .. } => Err(explain_death(leader)),
            Report { left_out, .. } => Ok(Started { leader, pidfd, streams: ours, logs, left_out }),
        }
    }

    fn plan(&self) -> Plan {
        let spec = self.spec;
        let own = RunAs { uid: geteuid().as_raw(), gid: getegid().as_raw() };
        Plan {
            program: spec.program(),
            files: spec.files.keys().cloned().collect(),
            user: spec.run_as,
            terminal: spec.terminal.is_some(),
            limits: ProcessLimits { open_files: spec.limits.open_files, file_size: spec.limits.file_size },
            sandbox: (spec.isolation == Isolation::Sandbox).then(|| Confinement {
                sandbox: spec.sandbox.clone(),
                namespaces: self.namespaces,
                user_namespace: (self.namespaces && needs_user_namespace()).then_some(own),
                best_effort: spec.best_effort,
            }),
        }
    }

    /// The job's files in memory, readable to it from here on.
    fn files(&self) -> io::Result<Vec<OwnedFd>> {
        let give = |file: &MemoryFile| {
            file.give(self.spec.run_as)?;
            file.as_fd().try_clone_to_owned()
        };
        self.spec.files.values().map(give).collect()
    }

    /// Marks the job, makes its cgroup, and starts stage two in it. From then on the leader undoes all of that.
    fn give_birth(&self, hand_over: HandOver) -> Result<(Leader, OwnedFd), SpawnError> {
        let spec = self.spec;
        let cgroups = spec.cgroups.as_ref().filter(|_| spec.isolation >= Isolation::Limits);
        let path = cgroups.map(|cgroups| cgroups.path(&spec.id));
        let place = |directory: &PathBuf| Mark::place(directory, &spec.id, path);
        let mark = spec.mark_dir.as_ref().map(place).transpose()?;
        let born = (|| {
            let cgroup = cgroups.map(|cgroups| cgroups.create(&spec.id, &spec.limits)).transpose()?;
            let (socket, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                    .map_err(system("make a socket"))?;
            let cloned = self.clone(&theirs, cgroup.as_ref())?;
            Ok((cloned, cgroup, socket))
        })();
        let (cloned, cgroup, socket) = match born {
            Ok(born) => born,
            Err(error) => {
                if let Some(mark) = mark {
                    mark.remove();
                }
                return Err(error);
            }
        };
        let mut leader = Leader::cloned(cloned.pid, cgroup, mark)?;
        // Only now, marked, may it go on: it waits for this, and ends if it does not come.
        hand_over.send(&socket).map_err(system("hand over to the process"))?;
        if self.namespaces {
            leader.begins_with_init(socket);
        }
        Ok((leader, cloned.pidfd))
    }

    fn clone(&self, socket: &OwnedFd, cgroup: Option<&JobCgroup>) -> Result<clone::Cloned, SpawnError> {
        let role = if self.namespaces { INIT_ROLE } else { COMMAND_ROLE };
        let namespaces = if self.namespaces { namespaces(self.spec.sandbox.network) } else { 0 };
        // A sweep finds it by this. An id has no NUL.
        let variable = CString::new(format!("{JOB_ID_VARIABLE}={}", self.spec.id))
            .map_err(|error| system("name the process")(io::Error::other(error)))?;
        let birth = Birth { cgroup: cgroup.map(JobCgroup::directory), namespaces };
        clone::stage_two(role, &variable, socket.as_fd(), birth).map_err(|source| match Errno::from_io_error(
            &source,
        ) {
            Some(Errno::PERM | Errno::INVAL | Errno::NOSPC | Errno::USERS) if namespaces != 0 => {
                SpawnError::Unavailable { measure: Measure::Namespaces, source }
            }
            Some(Errno::NOSYS | Errno::PERM) => SpawnError::CloneRefused(source),
            _ => system("start the process")(source),
        })
    }

    fn explain(&self, failure: Failure) -> SpawnError {
        let Failure { step, errno, path } = failure;
        let source = io::Error::from(errno);
        let program = || self.spec.program();
        match step {
            Step::Directory => SpawnError::BadDirectory { path: self.spec.directory.clone(), source },
            Step::Find => Missing::NotFound.explain(&program()),
            Step::FindDirectory => Missing::Directory(path).explain(&program()),
            Step::FindClosed => Missing::Closed(path).explain(&program()),
            Step::Execute => explain_execution(path, source),
            Step::User if let Some(user) = self.spec.run_as => SpawnError::RunAsRefused(user),
            step => SpawnError::StageTwo { step, path, source },
        }
    }
}

/// Without root's rights, only a user namespace gives those over the other ones.
fn needs_user_namespace() -> bool {
    !geteuid().is_root()
}

fn namespaces(network: Network) -> u64 {
    let always = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let network = if network == Network::None { libc::CLONE_NEWNET } else { 0 };
    let user = if needs_user_namespace() { libc::CLONE_NEWUSER } else { 0 };
    u64::from((always | network | user).cast_unsigned())
}

fn open_streams(spec: &Spec) -> io::Result<Ends> {
    if let Some(size) = spec.terminal {
        let Terminal { master, slave } = Terminal::open(size, spec.run_as)?;
        let job = [slave.try_clone()?, slave.try_clone()?, slave];
        return Ok(Ends { job, ours: Streams::Terminal(master) });
    }
    let (read, stdin) = match spec.stdin {
        Stdin::Empty => (File::open("/dev/null")?.into(), None),
        Stdin::Piped => {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            (read, Some(write))
        }
    };
    let (stdout, out) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, err) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok(Ends { job: [read, out, err], ours: Streams::Pipes { stdin, stdout, stderr } })
}

/// Reads until nobody has the other end: the command is executed, or stage two has ended.
fn listen(heard: OwnedFd) -> io::Result<Report> {
    let mut heard = File::from(heard);
    let mut told = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match poll(&mut [PollFd::new(&heard, PollFlags::IN)], Some(&PATIENCE)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match heard.read(&mut buffer)? {
            0 => break,
            length => told.extend(&buffer[..length]),
        }
    }
    Report::parse(&told).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// It told nothing. Before it has executed, its code is an error's number.
fn explain_death(leader: Leader) -> SpawnError {
    SpawnError::Ended(match leader.abandon() {
        Ok(status) => match status.code() {
            Some(code @ 2..=133) => io::Error::from_raw_os_error(code).to_string(),
            _ => status.to_string(),
        },
        Err(error) => error.to_string(),
    })
}

fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> SpawnError {
    move |source| SpawnError::System { action, source: source.into() }
}
