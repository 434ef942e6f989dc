//! Fetches as the job's user, straight into the workspace: what is on this machine, and everything for workers whose jobs
//! would reach what is kept. There is no cache, and no credential, on this way.

use std::{fmt::Write as _, path::PathBuf};

use crate::worker::{task::Failed, workspace::Workspace};

use super::{
    CHECKOUT,
    credentials::plain_ssh,
    is_commit,
    run::{Place, Runner},
};

/// Git's configuration while it fetches.
const CONFIGURATION: &str = ".airunner-gitconfig";

/// Clones at the revision, shallow where the server of the repository allows it, and returns where it is.
pub(super) async fn fetch(
    mut runner: Runner<'_>,
    workspace: &Workspace,
    revision: &str,
) -> Result<PathBuf, Failed> {
    let url = runner.url;
    let configuration = workspace.write(CONFIGURATION, configuration(url)?).await?;
    let checkout = workspace.path().join(CHECKOUT);
    let (user, ssh) = (runner.attendant.shared.site.user, plain_ssh());
    let place = |directory| {
        let (home, configuration, ssh) = (workspace.path(), configuration.as_path(), ssh.as_str());
        Place { user, directory, home, configuration, ssh }
    };
    runner.git(&place(workspace.path()), &["init", "--quiet", "--template=", "--", CHECKOUT]).await?;
    let place = place(&checkout);
    let fetch = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
    let shallow = [&fetch[..], &["--depth=1", "--", url, revision]].concat();
    let target = match runner.git(&place, &shallow).await {
        Ok(_) => "FETCH_HEAD",
        // Some servers give away no commit by its id.
        Err(refusal) if refusal.cause.is_worth_asking_for_everything() && is_commit(revision) => {
            let everything = ["--", url, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
            runner.git(&place, &[&fetch[..], &everything].concat()).await?;
            revision
        }
        Err(refusal) => return Err(refusal.into()),
    };
    runner.check_out(&place, target).await?;
    Ok(checkout)
}

/// What git is to know. A repository on this machine belongs to another user than the job, and git reads it only if told
/// that this one path is trusted (git-config, `safe.directory`); the part of it that reads takes that from a file alone.
fn configuration(url: &str) -> Result<String, Failed> {
    let mut text = "[core]\n\thooksPath = /dev/null\n".to_owned();
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
