//! Fetches a job's repository: with the system's git, under the job's limits, and with nothing of ours.
//!
//! By a user whom no job can be, out of what is kept between jobs, and with the worker's credentials, where jobs reach
//! none of that (`relay`); else as the job's user (`direct`).

mod cache;
mod credentials;
mod direct;
mod relay;
mod run;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use airunner_core::{Error, Isolation, Result};
use airunner_exec::{RunAs, resolve_user};
use airunner_proto::job::v1::Repository;
use tokio::task::spawn_blocking;

use self::{cache::Cache, credentials::Credential, run::Runner};
use super::{
    confinement::Confinement,
    options::{GitOptions, JobUser, WorkerOptions, failed, make_directory, refuse},
    process::Attendant,
    task::Failed,
    workspace::Workspace,
};

/// Where the checkout is, within the workspace.
const CHECKOUT: &str = "repository";
/// Who fetches where nothing is said: one of the numbers that systemd's list of users and groups leaves unused.
const USER: RunAs = RunAs { uid: 61_000, gid: 61_000 };

/// What a worker has for fetching.
#[derive(Debug)]
pub(super) struct Site {
    apart: Option<Apart>,
}

/// Fetching where no job reaches.
#[derive(Debug)]
struct Apart {
    /// None is the worker's own user.
    user: Option<RunAs>,
    /// Whether /etc/passwd may know the user, without which ssh does not run.
    is_named: bool,
    /// Where git has its homes, one for each fetch.
    homes: PathBuf,
    cache: Cache,
}

impl Site {
    /// Finds out whether jobs could reach what is kept or what is secret, and makes the places for it where they can't.
    /// Blocks.
    ///
    /// # Errors
    /// Credentials that jobs could read, or that are no credentials; a user that jobs run as; a directory that is no good.
    pub(super) fn prepare(options: &WorkerOptions, state: &Path, jobs: Option<RunAs>) -> Result<Self> {
        let git = &options.git;
        let homes = state.join("git");
        match fs::remove_dir_all(&homes) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("clear", &homes)(error));
            }
            _ => {}
        }
        let Some((user, is_named)) = who(options, jobs)? else {
            return match &git.credentials {
                None => Ok(Self { apart: None }),
                Some(_) => Err(refuse(
                    "worker.git_credentials",
                    "jobs of this worker run as its own user, without a sandbox that they can't do without, and could \
                     read every credential: run it as root with another user for jobs, or at the isolation sandbox \
                     without best_effort",
                )),
            };
        };
        if let Some(file) = &git.credentials {
            credentials::load(file)?;
            if user.is_none() && credentials::is_shown(file) {
                return Err(refuse(
                    "worker.git_credentials",
                    "sandboxes show this file to jobs of its own user: put it below the worker's home",
                ));
            }
        }
        make_directory(&homes, if user.is_some() { 0o711 } else { 0o700 })?;
        let default = state.join("git-cache");
        let cache = git.cache_dir.as_deref().unwrap_or(&default);
        let cache = Cache::open(cache, user, git.cache_size, git.cache_age)?;
        Ok(Self { apart: Some(Apart { user, is_named, homes, cache }) })
    }
}

/// Who fetches, and whether that user may have a name; none where that would be within reach of jobs.
fn who(options: &WorkerOptions, jobs: Option<RunAs>) -> Result<Option<(Option<RunAs>, bool)>> {
    let is_root = rustix::process::geteuid().is_root();
    // What can't be had is then the failure of the job, and never less.
    let is_sandboxed = options.isolation == Isolation::Sandbox && !options.best_effort;
    if options.user == JobUser::Same && !is_sandboxed {
        return Ok(None);
    }
    let GitOptions { user: named, .. } = &options.git;
    if !is_root {
        return match named {
            Some(_) => Err(refuse("worker.git_user", "only a worker that is root can fetch as another user")),
            None => Ok(Some((None, true))),
        };
    }
    let (user, is_named) = match named {
        Some(name) => {
            let user = resolve_user(name).map_err(|error| refuse("worker.git_user", &error.to_string()))?;
            (user, true)
        }
        None => (USER, resolve_user(&USER.uid.to_string()).is_ok()),
    };
    if user.uid == 0 || jobs.is_some_and(|jobs| jobs.uid == user.uid) {
        return Err(refuse(
            "worker.git_user",
            "root, or whom jobs run as, is not to fetch repositories: name a user of its own",
        ));
    }
    Ok(Some((Some(user), is_named)))
}

