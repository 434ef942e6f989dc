//! The two system calls for which no safe wrapper exists: `clone3`, after which a child of this many-threaded
//! process runs, and `execve`. Must hold all unsafe code of the crate, and nothing that could be outside of it.
#![expect(
    unsafe_code,
    reason = "clone3 and execve have no safe wrapper; what is around them is kept minimal"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, set_capabilities};

/// A child that is on its way into stage two, or has ended.
#[derive(Debug)]
pub(crate) struct Cloned {
    pub(crate) pid: Pid,
    /// Readable once it has ended.
    pub(crate) pidfd: OwnedFd,
}

/// Where a child is born.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Birth<'a> {
    /// The descriptor of the directory of its cgroup; none is that of this process.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// `CLONE_NEW…` of clone(2).
    pub(crate) namespaces: u64,
}

/// Starts this very program anew, in a child whose first argument is `role`, whose standard input is `socket` and
/// whose environment is `environment` alone. It has no other descriptor of this process but standard output and
/// error, and all signals are as if it were just started.
///
/// If the program cannot be executed the child exits with the error's number.
pub(crate) fn stage_two(
    role: &CStr,
    environment: &CStr,
    socket: BorrowedFd<'_>,
    birth: Birth<'_>,
) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all zero is a valid value of this struct of integers: it asks for nothing.
    let mut ask: libc::clone_args = unsafe { std::mem::zeroed() };
    // Handlers of this process never run in the child, not even before it executes.
    ask.flags = libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND | birth.namespaces;
    ask.pidfd = ptr::from_mut(&mut pidfd) as u64;
    ask.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = birth.cgroup {
        ask.flags |= CLONE_INTO_CGROUP;
        ask.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // In a user namespace of its own the child's user has no number yet, so without these the execution would take
    // its capabilities there.
    let keeps_capabilities = birth.namespaces & libc::CLONE_NEWUSER as u64 != 0;
    let arguments = [role.as_ptr(), ptr::null()];
    let variables = [environment.as_ptr(), ptr::null()];
    // SAFETY: `ask` is a `clone_args` of the size that is told, and `pidfd` outlives the call. Without CLONE_VM the
    // child has a copy of this memory and of this stack. Other threads of this process do not exist in it and may have
    // held locks, so that it may do nothing but system calls: see `become_stage_two`, which never returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut ask, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => become_stage_two(socket, &arguments, &variables, keeps_capabilities),
        pid => {
            // SAFETY: the kernel has put a new descriptor there, which nobody else knows of.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            Ok(Cloned { pid: pid.ok_or(Errno::RANGE)?, pidfd })
        }
    }
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Allocates nothing, takes no lock and touches no shared memory: plain system calls only.
fn become_stage_two(
    socket: BorrowedFd<'_>,
    arguments: &[*const libc::c_char; 2],
    variables: &[*const libc::c_char; 2],
    keeps_capabilities: bool,
) -> ! {
    let prepared = hand_over(socket, keeps_capabilities);
    let failure = match prepared {
        Ok(()) => {
            // SAFETY: the path is a C string; both arrays end with a null pointer and hold pointers to C strings of the
            // parent's, which are copied with its memory. It returns only when it fails.
            unsafe {
                libc::execve(c"/proc/self/exe".as_ptr(), arguments.as_ptr(), variables.as_ptr());
            }
            io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)
        }
        Err(error) => error.raw_os_error(),
    };
    // SAFETY: ends this process without running anything of the copied program.
    unsafe { libc::_exit(failure) }
}

fn hand_over(socket: BorrowedFd<'_>, keeps_capabilities: bool) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdin(socket.as_fd())?;
    // SAFETY: marks descriptors of this process, which is about to execute, as closed on execution; it closes none.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked == -1 {
        return Err(Errno::from_raw_os_error(
            io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL),
        ));
    }
    if keeps_capabilities {
        let all = CapabilitySet::all();
        set_capabilities(None, CapabilitySets { effective: all, permitted: all, inheritable: all })?;
        for number in 0..64 {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            // The first that the kernel does not know ends the list.
            if configure_capability_in_ambient_set(capability, true).is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// `SIG_DFL` without flags, in the kernel's own form: by the C library the two signals that it keeps for itself, and
/// ignores in what it spawns, could not be set.
static DEFAULT_ACTION: [usize; 4] = [0; 4];
/// The kernel's set of signals.
static NOTHING_BLOCKED: u64 = 0;

/// Executes `program` in place of this process, with every signal at its default and none blocked. Returns only if
/// that fails. A file of an unknown format is refused, and not given to a shell as execvp(3) would.
pub(crate) fn execute(program: &CStr, arguments: &[CString], variables: &[CString]) -> Errno {
    let set_size = size_of_val(&NOTHING_BLOCKED);
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (arguments, variables) = (pointers(arguments), pointers(variables));
    // SAFETY: both are read by the kernel only, as far as their sizes tell, and numbers that cannot be changed are refused
    // without effect. No handler is installed. The arrays are as execve(2) wants them, and live as long as the strings
    // that they point to.
    unsafe {
        for signal in 1..=64 {
            let no_old = ptr::null_mut::<usize>();
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const DEFAULT_ACTION, no_old, set_size);
        }
        let no_old = ptr::null_mut::<u64>();
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const NOTHING_BLOCKED,
            no_old,
            set_size,
        );
        libc::execve(program.as_ptr(), arguments.as_ptr(), variables.as_ptr());
    }
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
