//! Carries bytes into a job's standard input. Must not buffer: what was written is in the pipe.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

/// The standard input of a job that was started with [`Stdin::Piped`](crate::Stdin). Dropping it ends the input: the
/// job reads end of file.
#[derive(Debug)]
pub struct Input {
    pipe: pipe::Sender,
}

/// The job takes no more input.
#[derive(Debug, thiserror::Error)]
#[error("the job takes no more input: {0}; drop what is left")]
pub struct InputError(#[from] io::Error);

impl Input {
    pub(crate) fn new(pipe: OwnedFd) -> io::Result<Self> {
        Ok(Self { pipe: pipe::Sender::from_owned_fd(pipe)? })
    }

    /// Writes all of `bytes`, and waits for a job that reads slowly; a pipe holds 64 KiB ahead of it.
    ///
    /// A job that never reads makes this wait for ever, also past its end where a process outside of its group has
    /// inherited the pipe: give up when [`Job::wait`](crate::Job::wait) returns. Given up, some of the bytes may be in
    /// the pipe.
    ///
    /// # Errors
    /// [`InputError`] once nobody has the other end open.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), InputError> {
        Ok(self.pipe.write_all(bytes).await?)
    }
}
