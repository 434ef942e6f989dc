//! How far a job is kept from the machine, and what of that a host may be unable to give. Must not touch the
//! system.

use std::fmt;

/// How far a job is kept from the rest of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Isolation {
    /// A process group and, with [`Spec::run_as`](crate::Spec::run_as), another user; nothing else.
    #[default]
    None,
    /// A cgroup of its own as well, in which the job is born: [`Limits`](crate::Limits) hold, no process of it
    /// escapes the kill, and what it used is counted.
    Limits,
    /// Everything: the cgroup, namespaces of every kind but time, a root of its own
    /// ([`Sandbox`](crate::Sandbox)), no capabilities, no new privileges, and a filter of system calls.
    Sandbox,
}

/// One part of the isolation. An error names the one that the host refused; with
/// [`Spec::best_effort`](crate::Spec::best_effort), [`Job::left_out`](crate::Job::left_out) lists those that
/// the job runs without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Measure {
    /// The cgroup: limits, the kill that nothing escapes, the count of what was used.
    Cgroup,
    /// `cpu.max`.
    CpuLimit,
    /// `memory.max` and `memory.oom.group`.
    MemoryLimit,
    /// `pids.max`.
    ProcessLimit,
    /// `io.max`.
    IoLimit,
    /// The namespaces of processes, mounts, network, host name, IPC and cgroups, with all that is done in them: the
    /// root of its own among it.
    Namespaces,
    /// The user namespace.
    UserNamespace,
    /// The filter of system calls.
    Seccomp,
}

impl Measure {
    pub(crate) const ALL: [Self; 8] = [
        Self::Cgroup,
        Self::CpuLimit,
        Self::MemoryLimit,
        Self::ProcessLimit,
        Self::IoLimit,
        Self::Namespaces,
        Self::UserNamespace,
        Self::Seccomp,
    ];

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| *measure as u8 == number)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroup => "a cgroup of its own",
            Self::CpuLimit => "the limit on CPU time (cpu.max)",
            Self::MemoryLimit => "the limit on memory (memory.max)",
            Self::ProcessLimit => "the limit on processes (pids.max)",
            Self::IoLimit => "the limit on block devices (io.max)",
            Self::Namespaces => "namespaces of its own",
            Self::UserNamespace => "a user namespace of its own",
            Self::Seccomp => "the filter of system calls",
        })
    }
}
