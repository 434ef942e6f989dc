//! Carries bytes into a job's standard input. Must not buffer: what was written is in the pipe.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

use crate::pty::Master;

/// The standard input of a job that was started with [`Stdin::Piped`](crate::Stdin), or what is typed at its terminal.
///
/// Dropping it ends the input of a pipe: the job reads end of file. A terminal has no end: there, write a line's first
/// byte as 4 (control-D) for it.
#[derive(Debug)]
pub struct Input(End);

#[derive(Debug)]
enum End {
    Pipe(pipe::Sender),
    Terminal(Arc<Master>),
}

/// The job takes no more input.
#[derive(Debug, thiserror::Error)]
#[error("the job takes no more input: {0}; drop what is left")]
pub struct InputError(#[from] io::Error);

impl Input {
    pub(crate) fn to_pipe(pipe: OwnedFd) -> io::Result<Self> {
        Ok(Self(End::Pipe(pipe::Sender::from_owned_fd(pipe)?)))
    }

    pub(crate) fn to_terminal(master: Arc<Master>) -> Self {
        Self(End::Terminal(master))
    }

    /// Writes all of `bytes`, and waits for a job that reads slowly; a pipe holds 64 KiB ahead of it, a terminal 4.
    ///
    /// A job that never reads makes this wait for ever, also past its end where a process outside of its group has
    /// inherited the pipe: give up when [`Job::wait`](crate::Job::wait) returns. Given up, some of the bytes may be in
    /// the pipe.
    ///
    /// # Errors
    /// [`InputError`] once nobody has the other end open.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), InputError> {
        let written = match &mut self.0 {
            End::Pipe(pipe) => pipe.write_all(bytes).await,
            End::Terminal(master) => master.write_all(bytes).await,
        };
        Ok(written?)
    }
}
