//! Fetches a job's repository: with the system's git, as the job's user, under the job's limits, and with nothing of ours.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use airunner_exec::{Exit, Job as Process, JobId, Spec, Stream};
use airunner_proto::job::v1::Repository;

use super::{
    confinement::Confinement, process::Attendant, process::Stopped, task::Failed, workspace::Workspace,
};

/// How long all of it may take.
const LIMIT: Duration = Duration::from_mins(10);
/// Bytes of what git says that are kept for the error: the last ones.
const WORDS: usize = 1_024;
/// Git's configuration while it fetches.
const CONFIGURATION: &str = ".airunner-gitconfig";
/// Where the checkout is, within the workspace.
const CHECKOUT: &str = "repository";

/// Clones at the revision, shallow where the server of the repository allows it, and returns where it is. Submodules are
/// not fetched and no hook runs.
pub(super) async fn fetch(
    attendant: &mut Attendant,
    confinement: &Confinement,
    workspace: &Workspace,
    repository: &Repository,
) -> Result<PathBuf, Failed> {
    let protocols = &attendant.shared.options.git_protocols;
    check(repository, protocols)?;
    let configuration = workspace.write(CONFIGURATION, configuration(&repository.url)?).await?;
    let started = attendant.shared.clock.monotonic();
    let checkout = workspace.path().join(CHECKOUT);
    let mut git = Git { attendant, confinement, workspace, url: &repository.url, configuration, started };
    git.run(workspace.path(), &["init", "--quiet", "--template=", "--", CHECKOUT]).await?;
    let revision = match repository.revision.as_str() {
        "" => "HEAD",
        revision => revision,
    };
    let url = repository.url.as_str();
    let fetch = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
    let shallow = [&fetch[..], &["--depth=1", "--", url, revision]].concat();
    let target = match git.run(&checkout, &shallow).await {
        Ok(()) => "FETCH_HEAD",
        // Some servers give away no commit by its id.
        Err(_) if git.attendant.stopped.is_none() && is_commit(revision) => {
            let everything = ["--", url, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
            git.run(&checkout, &[&fetch[..], &everything].concat()).await?;
            revision
        }
        Err(failed) => return Err(failed),
    };
    git.run(&checkout, &["checkout", "--quiet", "--detach", target, "--"]).await?;
    Ok(checkout)
}

/// The URL without whatever stands before an `@` in its authority.
pub(super) fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

struct Git<'a> {
    attendant: &'a mut Attendant,
    confinement: &'a Confinement,
    workspace: &'a Workspace,
    url: &'a str,
    configuration: PathBuf,
    started: airunner_core::Monotonic,
}

impl Git<'_> {
    async fn run(&mut self, directory: &Path, args: &[&str]) -> Result<(), Failed> {
        let shared = Arc::clone(&self.attendant.shared);
        let left = LIMIT.saturating_sub(shared.clock.monotonic().since(self.started));
        let mut process = Process::spawn(self.spec(directory, args)?).await.map_err(|error| {
            let Failed(why) = self.confinement.explain(&error);
            Failed(format!("git can't be started to fetch the repository: {why}"))
        })?;
        let words = process.output().map(|output| tokio::spawn(listen(output)));
        let exit = self.attendant.attend(&process, Some(left)).await;
        let words = match words {
            Some(words) => words.await.unwrap_or_default(),
            None => String::new(),
        };
        match (self.attendant.stopped, exit) {
            (Some(Stopped::TimedOut), _) => {
                // It is the fetching that took too long, not the job.
                self.attendant.stopped = None;
                Err(Failed("the repository could not be fetched within ten minutes".to_owned()))
            }
            (None, Exit::Code(0)) => Ok(()),
            _ => Err(Failed(format!(
                "the repository {} could not be fetched: {}",
                shown(self.url),
                words.replace(self.url, &shown(self.url)).trim(),
            ))),
        }
    }

    fn spec(&self, directory: &Path, args: &[&str]) -> Result<Spec, Failed> {
        let shared = &self.attendant.shared;
        let id = JobId::new(&self.attendant.held.job_id).map_err(|error| Failed(error.to_string()))?;
        let spec = Spec::new(id, "git")
            .args(args)
            .env("PATH", &shared.options.path)
            .env("HOME", self.workspace.path())
            .env("LC_ALL", "C")
            .env("GIT_ALLOW_PROTOCOL", shared.options.git_protocols.join(":"))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", &self.configuration)
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
            .directory(directory)
            .mark_dir(&shared.site.marks);
        self.confinement.confine_fetch(spec, &shared.site)
    }
}

/// Reads what git says to its end, and keeps the last of it.
async fn listen(mut output: airunner_exec::Output) -> String {
    let mut words = Vec::new();
    while let Some(chunk) = output.next().await {
        if chunk.stream == Stream::Stderr {
            words.extend_from_slice(&chunk.bytes);
            let surplus = words.len().saturating_sub(WORDS);
            words.drain(..surplus);
        }
    }
    String::from_utf8_lossy(&words).into_owned()
}

/// The server has checked this too; here it is what a command is made of.
fn check(repository: &Repository, protocols: &[String]) -> Result<(), Failed> {
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

/// What git is to know. A repository on this machine belongs to another user than the job, and git reads it only if told
/// that this one path is trusted (git-config, `safe.directory`); the part of it that reads takes that from a file alone.
fn configuration(url: &str) -> Result<String, Failed> {
    let mut text = "[core]\n\thooksPath = /dev/null\n[advice]\n\tdetachedHead = false\n".to_owned();
    if let Some(path) = url.strip_prefix("file://") {
        let path = percent_decoded(path);
        let path = path.filter(|path| path.starts_with('/') && !path.chars().any(char::is_control));
        let path = path.ok_or_else(|| Failed(format!("{url:?} names no path of this machine")))?;
        let path = path.trim_end_matches('/').replace('\\', "\\\\").replace('"', "\\\"");
        // Writing to a String does not fail.
        let _ok = write!(text, "[safe]\n\tdirectory = \"{path}\"\n\tdirectory = \"{path}/.git\"\n");
    }
    Ok(text)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = tail;
            }
            (b'%', _) => return None,
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(url: &str, revision: &str) -> Result<(), Failed> {
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

    #[test]
    fn one_path_is_trusted_and_no_line_is_smuggled_in() {
        let text = configuration("file:///srv/a%20%22b/").unwrap();
        assert!(text.contains("directory = \"/srv/a \\\"b\"\n"), "{text}");
        assert!(!configuration("https://example.com/a").unwrap().contains("safe"));
        for bad in ["file://host/a", "file:///a%0a[core]", "file:///a%zz", "file:///a%2"] {
            configuration(bad).unwrap_err();
        }
    }
}
