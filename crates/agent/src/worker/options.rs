//! What a worker is told, and whether this machine allows it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use airunner_core::{Error, Isolation, Label, Labels, QueueName, Result};
use airunner_exec::{Cgroups, RunAs};
use rustix::fs::{FlockOperation, flock};
use tokio::task::spawn_blocking;

use super::git;

/// Whom jobs run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobUser {
    /// A user of this machine by name or number, optionally with a group (`nobody`, `build:docker`, `1000:1000`). Only a
    /// worker that runs as root can.
    Named(String),
    /// Whoever the worker is: every job can then read the worker's key and speak in its name.
    Same,
}

/// How long a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Until it is told to stop.
    UntilShutdown,
    /// For one job.
    Once,
}

/// What a worker is told. [`WorkerOptions::new`] fills in what is usual.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// The queues that it waits on; none is `default`. At most 16. It takes a job of each in turn.
    pub queues: Vec<QueueName>,
    /// Take them in order of preference instead: nothing of a queue as long as one before it has a job.
    pub strict_order: bool,
    /// What it is, for jobs that require it of their worker.
    pub labels: Labels,
    /// Jobs at a time, 1 to 64.
    pub concurrency: u32,
    /// How long a lease lasts, 10 s to 1 h; it is extended at a third.
    pub visibility: Duration,
    /// Where workspaces and marks are kept; a directory for this worker alone. Whoever jobs run as must be able to pass
    /// through to it.
    pub state_dir: PathBuf,
    /// Whom jobs run as.
    pub user: JobUser,
    /// The least that jobs are kept from this machine: one that says nothing or asks for less gets this, one that asks for
    /// more gets more. From `limits` on cgroups are needed.
    pub isolation: Isolation,
    /// Whether jobs may run without what this machine can't give: those that say so, and those that ask for nothing
    /// themselves.
    pub best_effort: bool,
    /// Whether jobs that ask for it get the machine's network in a sandbox, where that is the level of this worker. At a
    /// lower one they may have it anyway.
    pub host_network: bool,
    /// What repositories may be fetched by: of `https`, `ssh`, `http`, `git`, `file`.
    pub git_protocols: Vec<String>,
    /// How they are fetched, and what is kept of them.
    pub git: GitOptions,
    /// The PATH of jobs that set none, and git's.
    pub path: String,
    /// Bytes on disk at most, of all jobs together and for each an equal share, that hold what jobs print while the server
    /// takes nothing and memory is full; then they wait. 0 for none.
    pub output_buffer: u64,
    /// How long jobs may go on once it is told to stop.
    pub drain: Duration,
    /// How long it runs.
    pub run: Run,
}

/// How repositories are fetched, and what is kept of them between jobs.
///
/// They are kept, and credentials used, where no job can reach either: by a worker that runs as root with another user for
/// its jobs, and by one at the isolation sandbox without best effort.
#[derive(Clone, Debug)]
pub struct GitOptions {
    /// Where repositories are kept; none is a place in the state directory. Workers of one user of a machine may share it.
    pub cache_dir: Option<PathBuf>,
    /// Bytes that are kept at most, what is in use apart; 0 keeps nothing.
    pub cache_size: u64,
    /// How long one is kept that nobody asks for.
    pub cache_age: Duration,
    /// Bytes at most of the pack that comes, and of the checkout, in which each file counts for 4 KiB more than it has.
    pub max_size: u64,
    /// How long a server may say nothing, over http and https in whole seconds; over ssh it is a minute.
    pub silence: Duration,
    /// A file of credentials of this worker's user, which nobody else may read.
    pub credentials: Option<PathBuf>,
    /// Who fetches for a worker that is root, neither root nor whom jobs run as; none is uid and gid 61000. Ssh needs one
    /// that /etc/passwd knows.
    pub user: Option<String>,
}

impl Default for GitOptions {
    fn default() -> Self {
        Self {
            cache_dir: None,
            cache_size: Self::CACHE_SIZE,
            cache_age: Self::CACHE_AGE,
            max_size: Self::MAX_SIZE,
            silence: Self::SILENCE,
            credentials: None,
            user: None,
        }
    }
}

