//! The `openssl` command over a directory of its own.

use std::process::{Command, Output};

use tempfile::TempDir;

/// A directory in which openssl runs.
pub(crate) struct OpenSsl(TempDir);

impl OpenSsl {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Runs a command line without quotes in it, which must succeed, and returns what it printed.
    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> String {
        let output = self.output(line);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "openssl {line}: {printed}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        printed
    }

    /// Runs a command line that must fail, and returns what it complained of.
    #[track_caller]
    pub(crate) fn refused(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(!output.status.success(), "openssl {line} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.0.path().join(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }

    fn output(&self, line: &str) -> Output {
        Command::new("openssl").args(line.split_whitespace()).current_dir(self.0.path()).output().unwrap()
    }
}