/// Fetches the repository at its revision into the workspace, and returns where it is: one commit, without its history.
/// Submodules are not fetched and no hook runs.
pub(super) async fn fetch(
    attendant: &mut Attendant,
    confinement: &Confinement,
    workspace: &Workspace,
    repository: &Repository,
) -> std::result::Result<PathBuf, Failed> {
    let shared = Arc::clone(&attendant.shared);
    check(repository, &shared.options.git_protocols)?;
    let url = repository.url.as_str();
    let known = known(&shared.options.git).await?;
    let credential = credentials::find(&known, url);
    let started = shared.clock.monotonic();
    let runner = Runner { attendant, confinement, url, credential, started };
    let is_ssh = url.starts_with("ssh://");
    let apart = shared.site.git.apart.as_ref().filter(|apart| {
        // What is on this machine is not fetched by a user who can more than jobs can: its owner may be a job.
        !url.starts_with("file://") && (apart.is_named || !is_ssh)
    });
    let revision = repository.revision.as_str();
    match apart {
        Some(apart) => relay::fetch(runner, workspace, apart, revision).await,
        None if credential.is_none() => direct::fetch(runner, workspace, revision).await,
        None if is_ssh && shared.site.git.apart.is_some() => Err(Failed(
            "ssh runs for users of /etc/passwd only, and who fetches for this worker has no name there: have its operator \
             make one and name it (useradd --system airunner-git; worker.git_user = \"airunner-git\")"
                .to_owned(),
        )),
        None => Err(Failed(
            "this worker keeps no credential from its other jobs, and so uses none: send the job to one that runs as root \
             with another user for jobs, or at the isolation sandbox without best_effort"
                .to_owned(),
        )),
    }
}

/// As the file is now: who changes it need not start the worker anew.
async fn known(options: &GitOptions) -> Result<Vec<Credential>> {
    let Some(file) = options.credentials.clone() else { return Ok(Vec::new()) };
    spawn_blocking(move || credentials::load(&file)).await.map_err(Error::internal)?
}

/// The URL without whatever stands before an `@` in its authority.
pub(super) fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// The server has checked this too; here it is what a command is made of.
fn check(repository: &Repository, protocols: &[String]) -> std::result::Result<(), Failed> {
    let scheme = repository.url.split_once("://").map(|(scheme, _)| scheme).unwrap_or_default();
    if !protocols.iter().any(|allowed| allowed == scheme) {
        return Err(Failed(format!(
            "this worker fetches repositories by {} only (worker.git_protocols), not by {scheme:?}",
            protocols.join(", "),
        )));
    }
    let revision = &repository.revision;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
    if revision.starts_with('-') || revision.contains("..") || !revision.bytes().all(allowed) {
        return Err(Failed(format!("{revision:?} is no commit id, branch or tag")));
    }
    Ok(())
}

fn is_commit(revision: &str) -> bool {
    (7..=64).contains(&revision.len()) && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(url: &str, revision: &str) -> std::result::Result<(), Failed> {
        let repository = Repository { url: url.to_owned(), revision: revision.to_owned() };
        check(&repository, &["https".to_owned(), "ssh".to_owned()])
    }

    #[test]
    fn only_allowed_protocols_and_plain_names_pass() {
        checked("https://example.com/a.git", "release/1.2").unwrap();
        checked("ssh://git@example.com/a.git", "").unwrap();
        for url in ["file:///etc", "ext::sh -c id", "/etc", "git://example.com/a", "-u", ""] {
            let Failed(why) = checked(url, "").unwrap_err();
            assert!(why.contains("https, ssh"), "{why}");
        }
        for revision in ["-q", "--upload-pack=x", "a:b", "+a", "a..b", "a b", "a^"] {
            checked("https://example.com/a.git", revision).unwrap_err();
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        assert_eq!(shown("https://me:pw@example.com/a@b.git"), "https://example.com/a@b.git");
        assert_eq!(shown("https://example.com/a.git"), "https://example.com/a.git");
        assert_eq!(shown("ssh://git@example.com"), "ssh://example.com");
    }
}
