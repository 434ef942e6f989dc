//! The cgroup in which all tests of this process run, and the builders of isolated jobs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use airunner_exec::{Cgroups, Isolation, RunAs, Spec, resolve_user};

use crate::bench::shell;

static CGROUPS: OnceLock<Cgroups> = OnceLock::new();

/// A cgroup of this process's own, which is left and removed in the end.
pub(crate) struct Cell {
    root: PathBuf,
}

impl Cell {
    pub(crate) fn enter() -> Self {
        let root = root();
        let cgroups = Cgroups::at(root.join(format!("airunner-test-{}", std::process::id()))).unwrap();
        CGROUPS.set(cgroups).unwrap();
        Self { root }
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        let directory = cgroups().directory();
        fs::write(self.root.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        fs::remove_dir(directory.join("supervisor")).unwrap();
        fs::remove_dir(directory).expect("no job leaves its cgroup behind");
    }
}

/// Where the host has its cgroups of version 2.
pub(crate) fn root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let found = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let point = fields.nth(1)?;
        (fields.next()? == "cgroup2").then_some(point)
    });
    found.expect("mount a cgroup v2 file system").into()
}

pub(crate) fn cgroups() -> &'static Cgroups {
    CGROUPS.get().unwrap()
}

/// Whether jobs here can have this limit. In the virtual machine they must.
pub(crate) fn has_controller(name: &str) -> bool {
    let list = fs::read_to_string(cgroups().directory().join("cgroup.controllers")).unwrap();
    let there = list.split_whitespace().any(|controller| controller == name);
    assert!(there || std::env::var_os("AIRUNNER_TEST_ALL_CONTROLLERS").is_none(), "{name} is missing");
    there
}

pub(crate) fn nobody() -> RunAs {
    resolve_user("nobody").unwrap()
}

/// The job with a cgroup and another user.
pub(crate) fn limited(spec: Spec) -> Spec {
    spec.isolation(Isolation::Limits).cgroups(cgroups()).run_as(nobody())
}

/// The job with everything.
pub(crate) fn sandboxed(spec: Spec) -> Spec {
    limited(spec).isolation(Isolation::Sandbox)
}

pub(crate) fn at(level: Isolation, spec: Spec) -> Spec {
    match level {
        Isolation::Limits => limited(spec),
        Isolation::Sandbox => sandboxed(spec),
        _ => spec.run_as(nobody()),
    }
}

pub(crate) const LEVELS: [Isolation; 3] = [Isolation::None, Isolation::Limits, Isolation::Sandbox];
pub(crate) const ISOLATED: [Isolation; 2] = [Isolation::Limits, Isolation::Sandbox];

/// A shell script in a sandbox.
pub(crate) fn inside(script: &str) -> Spec {
    sandboxed(shell(script))
}

/// Whether a job's cgroup is gone.
pub(crate) fn is_gone(spec_id: &airunner_exec::JobId) -> bool {
    !cgroup_of(spec_id).exists()
}

pub(crate) fn cgroup_of(id: &airunner_exec::JobId) -> PathBuf {
    cgroups().directory().join(format!("job-{id}.{}", std::process::id()))
}

/// A directory that everybody may enter, and only its owner change.
pub(crate) fn open_directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), 0o755);
    dir
}

pub(crate) fn open(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
