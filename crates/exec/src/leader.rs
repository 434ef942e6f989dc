//! The first process of a job, from its birth to its reaping, with what must not outlive it. Must not wait for a
//! process that may still run, but in a thread of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use rustix::net::{RecvFlags, recv};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};

use crate::cgroup::JobCgroup;
use crate::error::MarkError;
use crate::group;
use crate::mark::Mark;

/// The first process of a job, not yet reaped: as long as this lives, the group's number is its own.
///
/// Dropping it kills the group and the cgroup; the cgroup and the mark go when the leader is reaped.
#[derive(Debug)]
pub(crate) struct Leader {
    pub(crate) pid: Pid,
    process: Option<Process>,
    // In this order: the mark goes last, so that a sweep finds whatever is left.
    cgroup: Option<JobCgroup>,
    mark: Option<Mark>,
    /// Where an init tells how its command ended. As long as this is open, the init knows that its supervisor lives.
    init: Option<OwnedFd>,
}

/// A child that is to be waited for.
#[derive(Debug)]
enum Process {
    Spawned(Child),
    Cloned(Pid),
}

impl Leader {
    pub(crate) fn spawned(child: Child, mark: Option<Mark>) -> Result<Self, MarkError> {
        let pid = Pid::from_child(&child);
        let process = Some(Process::Spawned(child));
        Self { pid, process, cgroup: None, mark, init: None }.marked()
    }

    pub(crate) fn cloned(pid: Pid, cgroup: Option<JobCgroup>, mark: Option<Mark>) -> Result<Self, MarkError> {
        Self { pid, process: Some(Process::Cloned(pid)), cgroup, mark, init: None }.marked()
    }

    /// A failure drops the leader, which undoes all.
    fn marked(mut self) -> Result<Self, MarkError> {
        if let Some(mark) = self.mark.as_mut() {
            mark.started(self.pid)?;
        }
        Ok(self)
    }

    pub(crate) fn begins_with_init(&mut self, socket: OwnedFd) {
        self.init = Some(socket);
    }

    pub(crate) fn cgroup(&self) -> Option<&JobCgroup> {
        self.cgroup.as_ref()
    }

    /// Kills everything of the job: its group, its leader, and what is in its cgroup.
    pub(crate) fn kill(&self) {
        group::kill(self.pid);
        if let Some(cgroup) = &self.cgroup {
            cgroup.leaf().kill();
        }
    }

    /// Collects the exit status of a leader that has ended. The group's number is free from here on.
    pub(crate) fn reap(&mut self) -> io::Result<ExitStatus> {
        let process = self.process.take().ok_or(io::ErrorKind::NotFound)?;
        let status = process.wait()?;
        let Some(init) = self.init.take() else { return Ok(status) };
        // An init that was killed has told nothing, and its command was killed with it.
        let killed = ExitStatus::from_raw(Signal::KILL.as_raw());
        let mut told = [0; 4];
        Ok(match recv(&init, &mut told, RecvFlags::DONTWAIT) {
            Ok((_, 4)) => ExitStatus::from_raw(i32::from_ne_bytes(told)),
            _ => killed,
        })
    }

    /// The last step: the job has ended, and its group and cgroup are empty.
    pub(crate) fn forget(&mut self) {
        drop(self.cgroup.take());
        if let Some(mark) = self.mark.take() {
            mark.remove();
        }
    }

    /// Undoes all at once, and says how it ended. Blocks, but not for long: it is used before a command runs.
    pub(crate) fn abandon(mut self) -> io::Result<ExitStatus> {
        self.kill();
        let status = self.process.take().ok_or(io::ErrorKind::NotFound)?.wait();
        self.forget();
        status
    }
}

impl Process {
    fn wait(self) -> io::Result<ExitStatus> {
        match self {
            Self::Spawned(mut child) => child.wait(),
            Self::Cloned(pid) => loop {
                match waitpid(Some(pid), WaitOptions::empty()) {
                    Ok(Some((_, status))) => return Ok(ExitStatus::from_raw(status.as_raw())),
                    Ok(None) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            },
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else { return };
        self.kill();
        let (cgroup, mark) = (self.cgroup.take(), self.mark.take());
        // Waiting may block on a leader stuck in the kernel, and a drop must not. Without a thread the mark
        // stays for the sweep, and init reaps the leader after this process.
        let reaper = std::thread::Builder::new().name("job-reaper".into());
        let _ = reaper.spawn(move || {
            if process.wait().is_ok() {
                if let Some(cgroup) = cgroup {
                    cgroup.leaf().settle_blocking();
                    drop(cgroup);
                }
                if let Some(mark) = mark {
                    mark.remove();
                }
            }
        });
    }
}
