//! What stage two is told: the part of the specification that concerns it, as bytes in a file in memory. Must not
//! be read from anywhere but this library's own other half: it is trusted.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::sandbox::{Access, Network, Root, Sandbox};
use crate::user::RunAs;

/// What stage two does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    /// The variables that are to hold the paths of the files handed over, in the order of these.
    pub(crate) files: Vec<OsString>,
    /// The job's user, if it is to be changed to.
    pub(crate) user: Option<RunAs>,
    /// Standard input, output and error are a terminal, which becomes the controlling one.
    pub(crate) terminal: bool,
    pub(crate) limits: ProcessLimits,
    /// Everything that only a sandbox has.
    pub(crate) sandbox: Option<Confinement>,
}

/// What to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) command: OsString,
    pub(crate) arguments: Vec<OsString>,
    /// The whole environment, the library's own variable among it.
    pub(crate) environment: BTreeMap<OsString, OsString>,
    pub(crate) directory: PathBuf,
}

/// Limits that a process sets for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessLimits {
    pub(crate) open_files: Option<u64>,
    pub(crate) file_size: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Confinement {
    pub(crate) sandbox: Sandbox,
    /// Whether it was born in namespaces of its own; if not, only the rest is done.
    pub(crate) namespaces: bool,
    /// Whether the user namespace is among them: then its ids, these, are still to be mapped. If not, the process makes
    /// one when it has become the job's user.
    pub(crate) user_namespace: Option<RunAs>,
    /// Goes on without what the host refuses, and reports it.
    pub(crate) best_effort: bool,
}

impl Plan {
    /// A file in memory, which is closed on execution.
    pub(crate) fn seal(&self) -> io::Result<OwnedFd> {
        let mut file = File::from(memfd_create("airunner-plan", MemfdFlags::CLOEXEC)?);
        file.write_all(&self.encode())?;
        Ok(file.into())
    }

