//! How far a job is kept from its machine, what it may use at most, and what it used. How that is done is
//! `airunner-exec`'s business, and which values make sense the app's.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How far a job is kept from the rest of its machine; the later ones have all of the earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// A process group and a user of its own; nothing else.
    #[default]
    None,
    /// A cgroup of its own: limits hold, no process of it escapes the kill, and what it used is counted.
    Limits,
    /// Namespaces, a root of its own, no capabilities and a filter of system calls as well.
    Sandbox,
}

impl Isolation {
    /// Every level there is, the weakest first.
    pub const ALL: &'static [Self] = &[Self::None, Self::Limits, Self::Sandbox];

    /// The level's name, one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Limits => "limits",
            Self::Sandbox => "sandbox",
        }
    }
}

impl FromStr for Isolation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|level| level.as_str() == text).ok_or_else(|| {
            Error::invalid("isolation", format!("{text:?} is no level: say none, limits or sandbox"))
        })
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a job may use at most; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceLimits {
    /// CPU time, in thousandths of a CPU: 500 is half of one.
    pub cpu_millis: Option<u32>,
    /// Memory in bytes, of all its processes together. When it runs out the whole job is killed.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at a time.
    pub processes: Option<u32>,
    /// Descriptors of each process.
    pub open_files: Option<u64>,
    /// Bytes of each file that it writes.
    pub file_size_bytes: Option<u64>,
}

impl ResourceLimits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What an attempt used, the fetching of its repository among it. What the worker's host does not count is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// CPU time in user mode.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// The most memory at a time, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Processes that were killed because its memory ran out.
    pub oom_kills: Option<u64>,
    /// The most processes and threads at a time.
    pub peak_processes: Option<u64>,
    /// Bytes read from block devices.
    pub read_bytes: Option<u64>,
    /// Bytes written to block devices.
    pub written_bytes: Option<u64>,
    /// The level that its worker ran it at.
    pub isolation: Isolation,
    /// The parts of that level's isolation that it ran without, for people. Only with best effort anything at all.
    pub left_out: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_read_back() {
        assert!(Isolation::ALL.is_sorted());
        for level in Isolation::ALL {
            assert_eq!(level.to_string().parse::<Isolation>().unwrap(), *level);
        }
        let error = "chroot".parse::<Isolation>().unwrap_err();
        assert_eq!(error.field(), Some("isolation"));
    }
}
