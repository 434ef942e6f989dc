//! The filter of system calls of a sandbox: which rules there are, and that they hold. The lists of names are
//! elsewhere.

use std::collections::BTreeMap;
use std::env;
use std::io;

use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::syscalls::{ALLOWED, ALLOWED_OLD, REFUSED, REFUSED_OLD};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Filters this process, and all that come of it. It may still execute.
///
/// Two filters, of which the stricter answer counts, and of equally strict ones that of the second. The first lets
/// pass what is known, and says of all else that this kernel has no such call. `clone3` is among that: its flags lie
/// in memory, where no filter sees them, and programs fall back to `clone`. The second refuses.
pub(super) fn apply() -> io::Result<()> {
    let known = ALLOWED.iter().chain(&ALLOWED_OLD).chain(&REFUSED).chain(&REFUSED_OLD);
    let known = known.map(|call| (*call, Vec::new())).collect();
    let known = compile(known, SeccompAction::Allow, refusal(Errno::NOSYS))?;
    let refused = compile(refusals()?, refusal(Errno::PERM), SeccompAction::Allow)?;
    for filter in [known, refused] {
        seccompiler::apply_filter(&filter).map_err(|error| match error {
            seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error) => error,
            error => io::Error::other(error),
        })?;
    }
    Ok(())
}

fn refusals() -> io::Result<Rules> {
    let mut rules: Rules = REFUSED.iter().chain(&REFUSED_OLD).map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_clone, clone_into_namespaces()?);
    rules.insert(libc::SYS_ioctl, typing_into_terminals()?);
    rules.insert(libc::SYS_socket, odd_sockets()?);
    Ok(rules)
}

/// A process that makes namespaces gets capabilities in them, and with these the rest of the kernel to attack.
fn clone_into_namespaces() -> io::Result<Vec<SeccompRule>> {
    let flags = [
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWUTS,
    ];
    flags.into_iter().map(|flag| rule(&[has(0, flag.cast_unsigned())?])).collect()
}

/// Puts input into a terminal as if it were typed.
fn typing_into_terminals() -> io::Result<Vec<SeccompRule>> {
    const TIOCLINUX: u32 = 0x541c;
    const TIOCSTI: u32 = 0x5412;
    [TIOCSTI, TIOCLINUX].into_iter().map(|request| rule(&[is(1, request)?])).collect()
}

/// Only the families that programs need: some others, such as `AF_VSOCK`, belong to no network namespace. And no raw
/// sockets of any.
fn odd_sockets() -> io::Result<Vec<SeccompRule>> {
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let others = families.into_iter().map(|family| is_not(0, family.cast_unsigned()));
    let mut rules = vec![rule(&others.collect::<io::Result<Vec<_>>>()?)?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        const TYPE: u32 = 0xf;
        let raw = condition(1, SeccompCmpOp::MaskedEq(TYPE.into()), libc::SOCK_RAW.cast_unsigned())?;
        rules.push(rule(&[is(0, family.cast_unsigned())?, raw])?);
    }
    Ok(rules)
}

fn compile(rules: Rules, matched: SeccompAction, other: SeccompAction) -> io::Result<BpfProgram> {
    let architecture = env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, other, matched, architecture).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

fn refusal(errno: Errno) -> SeccompAction {
    SeccompAction::Errno(errno.raw_os_error().cast_unsigned())
}

fn rule(conditions: &[SeccompCondition]) -> io::Result<SeccompRule> {
    SeccompRule::new(conditions.to_vec()).map_err(io::Error::other)
}

fn has(argument: u8, flag: u32) -> io::Result<SeccompCondition> {
    condition(argument, SeccompCmpOp::MaskedEq(flag.into()), flag)
}

fn is(argument: u8, value: u32) -> io::Result<SeccompCondition> {
    condition(argument, SeccompCmpOp::Eq, value)
}

fn is_not(argument: u8, value: u32) -> io::Result<SeccompCondition> {
    condition(argument, SeccompCmpOp::Ne, value)
}

/// The kernel looks at the lower half of these arguments alone.
fn condition(argument: u8, operator: SeccompCmpOp, value: u32) -> io::Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value.into()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_both_allowed_and_refused() {
        let refused: Vec<i64> = REFUSED.into_iter().chain(REFUSED_OLD).collect();
        assert!(!ALLOWED.iter().chain(&ALLOWED_OLD).any(|call| refused.contains(call)));
        assert!(!ALLOWED.contains(&libc::SYS_clone3) && !refused.contains(&libc::SYS_clone3));
    }

    #[test]
    fn the_rules_make_programs_for_the_kernel() {
        let largest = 4096;
        let known = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
        assert!(compile(known, SeccompAction::Allow, refusal(Errno::NOSYS)).unwrap().len() < largest);
        let refused = compile(refusals().unwrap(), refusal(Errno::PERM), SeccompAction::Allow).unwrap();
        assert!(refused.len() < largest);
    }
}