    pub(crate) fn read(file: OwnedFd) -> io::Result<Self> {
        let mut file = File::from(file);
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Self::decode(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        let Program { command, arguments, environment, directory } = &self.program;
        out.bytes(command.as_bytes());
        out.bytes(directory.as_os_str().as_bytes());
        out.number(arguments.len() as u64);
        for argument in arguments {
            out.bytes(argument.as_bytes());
        }
        out.number(environment.len() as u64);
        for (name, value) in environment {
            out.bytes(name.as_bytes());
            out.bytes(value.as_bytes());
        }
        out.number(self.files.len() as u64);
        for name in &self.files {
            out.bytes(name.as_bytes());
        }
        out.user(self.user);
        out.flag(self.terminal);
        out.optional(self.limits.open_files);
        out.optional(self.limits.file_size);
        out.flag(self.sandbox.is_some());
        if let Some(confinement) = &self.sandbox {
            out.confinement(confinement);
        }
        out.0
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader(bytes);
        let command = input.string()?;
        let directory = PathBuf::from(input.string()?);
        let arguments = (0..input.number()?).map(|_| input.string()).collect::<Option<_>>()?;
        let environment =
            (0..input.number()?).map(|_| Some((input.string()?, input.string()?))).collect::<Option<_>>()?;
        let plan = Self {
            program: Program { command, arguments, environment, directory },
            files: (0..input.number()?).map(|_| input.string()).collect::<Option<_>>()?,
            user: input.user()?,
            terminal: input.flag()?,
            limits: ProcessLimits { open_files: input.optional()?, file_size: input.optional()? },
            sandbox: if input.flag()? { Some(input.confinement()?) } else { None },
        };
        input.0.is_empty().then_some(plan)
    }
}

impl Program {
    /// Where a command without `/` is looked for: in the `PATH` of the job's own environment.
    pub(crate) fn search_path(&self) -> &OsStr {
        self.environment
            .get(OsStr::new("PATH"))
            .map_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"), OsString::as_os_str)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn flag(&mut self, flag: bool) {
        self.0.push(flag.into());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn path(&mut self, path: &Path) {
        self.bytes(path.as_os_str().as_bytes());
    }

    fn optional(&mut self, number: Option<u64>) {
        self.flag(number.is_some());
        self.number(number.unwrap_or_default());
    }

    fn user(&mut self, user: Option<RunAs>) {
        self.optional(user.map(|user| user.uid.into()));
        self.optional(user.map(|user| user.gid.into()));
    }

    fn confinement(&mut self, confinement: &Confinement) {
        let Confinement { sandbox, namespaces, user_namespace, best_effort } = confinement;
        let Sandbox { root, network, tmp_size, binds } = sandbox;
        let (kind, path) = match root {
            Root::System => (0, Path::new("")),
            Root::Host => (1, Path::new("")),
            Root::Directory(path) => (2, path.as_path()),
        };
        self.number(kind);
        self.path(path);
        self.flag(*network == Network::Host);
        self.number(*tmp_size);
        self.number(binds.len() as u64);
        for (path, access) in binds {
            self.path(path);
            self.flag(*access == Access::Write);
        }
        self.flag(*namespaces);
        self.user(*user_namespace);
        self.flag(*best_effort);
    }
}

struct Reader<'a>(&'a [u8]);

#[expect(clippy::option_option, reason = "the outer one says that the bytes ran out")]
impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.take(1)? != [0])
    }

    fn string(&mut self) -> Option<OsString> {
        let length = usize::try_from(self.number()?).ok()?;
        Some(OsString::from_vec(self.take(length)?.to_vec()))
    }

    fn optional(&mut self) -> Option<Option<u64>> {
        let is_some = self.flag()?;
        let number = self.number()?;
        Some(is_some.then_some(number))
    }

    fn user(&mut self) -> Option<Option<RunAs>> {
        let (uid, gid) = (self.optional()?, self.optional()?);
        Some(match uid.zip(gid) {
            Some((uid, gid)) => Some(RunAs { uid: uid.try_into().ok()?, gid: gid.try_into().ok()? }),
            None => None,
        })
    }

    fn confinement(&mut self) -> Option<Confinement> {
        let kind = self.number()?;
        let path = PathBuf::from(self.string()?);
        let root = match kind {
            0 => Root::System,
            1 => Root::Host,
            2 => Root::Directory(path),
            _ => return None,
        };
        let network = if self.flag()? { Network::Host } else { Network::None };
        let tmp_size = self.number()?;
        let bind = |input: &mut Self| {
            let path = PathBuf::from(input.string()?);
            Some((path, if input.flag()? { Access::Write } else { Access::Read }))
        };
        let binds = (0..self.number()?).map(|_| bind(self)).collect::<Option<_>>()?;
        Some(Confinement {
            sandbox: Sandbox { root, network, tmp_size, binds },
            namespaces: self.flag()?,
            user_namespace: self.user()?,
            best_effort: self.flag()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            program: Program {
                command: "sh".into(),
                arguments: vec!["-c".into(), OsString::from_vec(vec![0xff, b'\n']), "".into()],
                environment: [("A".into(), "b=c".into()), ("E".into(), "".into())].into(),
                directory: "/srv/x".into(),
            },
            files: vec!["KEY".into(), OsString::from_vec(vec![0xff])],
            user: Some(RunAs { uid: 7, gid: 0 }),
            terminal: true,
            limits: ProcessLimits { open_files: Some(9), file_size: None },
            sandbox: Some(Confinement {
                sandbox: Sandbox::new()
                    .root(Root::Directory("/r".into()))
                    .network(Network::Host)
                    .tmp_size(5)
                    .read_only("/a b")
                    .writable("/c"),
                namespaces: true,
                user_namespace: None,
                best_effort: true,
            }),
        }
    }

    #[test]
    fn a_plan_reads_back_whole_and_not_otherwise() {
        let bare = Plan { files: Vec::new(), user: None, terminal: false, sandbox: None, ..plan() };
        for plan in [plan(), bare] {
            let bytes = plan.encode();
            assert_eq!(Plan::decode(&bytes).unwrap(), plan);
            for cut in 0..bytes.len() {
                assert!(Plan::decode(&bytes[..cut]).is_none(), "cut at {cut}");
            }
            assert!(Plan::decode(&[&bytes[..], &[0]].concat()).is_none());
            assert_eq!(Plan::read(plan.seal().unwrap()).unwrap(), plan);
        }
    }
}
