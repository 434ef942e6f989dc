//! What a sandboxed job sees of the machine. Says what, not how: stage two does it.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::SpawnError;
use crate::limits;

/// The size of `/tmp` when nothing else is said.
const DEFAULT_TMP: u64 = 64 << 20;

/// Which files a sandboxed job has, besides its own `/proc`, `/dev` and `/tmp`. All of them are read-only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Root {
    /// The programs and libraries of the host (`/usr` and what belongs to it) and what they need of `/etc`; nothing of
    /// `/home`, `/root`, `/var`, `/run`, `/srv`, `/opt` or the rest of `/etc`.
    #[default]
    System,
    /// All of the host. The job reads what its user may read.
    Host,
    /// The tree under this directory, an absolute path.
    Directory(PathBuf),
}

/// Which network a sandboxed job has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// None but a loopback of its own.
    #[default]
    None,
    /// The host's, with its loopback and its abstract sockets.
    Host,
}

/// What a job at [`Isolation::Sandbox`](crate::Isolation) sees. Default: [`Root::System`], no network, a `/tmp` of
/// 64 MiB in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    pub(crate) root: Root,
    pub(crate) network: Network,
    pub(crate) tmp_size: u64,
    pub(crate) binds: Vec<(PathBuf, Access)>,
}

/// What may be done with the files below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self { root: Root::default(), network: Network::default(), tmp_size: DEFAULT_TMP, binds: Vec::new() }
    }
}

impl Sandbox {
    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Chooses the files of the root.
    #[must_use]
    pub fn root(mut self, root: Root) -> Self {
        self.root = root;
        self
    }

    /// Chooses the network.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// The bytes that `/tmp`, and again `/dev/shm`, hold at most, in a file for each 4 KiB at most. They lie in memory, and
    /// count as the job's.
    #[must_use]
    pub fn tmp_size(mut self, bytes: u64) -> Self {
        self.tmp_size = bytes;
        self
    }

    /// Shows a file or directory of the host, with all below it, at the same absolute path, read-only.
    ///
    /// Symbolic links in the path are followed before the job starts: no other job may own a directory of it.
    #[must_use]
    pub fn read_only(mut self, path: impl Into<PathBuf>) -> Self {
        self.binds.push((path.into(), Access::Read));
        self
    }

    /// As [`read_only`](Self::read_only), but the job may write where its user may.
    #[must_use]
    pub fn writable(mut self, path: impl Into<PathBuf>) -> Self {
        self.binds.push((path.into(), Access::Write));
        self
    }

    pub(crate) fn check(&self) -> Result<(), SpawnError> {
        let memory = limits::total_memory().unwrap_or(u64::MAX);
        limits::check_range("size of /tmp", Some(self.tmp_size), 4096, memory)?;
        let root = match &self.root {
            Root::Directory(path) => Some(path),
            Root::System | Root::Host => None,
        };
        for path in self.binds.iter().map(|(path, _)| path).chain(root) {
            if !is_plain(path) {
                return Err(SpawnError::BadSandboxPath(path.clone()));
            }
        }
        Ok(())
    }
}

/// Absolute, without `..` (which would leave the new root while it is made) and without NUL.
fn is_plain(path: &Path) -> bool {
    let up = path.components().any(|part| part == std::path::Component::ParentDir);
    path.is_absolute() && !up && !path.as_os_str().as_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_stay_below_the_root() {
        let refused = |path: &str| {
            matches!(Sandbox::new().writable(path).check(), Err(SpawnError::BadSandboxPath(_)))
                && matches!(
                    Sandbox::new().root(Root::Directory(path.into())).check(),
                    Err(SpawnError::BadSandboxPath(_))
                )
        };
        for path in ["", "relative", "/a/../b", "/a\0b"] {
            assert!(refused(path), "{path:?}");
        }
        Sandbox::new().read_only("/opt").writable("/a/./b").check().unwrap();
    }

    #[test]
    fn a_tmp_of_nothing_or_of_more_than_the_memory_is_refused() {
        for size in [0, u64::MAX] {
            let refused = Sandbox::new().tmp_size(size).check();
            assert!(matches!(refused, Err(SpawnError::BadLimit { .. })), "{size}");
        }
    }
}