impl GitOptions {
    /// Bytes that are kept where nothing is said.
    pub const CACHE_SIZE: u64 = 8 << 30;
    /// How long a repository is kept where nothing is said.
    pub const CACHE_AGE: Duration = Duration::from_hours(14 * 24);
    /// Bytes that a fetch may bring where nothing is said.
    pub const MAX_SIZE: u64 = 4 << 30;
    /// How long a server may say nothing: git's own says every 5 s that it is still at work.
    pub const SILENCE: Duration = Duration::from_mins(1);
}

impl WorkerOptions {
    /// Bytes of output that are kept on disk where nothing is said.
    pub const OUTPUT_BUFFER: u64 = 1 << 30;

    /// The usual worker: one job at a time of the queue `default`, as `nobody`, without isolation but of jobs that ask for
    /// it, over https and ssh.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            queues: Vec::new(),
            strict_order: false,
            labels: Labels::new(),
            concurrency: 1,
            visibility: Duration::from_mins(5),
            state_dir: state_dir.into(),
            user: JobUser::Named("nobody".to_owned()),
            isolation: Isolation::None,
            best_effort: false,
            host_network: false,
            git_protocols: vec!["https".to_owned(), "ssh".to_owned()],
            git: GitOptions::default(),
            path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
            output_buffer: Self::OUTPUT_BUFFER,
            drain: Duration::from_secs(30),
            run: Run::UntilShutdown,
        }
    }

    /// Checks what is asked for, takes possession of the state directory, and clears what a predecessor left in it.
    pub(super) async fn prepare(&self) -> Result<Site> {
        if !(1..=64).contains(&self.concurrency) {
            return Err(refuse("worker.concurrency", "a worker runs 1 to 64 jobs at a time"));
        }
        let options = self.clone();
        let prepared = spawn_blocking(move || Site::prepare(&options)).await;
        let site = prepared.map_err(Error::internal)??;
        let swept = airunner_exec::sweep(&site.marks).await.map_err(|error| in_file(&error))?;
        for id in &swept.killed {
            tracing::warn!(job = %id, "killed what a predecessor that was killed had left running");
        }
        for id in &swept.survived {
            tracing::error!(job = %id, "can't kill what a predecessor left running");
        }
        Ok(site)
    }
}

/// What a worker has of its machine.
#[derive(Debug)]
pub(super) struct Site {
    /// Where workspaces are made.
    pub(super) work: PathBuf,
    /// Where jobs find their certificates.
    pub(super) identities: PathBuf,
    /// Where output is kept that memory has no room for.
    pub(super) output: PathBuf,
    /// Where running jobs are marked.
    pub(super) marks: PathBuf,
    /// Whom jobs run as; none is the worker's own user.
    pub(super) user: Option<RunAs>,
    /// Where jobs get their cgroups, or why there are none.
    pub(super) cgroups: std::result::Result<Cgroups, String>,
    /// How repositories are fetched.
    pub(super) git: git::Site,
    /// Held while the worker runs.
    _lock: File,
}

impl Site {
    fn prepare(options: &WorkerOptions) -> Result<Self> {
        let user = job_user(&options.user)?;
        let state = std::path::absolute(&options.state_dir).map_err(failed("find", &options.state_dir))?;
        // Those who run jobs pass through, and can't look around.
        make_directory(&state, 0o711)?;
        let lock = take_possession(&state)?;
        let [work, identities, output, marks] =
            ["work", "identities", "output", "marks"].map(|name| state.join(name));
        for (directory, mode) in [(&work, 0o711), (&identities, 0o711), (&output, 0o700)] {
            match fs::remove_dir_all(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("clear", directory)(error));
                }
                _ => make_directory(directory, mode)?,
            }
        }
        make_directory(&marks, 0o700)?;
        if let Some(user) = user {
            check_way(&work, user, "worker.state_dir", "jobs run")?;
        }
        let git = git::Site::prepare(options, &state, user)?;
        Ok(Self { work, identities, output, marks, user, cgroups: cgroups(options)?, git, _lock: lock })
    }
}

