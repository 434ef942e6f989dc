//! Ends process groups. Must only be given a group whose leader is not yet reaped, or that is known by a
//! living member: otherwise its number may belong to somebody else.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{self, Pid, Signal, WaitId, WaitIdOptions};

use crate::procfs;

/// How long the killed may take to vanish; only a process stuck in the kernel needs more than a moment.
const VANISH_TIME: Duration = Duration::from_secs(5);
/// From here on it is worth reading all of `/proc`: perhaps only zombies are left, and an init that is slow to
/// reap them.
const PATIENCE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Signals the whole group. The leader may have moved itself to another group, and is then signalled alone.
pub(crate) fn signal(leader: Pid, signal: Signal) {
    if process::kill_process_group(leader, signal) == Err(Errno::SRCH) {
        // It may have ended by now, and that is as good.
        let _ = process::kill_process(leader, signal);
    }
}

/// Kills the group and its leader, wherever the leader is by now.
///
/// The kernel signals all members under one lock, and a fork under way notices: no member slips through.
pub(crate) fn kill(leader: Pid) {
    kill_members(leader);
    let _ = process::kill_process(leader, Signal::KILL);
}

/// Kills the group alone. Fails, as all here, only if there is nobody whom this user may kill.
pub(crate) fn kill_members(group: Pid) {
    let _ = process::kill_process_group(group, Signal::KILL);
}

/// Waits until the killed group is empty, and says who is alive after [`VANISH_TIME`].
pub(crate) async fn settle(group: Pid) -> Vec<u32> {
    let mut pause = Duration::from_millis(1);
    let mut waited = Duration::ZERO;
    loop {
        reap_adopted(group);
        if process::test_kill_process_group(group) == Err(Errno::SRCH) {
            return Vec::new();
        }
        if waited >= PATIENCE {
            let left = tokio::task::spawn_blocking(move || living(group)).await;
            let left = left.ok().and_then(Result::ok);
            if left.as_ref().is_some_and(Vec::is_empty) || waited >= VANISH_TIME {
                return left.unwrap_or_default();
            }
        }
        tokio::time::sleep(pause).await;
        waited += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The members that are more than zombies. Blocks.
pub(crate) fn living(group: Pid) -> io::Result<Vec<u32>> {
    let members = procfs::all()?.into_iter().filter(|stat| stat.group == Some(group) && stat.alive());
    Ok(members.map(|stat| stat.pid.as_raw_nonzero().get().cast_unsigned()).collect())
}

/// Orphans of the group become children of this process if it is the first of a container or a subreaper,
/// and then nobody else reaps them. Only that group's: other children are not ours to reap.
fn reap_adopted(group: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    while let Ok(Some(_)) = process::waitid(WaitId::Pgid(Some(group)), options) {}
}
