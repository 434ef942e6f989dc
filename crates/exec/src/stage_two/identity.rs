//! Who the job is and what it may: ids, user namespace, capabilities. Each step only takes away.

use std::fs;

use rustix::process::{DumpableBehavior, getegid, geteuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, UnshareFlags, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::report::{Failure, Step};
use crate::user::RunAs;

type Outcome = Result<(), Failure>;

pub(super) fn current() -> RunAs {
    RunAs { uid: geteuid().as_raw(), gid: getegid().as_raw() }
}

/// Changes to `user`, if that is somebody else. Supplementary groups go where this process may drop them.
pub(super) fn become_user(user: Option<RunAs>) -> Outcome {
    let Some(user) = user else { return Ok(()) };
    let change = || {
        if geteuid().is_root() {
            set_thread_groups(&[])?;
        }
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)
    };
    change().map_err(|error| Failure::new(Step::User, error))
}

/// Maps the ids that this process has outside to the same inside of the user namespace that it was born in.
pub(super) fn map_ids(ids: RunAs) -> Outcome {
    // Without a right over the namespace outside, groups may be mapped only by whoever can't drop any.
    write("/proc/self/setgroups", "deny", Step::IdMap)?;
    write("/proc/self/uid_map", &format!("{0} {0} 1", ids.uid), Step::IdMap)?;
    write("/proc/self/gid_map", &format!("{0} {0} 1", ids.gid), Step::IdMap)
}

/// Moves into a user namespace in which there is nobody but the job's user.
pub(super) fn enter_user_namespace() -> Outcome {
    let fail = |error: rustix::io::Errno| Failure::new(Step::UserNamespace, error);
    let ids = current();
    // The change of user has given `/proc/self` to root, and the maps with it. No other process of the job exists.
    set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(fail)?;
    unshare(UnshareFlags::NEWUSER).map_err(fail)?;
    map_ids(ids).map_err(|failure| Failure { step: Step::UserNamespace, ..failure })
}

/// The cgroup that it was born in is the whole tree from here on.
pub(super) fn enter_cgroup_namespace() -> Outcome {
    unshare(UnshareFlags::NEWCGROUP).map_err(|error| Failure::new(Step::Init, error))
}

#[expect(deprecated, reason = "its successor is unsafe for flags that unshare descriptors: none here does")]
fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(flags)
}

/// No execution gives a capability from here on, not even one of root's.
pub(super) fn drop_bounding_set() -> Outcome {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The first that the kernel does not know ends the list.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(Failure::new(Step::Capabilities, error)),
        }
    }
    Ok(())
}

/// Gives up what is left, those of a user namespace just made among it, and every way to new ones.
pub(super) fn drop_capabilities() -> Outcome {
    let drop = || {
        clear_ambient_capability_set()?;
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
        set_no_new_privs(true)
    };
    drop().map_err(|error| Failure::new(Step::Capabilities, error))
}

fn write(path: &str, text: &str, step: Step) -> Outcome {
    fs::write(path, text).map_err(|error| Failure::at(step, error, path))
}
