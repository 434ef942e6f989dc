//! Files in memory that a job is given: secrets that must reach it by no argument, no variable and no disk. Must know
//! nothing of what is in them.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Gid, MemfdFlags, Mode, SealFlags, Uid, fchmod, fchown, fcntl_add_seals, memfd_create};

use crate::user::RunAs;

/// A file that has no name and is on no disk, with contents that nothing can change. Clones are the same file.
#[derive(Clone)]
pub struct MemoryFile(Arc<OwnedFd>);

impl MemoryFile {
    /// How many files a job may be given.
    pub const MAX: usize = 8;

    /// A file that holds `bytes`.
    ///
    /// # Errors
    /// The kernel's, where there is no memory or no descriptor left.
    pub fn new(bytes: &[u8]) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("airunner-file", flags)?);
        file.write_all(bytes)?;
        // Until it is given to somebody, nobody but this process's user may open it.
        fchmod(&file, Mode::RUSR)?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(Self(Arc::new(file.into())))
    }

    /// Lets this user open it, and nobody else.
    pub(crate) fn give(&self, user: Option<RunAs>) -> io::Result<()> {
        let Some(user) = user else { return Ok(()) };
        Ok(fchown(&*self.0, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?)
    }
}

impl AsFd for MemoryFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryFile")
    }
}
