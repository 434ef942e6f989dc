//! What a process that holds keys and runs jobs does to itself at start. Must not touch any other process.

use std::{fs, io};

use rustix::process::{self, DumpableBehavior, Resource, Rlimit};

/// The process could not be hardened: better not go on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}; run on Linux without a filter on this call")]
pub struct HardenError {
    action: &'static str,
    source: io::Error,
}

/// Keeps this process's memory from other processes of its user, and from core files.
///
/// Sets `PR_SET_DUMPABLE` to 0 (no ptrace, and `/proc/self/mem` and the like belong to root) and
/// `RLIMIT_CORE` to 0, soft and hard. A job inherits the limit, and is dumpable again once it executes.
/// Call it first in `main`: it holds for all threads, and cannot be undone without privileges.
pub fn harden_self() -> Result<(), HardenError> {
    let explain = |action| move |source: rustix::io::Errno| HardenError { action, source: source.into() };
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    process::setrlimit(Resource::Core, none).map_err(explain("forbid core files"))?;
    process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(explain("forbid memory dumps"))
}

/// The descriptors from 3 on that every child would inherit, in order. Empty in a sound program.
///
/// Nothing that Rust's standard library or tokio opens is among them, but this process may have got some from
/// its own parent. Jobs inherit them, so a program that runs jobs checks at start, and refuses or complains.
/// Blocks shortly.
pub fn inheritable_descriptors() -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        // The descriptor of this very listing is gone by the end, and is closed on exec.
        let Ok(info) = fs::read_to_string(format!("/proc/self/fdinfo/{name}")) else { continue };
        if let Ok(number @ 3..) = name.parse::<i32>()
            && !closes_on_exec(&info)
        {
            found.push(number);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// `flags:` in fdinfo is octal, and shows `O_CLOEXEC` (proc_pid_fdinfo(5)).
fn closes_on_exec(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u64::from_str_radix(flags.trim(), 8).ok());
    let mask = u64::from(rustix::fs::OFlags::CLOEXEC.bits());
    flags.is_some_and(|flags| flags & mask != 0)
}

#[cfg(test)]
mod tests {
    use rustix::io::{FdFlags, fcntl_setfd};

    use super::*;

    #[test]
    fn a_descriptor_that_children_would_inherit_is_found() {
        use std::os::fd::AsRawFd;
        let file = tempfile::tempfile().unwrap();
        let listed = || inheritable_descriptors().unwrap().contains(&file.as_raw_fd());
        assert!(!listed());
        fcntl_setfd(&file, FdFlags::empty()).unwrap();
        assert!(listed());
    }
}
