//! A home for one test: its own folders for data and configuration, and nothing of the machine's environment.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Bed {
    pub(crate) folder: TempDir,
}

/// How a run of the binary ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A bed with the local environment made.
    pub(crate) fn bootstrapped() -> Self {
        let bed = Self::new();
        bed.run(&["bootstrap", "--environment=local"]).succeeded();
        bed
    }

    /// The folder of the local environment.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("data/airunner/local")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config/airunner/config.toml")
    }

    /// The binary, not yet started. Nothing of it stands in a working folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_airunner-cli"));
        command.args(args).env_clear().current_dir("/").stdin(Stdio::null());
        // No machine's own AWS is looked for.
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        for (name, folder) in [("HOME", ""), ("XDG_DATA_HOME", "data"), ("XDG_CONFIG_HOME", "config")] {
            command.env(name, self.folder.path().join(folder));
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        Run::of(&mut self.command(args))
    }

    /// Runs with `--output json`, and reads the one document that comes.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let run = self.run(&[&["--output", "json"], args].concat()).succeeded();
        serde_json::from_str(&run.stdout).unwrap()
    }

    /// Every file of the environment and of the configuration, with its content.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.folder.path(), &mut files);
        files
    }
}

impl Run {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self
    }

    /// Failed with this code, and said this on standard error, and nothing on standard output.
    pub(crate) fn failed(self, code: i32, says: &str) -> Self {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(says), "{:?} does not say {says:?}", self.stderr);
        assert_eq!(self.stdout, "");
        self
    }

    /// Said this too.
    pub(crate) fn says(self, what: &str) -> Self {
        assert!(self.stderr.contains(what), "{:?} does not say {what:?}", self.stderr);
        self
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
}
