//! What may be done on each mount of a sandbox: the rule of the longest path counts. Must run in the new root.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};

use crate::report::{Failure, Step};
use crate::sandbox::Access;

#[derive(Debug)]
pub(super) struct Rules(Vec<(PathBuf, Access)>);

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    point: PathBuf,
    /// What a remount must not take away: in a user namespace it may not.
    flags: MountFlags,
}

impl Rules {
    /// Everything is read-only.
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn set(&mut self, path: &Path, access: Access) {
        self.0.push((path.to_owned(), access));
    }

    fn of(&self, path: &Path) -> Access {
        let covering = self.0.iter().filter(|(rule, _)| path.starts_with(rule));
        // Of equal paths the later rule counts.
        covering.max_by_key(|(rule, _)| rule.components().count()).map_or(Access::Read, |(_, access)| *access)
    }

    /// Sets the flags of every mount that can be reached.
    pub(super) fn apply(&self) -> Result<(), Failure> {
        const TABLE: &str = "/proc/self/mountinfo";
        let fail = |path: &Path, error: io::Error| Failure::at(Step::Mounts, error, path);
        let table = fs::read(TABLE).map_err(|error| fail(Path::new(TABLE), error))?;
        for line in table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let mount =
                parse(line).ok_or_else(|| fail(Path::new(TABLE), io::ErrorKind::InvalidData.into()))?;
            if mount.is_on_top().map_err(|error| fail(&mount.point, error.into()))? {
                mount_remount(&mount.point, self.flags(&mount), "")
                    .map_err(|error| fail(&mount.point, error.into()))?;
            }
        }
        Ok(())
    }

    fn flags(&self, mount: &Mount) -> MountFlags {
        let mut flags = MountFlags::BIND | MountFlags::NOSUID | mount.flags;
        let not_devices = ["/dev", "/dev/shm"].map(Path::new);
        if !mount.point.starts_with("/dev") || not_devices.contains(&mount.point.as_path()) {
            flags |= MountFlags::NODEV;
        }
        if self.of(&mount.point) == Access::Read {
            flags |= MountFlags::RDONLY;
        }
        flags
    }
}

impl Mount {
    /// Whether its path leads to it. One that lies under another cannot be reached, and may not be touched by its path.
    fn is_on_top(&self) -> rustix::io::Result<bool> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match statx(CWD, &self.point, flags, StatxFlags::MNT_ID) {
            Ok(found) => Ok(found.stx_mnt_id == self.id),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(3)?)));
    let options = std::str::from_utf8(fields.next()?).ok()?;
    let flags = options.split(',').map(|option| match option {
        "ro" => MountFlags::RDONLY,
        "nodev" => MountFlags::NODEV,
        "noexec" => MountFlags::NOEXEC,
        "noatime" => MountFlags::NOATIME,
        "nodiratime" => MountFlags::NODIRATIME,
        "relatime" => MountFlags::RELATIME,
        "nosymfollow" => MountFlags::NOSYMFOLLOW,
        _ => MountFlags::empty(),
    });
    Some(Mount { id, point, flags: flags.collect() })
}

/// Space, tab, line feed and backslash are three octal digits after a backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            plain.push(byte);
            rest = &after[3..];
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_read() {
        let line = br"36 35 98:0 /mnt1 /a\040b\134 ro,nosuid,noatime master:1 - ext3 /dev/root rw";
        let flags = MountFlags::RDONLY | MountFlags::NOATIME;
        assert_eq!(parse(line).unwrap(), Mount { id: 36, point: r"/a b\".into(), flags });
        assert!(parse(b"x 35 98:0 / / rw").is_none() && parse(b"36 35").is_none());
        assert_eq!(unescape(br"\9\0"), br"\9\0");
    }

    #[test]
    fn the_longest_rule_counts() {
        let mut rules = Rules::new();
        rules.set(Path::new("/proc"), Access::Write);
        rules.set(Path::new("/proc/sys"), Access::Read);
        let of = |path: &str| rules.of(Path::new(path));
        assert_eq!(
            [of("/"), of("/proc"), of("/proc/sys/kernel"), of("/process")],
            [Access::Read, Access::Write, Access::Read, Access::Read]
        );
    }

    #[test]
    fn only_device_files_keep_their_device() {
        let flags = |point: &str| {
            Rules::new().flags(&Mount { id: 1, point: point.into(), flags: MountFlags::empty() })
        };
        assert!(flags("/dev").contains(MountFlags::NODEV | MountFlags::RDONLY | MountFlags::NOSUID));
        assert!(flags("/dev/shm").contains(MountFlags::NODEV));
        assert!(!flags("/dev/null").contains(MountFlags::NODEV));
    }
}
