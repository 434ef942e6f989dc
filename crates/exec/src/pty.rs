//! A job's terminal: the pair, its size, its reading. Must not interpret what goes through it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, fcntl_setfl, open};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::user::RunAs;

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TerminalSize {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// Both ends of a new terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

impl Terminal {
    /// Opens one that belongs to the job's user, as one that has logged in. Blocks shortly.
    pub(crate) fn open(size: TerminalSize, user: Option<RunAs>) -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        resize(&master, size)?;
        if let Some(user) = user {
            fchown(&slave, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
        }
        fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
        Ok(Self { master, slave })
    }
}

/// The job's foreground processes are told (`SIGWINCH`).
pub(crate) fn resize(master: impl AsFd, size: TerminalSize) -> io::Result<()> {
    let TerminalSize { rows, columns } = size;
    Ok(tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
}

/// The supervisor's end, read or written without blocking.
#[derive(Debug)]
pub(crate) struct Master(AsyncFd<OwnedFd>);

impl Master {
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types whose descriptor may change; that of an OwnedFd cannot"
    )]
    pub(crate) fn new(master: OwnedFd) -> io::Result<Self> {
        Ok(Self(AsyncFd::with_interest(master, Interest::READABLE | Interest::WRITABLE)?))
    }

    /// As much as there is, at most as much as fits. 0 once no process has the terminal open. Safe to cancel.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.async_io(Interest::READABLE, |master| Ok(rustix::io::read(master, &mut *buffer)?));
        match read.await {
            // That is how a terminal says so.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(0),
            read => read,
        }
    }

    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let write = self.0.async_io(Interest::WRITABLE, |master| Ok(rustix::io::write(master, bytes)?));
            let written = write.await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

impl AsFd for Master {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
