//! Reads a job's log files while they grow, from any place, any number of times. Must not slow the job or another
//! reader.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use crate::output::{CHUNK_LIMIT, Stream};

/// Where a [`LogReader`] begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Position {
    /// At the first byte.
    #[default]
    Start,
    /// After what is there by now.
    Now,
    /// After so many bytes of each stream, as an earlier reader was told. More than there will ever be is nothing.
    After {
        /// Of standard output.
        stdout: u64,
        /// Of standard error.
        stderr: u64,
    },
}

/// The log files of one job. Get it from [`Job::output_from`](crate::Job::output_from).
#[derive(Debug)]
pub struct LogReader {
    stdout: Side,
    stderr: Side,
    progress: watch::Receiver<Progress>,
}

/// A piece of a log file.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece {
    /// Which file.
    pub stream: Stream,
    /// How many bytes of that stream came before.
    pub offset: u64,
    /// 1 to [`CHUNK_LIMIT`] bytes.
    pub bytes: Vec<u8>,
}

/// Output may hold secrets, and this ends up in logs: only the length is shown.
impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Piece {{ {:?} at {}, {} bytes }}", self.stream, self.offset, self.bytes.len())
    }
}

/// A log file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The job keeps none.
    #[error("the job has no log files to read from: give its specification a log_dir")]
    NoLogs,
    /// Reading failed.
    #[error("log {path} cannot be read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How much of each file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
    /// Nothing more will be.
    pub(crate) ended: bool,
}

#[derive(Debug)]
struct Side {
    stream: Stream,
    file: Arc<File>,
    path: PathBuf,
    offset: u64,
}

impl LogReader {
    /// Blocks shortly: it opens two files.
    pub(crate) fn open(
        directory: &Path,
        from: Position,
        progress: watch::Receiver<Progress>,
    ) -> Result<Self, LogError> {
        let now = *progress.borrow();
        let (stdout, stderr) = match from {
            Position::Start => (0, 0),
            Position::Now => (now.stdout, now.stderr),
            Position::After { stdout, stderr } => (stdout, stderr),
        };
        let open = |stream, name, offset| {
            let path = directory.join(name);
            match File::open(&path) {
                Ok(file) => Ok(Side { stream, file: Arc::new(file), path, offset }),
                Err(source) => Err(LogError::Io { path, source }),
            }
        };
        Ok(Self {
            stdout: open(Stream::Stdout, "stdout", stdout)?,
            stderr: open(Stream::Stderr, "stderr", stderr)?,
            progress,
        })
    }

    /// The next piece, or `None` after the job's last. Each stream is in order and without a gap; of both, which came
    /// first is not kept. Safe to cancel.
    ///
    /// # Errors
    /// [`LogError`] if a file cannot be read, such as one that was removed from under the job's disk.
    pub async fn next(&mut self) -> Result<Option<Piece>, LogError> {
        loop {
            // Whatever is written after this look is seen as a change.
            let now = *self.progress.borrow_and_update();
            for (side, written) in [(&mut self.stdout, now.stdout), (&mut self.stderr, now.stderr)] {
                if side.offset < written {
                    return side.read(written).await.map(Some);
                }
            }
            // An error means that the runtime is shutting down, and nothing more is written.
            if now.ended || self.progress.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

impl Side {
    async fn read(&mut self, written: u64) -> Result<Piece, LogError> {
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        let length = usize::try_from(written - offset).unwrap_or(CHUNK_LIMIT).min(CHUNK_LIMIT);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset).map(|()| bytes)
        });
        match read.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(bytes) => {
                self.offset += bytes.len() as u64;
                Ok(Piece { stream: self.stream, offset, bytes })
            }
            Err(source) => Err(LogError::Io { path: self.path.clone(), source }),
        }
    }
}
