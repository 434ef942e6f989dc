//! Whom a job runs as: names and numbers to ids. Must not change any process's identity.

use std::{fmt, fs, io};

/// A user and a group by number. Supplementary groups are always dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// The user.
    pub uid: u32,
    /// The only group.
    pub gid: u32,
}

impl fmt::Display for RunAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {} gid {}", self.uid, self.gid)
    }
}

/// A user or group could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// `/etc/passwd` has no such user.
    #[error("user `{0}` is not in /etc/passwd: create it, or give numbers as `uid:gid`")]
    NoUser(String),
    /// `/etc/group` has no such group.
    #[error("group `{0}` is not in /etc/group: create it, or give its number")]
    NoGroup(String),
    /// A user database could not be read.
    #[error("{file} cannot be read: {source}")]
    Read {
        /// Which.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Finds a user by name or number, optionally with a group: `nobody`, `65534`, `build:docker`, `1000:1000`.
///
/// Without a group the user's own from `/etc/passwd` is taken; `uid:gid` needs no entry in any file. Only
/// `/etc/passwd` and `/etc/group` are read, no directory service. Reads two small files, so call it at start
/// or where blocking is allowed.
pub fn resolve_user(text: &str) -> Result<RunAs, UserError> {
    resolve_in(text, || read("/etc/passwd"), || read("/etc/group"))
}

fn read(file: &'static str) -> Result<String, UserError> {
    let bytes = fs::read(file).map_err(|source| UserError::Read { file, source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn resolve_in(
    text: &str,
    passwd: impl FnOnce() -> Result<String, UserError>,
    groups: impl FnOnce() -> Result<String, UserError>,
) -> Result<RunAs, UserError> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let gid = match group {
        None => None,
        Some(group) => Some(match number(group) {
            Some(gid) => gid,
            None => entry(&groups()?, group).map(|(gid, _)| gid).ok_or(UserError::NoGroup(group.into()))?,
        }),
    };
    if let (Some(uid), Some(gid)) = (number(user), gid) {
        return Ok(RunAs { uid, gid });
    }
    let (uid, own) = entry(&passwd()?, user).ok_or(UserError::NoUser(user.into()))?;
    match gid.or(own) {
        Some(gid) => Ok(RunAs { uid, gid }),
        None => Err(UserError::NoUser(user.into())),
    }
}

/// A numeric id; the highest number means "unchanged" to the kernel and is no id.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

/// Both files read `name:password:id:…`, and passwd has the group in the next field. A name wins over a
/// number.
fn entry(file: &str, wanted: &str) -> Option<(u32, Option<u32>)> {
    let rows = || {
        file.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?, number(fields.nth(1)?)?);
            Some((name, id, fields.next().and_then(number)))
        })
    };
    let by_name = rows().find(|(name, ..)| !name.is_empty() && *name == wanted);
    let found = by_name.or_else(|| number(wanted).and_then(|id| rows().find(|row| row.1 == id)));
    found.map(|(_, id, group)| (id, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nbuild:x:1000:100:::\nbad line\nbroken:x:many:1::\n";
    const GROUP: &str = "root:x:0:\ndocker:x:999:build\n";

    fn resolve(text: &str) -> Result<RunAs, UserError> {
        resolve_in(text, || Ok(PASSWD.into()), || Ok(GROUP.into()))
    }

    #[test]
    fn names_and_numbers_resolve() {
        let cases = [("build", 1000, 100), ("1000", 1000, 100), ("build:docker", 1000, 999)];
        let more = [("build:7", 1000, 7), ("4242:4243", 4242, 4243), ("1000:docker", 1000, 999)];
        for (text, uid, gid) in cases.into_iter().chain(more) {
            assert_eq!(resolve(text).unwrap(), RunAs { uid, gid }, "{text}");
        }
    }

    #[test]
    fn unknown_users_and_groups_are_named() {
        for text in ["", "ghost", "4242", "broken", "4294967295:1", "+1:1", "-1", ":docker", "bad line"] {
            assert!(matches!(resolve(text), Err(UserError::NoUser(_))), "{text}");
        }
        for text in ["build:", "build:ghost", "1:4294967295"] {
            assert!(matches!(resolve(text), Err(UserError::NoGroup(_))), "{text}");
        }
    }

    #[test]
    fn root_is_on_every_machine() {
        assert_eq!(resolve_user("root").unwrap(), RunAs { uid: 0, gid: 0 });
    }
}
