//! Stage two: this program anew, as a process of one thread that becomes the job. Must hold no unsafe code, and
//! must not run in the supervisor.
//!
//! There are two roles. *Command* prepares itself and executes the job's command. *Init* is the first process of
//! a sandbox: it starts a command beside itself, and reaps.

use std::env;
use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::memory_file::MemoryFile;

mod command;
mod identity;
mod init;
mod loopback;
mod mounts;
mod seccomp;
#[rustfmt::skip]
mod syscalls;

/// The first argument of a process in the role of a command.
pub(crate) const COMMAND_ROLE: &CStr = c"airunner-exec: command";
/// The first argument of a process in the role of an init.
pub(crate) const INIT_ROLE: &CStr = c"airunner-exec: init";

/// Whether this process's `main` begins with [`stage_two`].
static IS_THERE: AtomicBool = AtomicBool::new(false);

/// Becomes the job, in a process that was started to become one; in any other it returns at once.
///
/// Must be the first line of `main` of every program that runs jobs with isolation or a terminal: such a job
/// begins as this program, executed anew. [`Job::spawn`](crate::Job::spawn) refuses them without it.
pub fn stage_two() {
    let role = env::args_os().next().unwrap_or_default();
    let is = |known: &CStr| role == OsStr::from_bytes(known.to_bytes());
    if is(COMMAND_ROLE) {
        command::run()
    } else if is(INIT_ROLE) {
        init::run()
    }
    IS_THERE.store(true, Ordering::Relaxed);
}

pub(crate) fn is_there() -> bool {
    IS_THERE.load(Ordering::Relaxed)
}

/// The descriptors that a supervisor hands to stage two, and an init to its command.
#[derive(Debug)]
pub(crate) struct HandOver {
    pub(crate) plan: OwnedFd,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) report: OwnedFd,
    /// The job's files in memory.
    pub(crate) files: Vec<OwnedFd>,
}

/// Those that are always there.
const ALWAYS: usize = 5;
const DESCRIPTORS: usize = ALWAYS + MemoryFile::MAX;

impl HandOver {
    /// Sends them. They reach the other side's table closed on execution, so nothing leaks from there.
    pub(crate) fn send(&self, socket: impl AsFd) -> io::Result<()> {
        let Self { plan, stdin, stdout, stderr, report, files } = self;
        let always = [plan, stdin, stdout, stderr, report];
        let descriptors: Vec<_> = always.into_iter().chain(files).map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // One byte, since descriptors do not travel alone.
        sendmsg(socket, &[io::IoSlice::new(b"!")], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for them on standard input. An error where the supervisor is gone: then there is nothing to do.
    fn receive() -> io::Result<Self> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let got = recvmsg(
            rustix::stdio::stdin(),
            &mut [io::IoSliceMut::new(&mut byte)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        let whole = !got.flags.contains(ReturnFlags::CTRUNC);
        let files = descriptors.split_off(ALWAYS.min(descriptors.len()));
        match <[OwnedFd; ALWAYS]>::try_from(descriptors) {
            Ok([plan, stdin, stdout, stderr, report]) if whole => {
                Ok(Self { plan, stdin, stdout, stderr, report, files })
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
