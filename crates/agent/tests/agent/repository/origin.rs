//! A repository with commits, and jobs in it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use airunner_proto::job::v1::{JobSpec, Repository};
use tempfile::TempDir;

use crate::bed::{open_directory, shell};

/// A repository of this machine, which belongs to whoever runs the test.
pub(crate) struct Origin {
    place: TempDir,
}

impl Origin {
    pub(crate) fn new() -> Self {
        let origin = Self { place: open_directory() };
        origin.git(&["init", "--quiet", "--initial-branch=main"]);
        origin
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(args)
            .current_dir(self.path())
            .env_remove("GIT_DIR")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits a file, and returns the commit's id.
    pub(crate) fn commit(&self, content: &str) -> String {
        self.commit_file("sub/file", content.as_bytes())
    }

    pub(crate) fn commit_file(&self, name: &str, content: &[u8]) -> String {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "--message", name]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    /// What a server serves.
    pub(crate) fn bare(&self) -> PathBuf {
        self.path().join(".git")
    }
}

/// A job of one shell line in a repository.
pub(crate) fn of(url: &str, revision: &str, line: &str) -> JobSpec {
    let repository = Repository { url: url.to_owned(), revision: revision.to_owned() };
    JobSpec { repository: Some(repository), max_attempts: 1, ..shell(line) }
}

/// Bytes that don't get smaller.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next()).take(bytes).collect()
}
