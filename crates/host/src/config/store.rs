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
    /// Tables of DynamoDB, with output in S3.
    DynamoDb,
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "memory" => Ok(Self::Memory),
            "sqlite" => Ok(Self::Sqlite),
            "dynamodb" => Ok(Self::DynamoDb),
            _ => Err(Error::new(
                Label::Config,
                format!("there is no backend {text:?}: the backends are sqlite, dynamodb and memory"),
            )),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::DynamoDb => "dynamodb",
        })
    }
}

/// What the names of tables begin with where nothing else is said.
const DEFAULT_PREFIX: &str = "airunner";

/// Which store there is.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    backend: Backend,
    path: PathBuf,
    prefix: String,
    bucket: Option<String>,
}

impl StoreConfig {
    pub(super) fn validate(source: &Source) -> Result<Self> {
        let backend = source.parsed("store.backend")?.unwrap_or(Backend::Sqlite);
        if backend != Backend::Sqlite && source.has("store.path") {
            let why = format!("is set, but the {backend} backend has no file: remove one of the two");
            return Err(source.refuse("store.path", why));
        }
        let prefix = source.text("store.prefix")?.unwrap_or(DEFAULT_PREFIX).to_owned();
        let is_name = |text: &str| {
            (1..=32).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if !is_name(&prefix) {
            return Err(source.refuse("store.prefix", "is 1 to 32 lower-case letters, digits and hyphens"));
        }
        let bucket = source.text("store.bucket")?.map(str::to_owned);
        if backend == Backend::Memory && bucket.is_some() {
            return Err(
                source.refuse("store.bucket", "is set, but the memory backend keeps its output itself")
            );
        }
        if bucket.as_deref().is_some_and(|bucket| !is_bucket(bucket)) {
            return Err(source
                .refuse("store.bucket", "is the name of an S3 bucket: 3 to 63 characters of a-z 0-9 . -"));
        }
        let path = source.path("store.path")?.unwrap_or_else(|| source.resolve(Path::new("airunner.db")));
        Ok(Self { backend, path, prefix, bucket })
    }

    /// The backend.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The database file; `airunner.db` beside the configuration where it is not set.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the names of tables and of the bucket begin with; `airunner` where it is not set.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The S3 bucket of the jobs' output. With the dynamodb backend it is `PREFIX-ENVIRONMENT-output-ACCOUNT` where it
    /// is not set; with sqlite, output is in files then.
    pub fn bucket(&self) -> Option<&str> {
        self.bucket.as_deref()
    }

    /// Where the jobs' output is kept: `output` beside the database.
    pub fn output_dir(&self) -> PathBuf {
        self.path.with_file_name("output")
    }
}

/// As S3 wants names, in outline.
fn is_bucket(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.bytes().all(|b| inner(b) || b == b'-' || b == b'.')
        && name.bytes().next().is_some_and(inner)
        && name.bytes().last().is_some_and(inner)
}
