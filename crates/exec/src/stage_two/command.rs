//! The role of the command: makes itself what the plan says, step by step, and executes. Every step that fails is
//! reported by its name.

use std::env;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::{Errno, FdFlags};
use rustix::process::{Resource, Rlimit};

use super::{HandOver, identity, loopback, mounts, seccomp};
use crate::clone::execute;
use crate::isolation::Measure;
use crate::lookup::{self, Missing};
use crate::plan::{Confinement, Plan, ProcessLimits, Program};
use crate::report::{Failure, Reporter, Step};
use crate::sandbox::Network;

type Outcome<T = ()> = Result<T, Failure>;

/// Executes the command, or ends with a report.
pub(super) fn run() -> ! {
    // Without a supervisor nobody hears.
    let Ok(handed) = HandOver::receive() else { std::process::exit(1) };
    let HandOver { plan, stdin, stdout, stderr, report, files } = handed;
    let mut reporter = Reporter(File::from(report));
    let failure = match prepare(&mut reporter, plan, [stdin, stdout, stderr], files) {
        Ok(ready) => ready.execute(&mut reporter),
        Err(failure) => failure,
    };
    reporter.failure(&failure);
    std::process::exit(1)
}

/// All that an execution needs, made while memory and files were still at hand.
struct Ready {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Open until the execution, and beyond.
    _files: Vec<OwnedFd>,
}

impl Ready {
    fn execute(&self, reporter: &mut Reporter<File>) -> Failure {
        reporter.ready();
        let errno = execute(&self.program, &self.arguments, &self.environment);
        Failure::at(Step::Execute, errno, OsStr::from_bytes(self.program.as_bytes()))
    }
}

fn prepare(
    reporter: &mut Reporter<File>,
    plan: OwnedFd,
    [stdin, stdout, stderr]: [OwnedFd; 3],
    files: Vec<OwnedFd>,
) -> Outcome<Ready> {
    let mut plan = Plan::read(plan).map_err(|error| Failure::new(Step::HandOver, error))?;
    take_streams([stdin, stdout, stderr]).map_err(|error| Failure::new(Step::HandOver, error))?;
    session(plan.terminal).map_err(|error| Failure::new(Step::Session, error))?;
    if let Some(confinement) = &plan.sandbox
        && confinement.namespaces
    {
        furnish(confinement, plan.terminal)?;
    }
    limit_processes(&plan.limits).map_err(|error| Failure::new(Step::ProcessLimits, error))?;
    match &plan.sandbox {
        None => identity::become_user(plan.user)?,
        Some(confinement) => confine(reporter, confinement, &plan)?,
    }
    keep_files(&mut plan, &files).map_err(|error| Failure::new(Step::HandOver, error))?;
    find(&plan.program, files)
}

/// Keeps the files open in the command, and tells it where they are: by its own process, so that what it starts finds
/// them too, with the descriptors or without.
fn keep_files(plan: &mut Plan, files: &[OwnedFd]) -> rustix::io::Result<()> {
    for (name, file) in plan.files.drain(..).zip(files) {
        rustix::io::fcntl_setfd(file, FdFlags::empty())?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        plan.program.environment.insert(name, path.into());
    }
    Ok(())
}

fn take_streams([stdin, stdout, stderr]: [OwnedFd; 3]) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)
}

/// A session of its own has no terminal, and is a process group of its own, too.
fn session(terminal: bool) -> rustix::io::Result<()> {
    rustix::process::setsid()?;
    if terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    Ok(())
}

fn furnish(confinement: &Confinement, terminal: bool) -> Outcome {
    mounts::furnish(&confinement.sandbox, terminal)?;
    rustix::system::sethostname(b"sandbox").map_err(|error| Failure::new(Step::HostName, error))?;
    if confinement.sandbox.network == Network::None {
        loopback::bring_up().map_err(|error| Failure::new(Step::Loopback, error))?;
    }
    Ok(())
}

fn limit_processes(limits: &ProcessLimits) -> rustix::io::Result<()> {
    let both = |limit| Rlimit { current: Some(limit), maximum: Some(limit) };
    rustix::process::setrlimit(Resource::Core, both(0))?;
    if let Some(files) = limits.open_files {
        rustix::process::setrlimit(Resource::Nofile, both(files))?;
    }
    if let Some(size) = limits.file_size {
        rustix::process::setrlimit(Resource::Fsize, both(size))?;
    }
    Ok(())
}

fn confine(reporter: &mut Reporter<File>, confinement: &Confinement, plan: &Plan) -> Outcome {
    identity::drop_bounding_set()?;
    identity::become_user(plan.user)?;
    // One that was born in a user namespace has it already.
    if confinement.user_namespace.is_none() {
        match identity::enter_user_namespace() {
            Err(_) if confinement.best_effort => reporter.left_out(Measure::UserNamespace),
            // A new one begins with all capabilities there are, in itself.
            outcome => outcome.and_then(|()| identity::drop_bounding_set())?,
        }
    }
    identity::drop_capabilities()?;
    match seccomp::apply() {
        Err(_) if confinement.best_effort => reporter.left_out(Measure::Seccomp),
        outcome => outcome.map_err(|error| Failure::new(Step::Seccomp, error))?,
    }
    Ok(())
}

/// Enters the directory and finds the program, as the job's user and among the job's files.
fn find(program: &Program, files: Vec<OwnedFd>) -> Outcome<Ready> {
    let directory = &program.directory;
    env::set_current_dir(directory).map_err(|error| Failure::at(Step::Directory, error, directory))?;
    let path = lookup::program(program, Some(identity::current())).map_err(|missing| match missing {
        Missing::NotFound => Failure::at(Step::Find, Errno::NOENT, &program.command),
        Missing::Directory(path) => Failure::at(Step::FindDirectory, Errno::ISDIR, path),
        Missing::Closed(path) => Failure::at(Step::FindClosed, Errno::ACCESS, path),
    })?;
    let ready = || -> Option<Ready> {
        let arguments = [&program.command].into_iter().chain(&program.arguments);
        let variables = program
            .environment
            .iter()
            .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok());
        Some(Ready {
            program: c_string(path.as_os_str())?,
            arguments: arguments.map(|argument| c_string(argument)).collect::<Option<_>>()?,
            environment: variables.collect::<Option<_>>()?,
            _files: files,
        })
    };
    // The supervisor has refused every string with a NUL.
    ready().ok_or_else(|| Failure::at(Step::HandOver, Errno::INVAL, Path::new("")))
}

fn c_string(string: &OsStr) -> Option<CString> {
    CString::new(string.as_bytes()).ok()
}
