//! What `/proc` says of processes. Reads only, and blocks: call it where blocking is allowed.

use std::{fs, io};

use rustix::process::Pid;

/// The fields of `/proc/PID/stat` that are needed here (proc_pid_stat(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: Pid,
    pub(crate) state: char,
    pub(crate) group: Option<Pid>,
    /// CPU time of the process and of the children that it has waited for, in clock ticks.
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    /// In clock ticks since boot: with the pid it names one process of this boot.
    pub(crate) start: u64,
}

impl Stat {
    /// A zombie has run its last instruction: it holds nothing but its number.
    pub(crate) fn alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

pub(crate) fn stat(pid: Pid) -> io::Result<Stat> {
    read_stat(&pid.to_string())
}

pub(crate) fn own() -> io::Result<Stat> {
    read_stat("self")
}

/// Every process that this one can see. Those that end meanwhile are left out.
pub(crate) fn all() -> io::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            found.extend(read_stat(&name).ok());
        }
    }
    Ok(found)
}

/// Whether the process began with this environment entry (`NAME=value`). No access counts as no.
pub(crate) fn environ_has(pid: Pid, entry: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|all| all.split(|byte| *byte == 0).any(|pair| pair == entry.as_bytes()))
}

/// Names this boot: pids and start times mean nothing in another.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn read_stat(process: &str) -> io::Result<Stat> {
    let bytes = fs::read(format!("/proc/{process}/stat"))?;
    parse(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat has an unknown form"))
}

fn parse(text: &str) -> Option<Stat> {
    // The name in the parentheses is the process's own choice, and may hold spaces and parentheses.
    let (pid, rest) = text.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // proc_pid_stat(5) counts from 1 and the state is its field 3.
    let field = |number: usize| fields.get(number - 3).copied();
    let ticks = |number| field(number)?.parse::<u64>().ok();
    Some(Stat {
        pid: parse_pid(pid)?,
        state: field(3)?.chars().next()?,
        group: field(5).and_then(parse_pid),
        user_ticks: ticks(14)? + ticks(16)?,
        system_ticks: ticks(15)? + ticks(17)?,
        start: ticks(22)?,
    })
}

/// A positive process id.
pub(crate) fn parse_pid(text: &str) -> Option<Pid> {
    text.parse::<i32>().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_mislead() {
        let line = "42 (a) R 1 (b) S 1 41 40 0 -1 4194560 9 8 7 6 10 20 30 40 20 0 1 0 777 1 2 3";
        let stat = parse(line).unwrap();
        assert_eq!((stat.pid, stat.state, stat.group), (Pid::from_raw(42).unwrap(), 'S', Pid::from_raw(41)));
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.start), (40, 60, 777));
        assert!(parse("42 (short) S 1").is_none() && parse("").is_none());
    }

    #[test]
    fn this_process_is_found() {
        let own = own().unwrap();
        assert_eq!(own.pid, rustix::process::getpid());
        let seen = all().unwrap().into_iter().find(|stat| stat.pid == own.pid).unwrap();
        assert!(seen.start == own.start && seen.alive());
        assert!(!boot_id().unwrap().is_empty());
    }
}