fn job_user(wanted: &JobUser) -> Result<Option<RunAs>> {
    let is_root = rustix::process::geteuid().is_root();
    match wanted {
        JobUser::Same => Ok(None),
        JobUser::Named(_) if !is_root => Err(refuse(
            "worker.same_user",
            "this worker is not root, so its jobs would run as its own user, and could read its key and speak in its \
             name: set same_user = true if that is meant, or run it as root with run_as",
        )),
        JobUser::Named(name) => {
            let user = airunner_exec::resolve_user(name)
                .map_err(|error| refuse("worker.run_as", &error.to_string()))?;
            if user.uid == 0 {
                return Err(refuse(
                    "worker.run_as",
                    "jobs that run as root can read every key: name another user, or say same_user = true if that is \
                     meant",
                ));
            }
            Ok(Some(user))
        }
    }
}

/// Takes over the cgroup that this process is in. Without one, only what needs one fails.
fn cgroups(options: &WorkerOptions) -> Result<std::result::Result<Cgroups, String>> {
    match Cgroups::delegated() {
        Err(error) if options.isolation >= Isolation::Limits && !options.best_effort => Err(refuse(
            "worker.isolation",
            &format!("jobs at the isolation {} need a cgroup each: {error}", options.isolation),
        )),
        found => Ok(found.map_err(|error| error.to_string())),
    }
}

/// Two workers over one directory would kill each other's jobs.
fn take_possession(state: &Path) -> Result<File> {
    let path = state.join(".lock");
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = opened.map_err(failed("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(refuse(
            "worker.state_dir",
            &format!("another worker uses {}: give each a directory of its own", state.display()),
        )),
        Err(error) => Err(failed("lock", &path)(error.into())),
    }
}

/// Whoever does `what` must reach the place of this setting.
pub(super) fn check_way(place: &Path, user: RunAs, setting: &str, what: &str) -> Result<()> {
    for place in place.ancestors() {
        let metadata = fs::metadata(place).map_err(failed("look at", place))?;
        let shift = match (metadata.uid() == user.uid, metadata.gid() == user.gid) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        if metadata.mode() >> shift & 1 == 0 {
            return Err(refuse(
                setting,
                &format!(
                    "{what} as {user}, who can't pass through {}: choose a directory that can be reached, such as one in \
                     /var/lib",
                    place.display()
                ),
            ));
        }
    }
    Ok(())
}

/// Makes a directory of this mode, whatever the umask, or sets the mode of the one that is there.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed("make", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("make", path))
}

/// The error of doing something to a file.
pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| {
        Error::new(Label::File, format!("can't {what} {}: {error}", path.display())).with_cause(error)
    }
}

fn in_file(error: &dyn std::error::Error) -> Error {
    Error::new(Label::File, error.to_string())
}

pub(super) fn refuse(setting: &str, message: &str) -> Error {
    Error::new(Label::Config, format!("{setting}: {message}")).with_field(setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_two_workers_over_one_directory_the_second_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let options =
            WorkerOptions { user: JobUser::Same, ..WorkerOptions::new(state.path().join("worker")) };
        let first = options.prepare().await.unwrap();
        let error = options.prepare().await.unwrap_err();
        assert!(error.message().contains("another worker"), "{error}");
        drop(first);
        options.prepare().await.unwrap();
    }

    #[tokio::test]
    async fn a_state_directory_that_jobs_cannot_reach_is_refused_by_name() {
        let closed = tempfile::tempdir().unwrap();
        fs::set_permissions(closed.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let options = WorkerOptions::new(closed.path().join("worker"));
        let error = options.prepare().await.unwrap_err();
        let field =
            if rustix::process::geteuid().is_root() { "worker.state_dir" } else { "worker.same_user" };
        assert_eq!((error.label(), error.field()), (Label::Config, Some(field)));
    }

    #[tokio::test]
    async fn jobs_do_not_run_as_root_by_name() {
        let state = tempfile::tempdir().unwrap();
        let user = JobUser::Named("root".to_owned());
        let error = WorkerOptions { user, ..WorkerOptions::new(state.path()) }.prepare().await.unwrap_err();
        assert_eq!(error.label(), Label::Config);
    }

    #[tokio::test]
    async fn a_number_of_jobs_out_of_range_is_refused() {
        for concurrency in [0, 65] {
            let error = WorkerOptions { concurrency, ..WorkerOptions::new("/tmp/unused") }.prepare().await;
            assert_eq!(error.unwrap_err().field(), Some("worker.concurrency"));
        }
    }
}
