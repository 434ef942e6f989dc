//! `[store]`: which backend, and where.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use airunner_core::{Error, Label, Result};

use super::source::Source;

/// What keeps the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Nothing: it is gone with the process.
    Memory,
    /// One file.
    Sqlite,
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "memory" => Ok(Self::Memory),
            "sqlite" => Ok(Self::Sqlite),
            _ => Err(Error::new(
                Label::Config,
                format!("there is no backend {text:?}: the backends are sqlite and memory"),
            )),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
        })
    }
}

/// Which store there is.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    backend: Backend,
    path: PathBuf,
}

impl StoreConfig {
    pub(super) fn validate(source: &Source) -> Result<Self> {
        let backend = source.parsed("store.backend")?.unwrap_or(Backend::Sqlite);
        if backend == Backend::Memory && source.has("store.path") {
            return Err(source
                .refuse("store.path", "is set, but the memory backend has no file: remove one of the two"));
        }
        let path = source.path("store.path")?.unwrap_or_else(|| source.resolve(Path::new("airunner.db")));
        Ok(Self { backend, path })
    }

    /// The backend.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The database file; `airunner.db` beside the configuration where it is not set.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the jobs' output is kept: `output` beside the database.
    pub fn output_dir(&self) -> PathBuf {
        self.path.with_file_name("output")
    }
}
