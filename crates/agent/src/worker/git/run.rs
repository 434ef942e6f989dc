//! Runs git for one job: under its limits, within the time and the size that a fetch has, and in words that say what to do.

use std::{path::Path, sync::Arc, time::Duration};

use airunner_core::Monotonic;
use airunner_exec::{Exit, Job as Process, JobId, RunAs, Spec, Stream};

use crate::worker::{
    confinement::Confinement,
    process::{Attendant, Stopped},
    task::Failed,
};

use super::{credentials::Credential, shown};

/// How long all of it may take.
const LIMIT: Duration = Duration::from_mins(10);
/// Bytes of what git says that are kept for the error: the last ones.
const WORDS: usize = 1_024;
/// Bytes of an answer that is read.
const ANSWER: usize = 4_096;
/// Runs what follows, which writes no file larger than so many blocks of 512 bytes. Where the job's own limit is lower that
/// one stays.
const BOUNDED: &str = "ulimit -f \"$0\" 2>/dev/null; exec \"$@\"";
/// As that, for a fetch, which tells of an error but not of a signal. A checkout would go on after an error.
const BOUNDED_FETCH: &str = "trap '' XFSZ; ulimit -f \"$0\" 2>/dev/null; exec \"$@\"";
/// The signal of a file that became too large.
const SIGXFSZ: i32 = 25;
/// Checks out the commit `$1`, unless what it holds takes more than `$2` bytes: a pack of a few megabytes may hold any number of
/// large files, each within its own limit. A file counts for a block of the disk more than it has. What is too much ends as a
/// file does that became too large: 153 is how a shell tells of [`SIGXFSZ`].
pub(super) const CHECK_OUT: &str = "\
git ls-tree -r -l --full-tree \"$1\" |
    awk -v room=\"$2\" '{ bytes += $4 + 4096 } bytes > room { exit 3 }' || exit \"$(($? == 3 ? 153 : 1))\"
exec git -c core.hooksPath=/dev/null -c advice.detachedHead=false checkout --quiet --detach \"$1\" --
";

/// Runs git for one job and one repository.
pub(super) struct Runner<'a> {
    pub(super) attendant: &'a mut Attendant,
    pub(super) confinement: &'a Confinement,
    pub(super) url: &'a str,
    /// What it goes by, which its words must not tell.
    pub(super) credential: Option<&'a Credential>,
    pub(super) started: Monotonic,
}

/// Where and as whom git runs.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    /// None is the worker's own user.
    pub(super) user: Option<RunAs>,
    pub(super) directory: &'a Path,
    pub(super) home: &'a Path,
    /// Its only file of settings.
    pub(super) configuration: &'a Path,
    /// How it calls ssh.
    pub(super) ssh: &'a str,
}

/// Why git did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The job was stopped, or the time is over.
    Stopped,
    /// The server wants to know who is asking, or does not take the answer.
    Access,
    /// The server has no such commit, branch or tag, or does not give it away.
    Revision,
    /// More than the worker takes.
    Size,
    /// Anything else.
    Other,
}

impl Cause {
    /// Whether a commit may be had with all branches and tags where it was not by its id.
    pub(super) fn is_worth_asking_for_everything(self) -> bool {
        matches!(self, Self::Revision | Self::Other)
    }
}

/// A refusal, in words for people.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) cause: Cause,
    pub(super) why: Failed,
}

impl From<airunner_core::Error> for Refusal {
    fn from(error: airunner_core::Error) -> Self {
        Self { cause: Cause::Other, why: error.into() }
    }
}

impl From<Failed> for Refusal {
    fn from(why: Failed) -> Self {
        Self { cause: Cause::Other, why }
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        refusal.why
    }
}

impl Runner<'_> {
    /// Runs git to its end, and returns what it answers.
    pub(super) async fn git(&mut self, place: &Place<'_>, args: &[&str]) -> Result<String, Refusal> {
        self.run(place, &[&["git"], args].concat()).await
    }

    /// Has the files of `commit` in this repository, if they are no more than the worker takes.
    pub(super) async fn check_out(&mut self, place: &Place<'_>, commit: &str) -> Result<(), Refusal> {
        let room = self.room();
        self.run(place, &["sh", "-c", CHECK_OUT, "sh", commit, &room]).await.map(drop)
    }

    /// Bytes that a pack and a checkout may have.
    pub(super) fn room(&self) -> String {
        self.attendant.shared.options.git.max_size.to_string()
    }

    async fn run(&mut self, place: &Place<'_>, command: &[&str]) -> Result<String, Refusal> {
        let mut process = self.start(self.spec(None, place, command)?).await?;
        let said = process.output().map(|output| tokio::spawn(listen(output)));
        let exit = self.attend(&process).await;
        let (answer, words) = match said {
            Some(said) => said.await.unwrap_or_default(),
            None => Default::default(),
        };
        self.judge(exit, &words)?;
        Ok(answer)
    }

    /// Starts a process of the job.
    pub(super) async fn start(&self, spec: Spec) -> Result<Process, Refusal> {
        Process::spawn(spec).await.map_err(|error| {
            let Failed(why) = self.confinement.explain(&error);
            Failed(format!("git can't be started to fetch the repository: {why}")).into()
        })
    }

    /// Attends to it until it ends or the time is over.
    pub(super) async fn attend(&mut self, process: &Process) -> Exit {
        let shared = Arc::clone(&self.attendant.shared);
        let left = LIMIT.saturating_sub(shared.clock.monotonic().since(self.started));
        self.attendant.attend(process, Some(left)).await
    }

    /// A process of the job; `part` tells it from another one that runs at the same time.
    pub(super) fn spec(
        &self,
        part: Option<&str>,
        place: &Place<'_>,
        command: &[&str],
    ) -> Result<Spec, Failed> {
        let shared = &self.attendant.shared;
        let id = &self.attendant.held.job_id;
        let id = part.map_or_else(|| id.clone(), |part| format!("{id}.{part}"));
        let id = JobId::new(id).map_err(|error| Failed(error.to_string()))?;
        let blocks = shared.options.git.max_size.div_ceil(512).max(1).to_string();
        let bounded = if command.get(1) == Some(&"fetch") { BOUNDED_FETCH } else { BOUNDED };
        let spec = Spec::new(id, "sh")
            .args(["-c", bounded, &blocks])
            .args(command)
            .env("PATH", &shared.options.path)
            .env("HOME", place.home)
            .env("LC_ALL", "C")
            .env("GIT_ALLOW_PROTOCOL", shared.options.git_protocols.join(":"))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_HTTP_LOW_SPEED_LIMIT", "1")
            .env("GIT_HTTP_LOW_SPEED_TIME", shared.options.git.silence.as_secs().max(1).to_string())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", place.configuration)
            .env("GIT_SSH_COMMAND", place.ssh)
            .directory(place.directory)
            .mark_dir(&shared.site.marks);
        self.confinement.confine_fetch(spec, &shared.site, place.user)
    }

    /// What the end of a process means.
    pub(super) fn judge(&mut self, exit: Exit, words: &str) -> Result<(), Refusal> {
        let refuse = |cause, why: String| Err(Refusal { cause, why: Failed(why) });
        match (self.attendant.stopped, exit) {
            (Some(Stopped::TimedOut), _) => {
                // It is the fetching that took too long, not the job.
                self.attendant.stopped = None;
                return refuse(
                    Cause::Stopped,
                    "the repository could not be fetched within ten minutes".to_owned(),
                );
            }
            (Some(_), _) => return refuse(Cause::Stopped, "the job was stopped".to_owned()),
            // A checkout that can't write a file says so, and ends as if it had.
            (None, Exit::Code(0)) if !words.contains("error: unable to ") => return Ok(()),
            (None, _) => {}
        }
        let words = words.replace(self.url, &shown(self.url));
        let words = self.credential.map_or_else(|| words.clone(), |credential| credential.redact(&words));
        let cause = match exit {
            Exit::Signal(SIGXFSZ) => Cause::Size,
            Exit::Code(code) if code == 128 + SIGXFSZ => Cause::Size,
            _ => cause(&words),
        };
        let advice = match (cause, self.credential) {
            (Cause::Size, _) => format!(
                "it brings more than the {} bytes that this worker takes of one (worker.git_max_size)",
                self.attendant.shared.options.git.max_size
            ),
            (Cause::Access, _) if is_about_host(&words) => {
                "its host has not shown a key that is known: put the right one into the file known_hosts that its \
                 credential names (worker.git_credentials), or into /etc/ssh/ssh_known_hosts"
                    .to_owned()
            }
            (Cause::Access, None) => {
                "it is not there for everybody, and this worker has no credential for it: have its operator give one \
                 (worker.git_credentials), or check the URL"
                    .to_owned()
            }
            (Cause::Access, Some(_)) => {
                "the credential that this worker has for it is refused: have its operator give another \
                 (worker.git_credentials)"
                    .to_owned()
            }
            _ => String::new(),
        };
        let space = if advice.is_empty() { "" } else { "; git said: " };
        let why = format!(
            "the repository {} could not be fetched: {advice}{space}{}",
            shown(self.url),
            words.trim()
        );
        refuse(cause, why)
    }
}

/// Git has no codes for it, so its words count; they are English, since it is told so.
fn cause(words: &str) -> Cause {
    let has = |all: &[&str]| all.iter().any(|some| words.contains(some));
    if has(&["File too large"]) {
        return Cause::Size;
    }
    let access = [
        "could not read Username",
        "could not read Password",
        "Authentication failed",
        "returned error: 401",
        "returned error: 403",
        "Permission denied",
        "terminal prompts disabled",
    ];
    if is_about_host(words) || has(&access) {
        return Cause::Access;
    }
    if has(&["couldn't find remote ref", "not our ref", "unadvertised object"]) {
        return Cause::Revision;
    }
    Cause::Other
}

fn is_about_host(words: &str) -> bool {
    words.contains("Host key verification failed")
}

/// Reads what git answers and says to its end; keeps the beginning of the one and the last of the other.
pub(super) async fn listen(mut output: airunner_exec::Output) -> (String, String) {
    let (mut answer, mut words) = (Vec::new(), Vec::new());
    while let Some(chunk) = output.next().await {
        match chunk.stream {
            Stream::Stderr => keep_last(&mut words, &chunk.bytes),
            Stream::Stdout => {
                let room = ANSWER.saturating_sub(answer.len()).min(chunk.bytes.len());
                answer.extend_from_slice(&chunk.bytes[..room]);
            }
        }
    }
    (String::from_utf8_lossy(&answer).into_owned(), String::from_utf8_lossy(&words).into_owned())
}

/// Adds to words, of which the last are kept.
pub(super) fn keep_last(words: &mut Vec<u8>, more: &[u8]) {
    words.extend_from_slice(more);
    let surplus = words.len().saturating_sub(WORDS);
    words.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_has_a_cause() {
        for (words, wanted) in [
            ("fatal: could not read Username for 'https://h': terminal prompts disabled", Cause::Access),
            ("fatal: Authentication failed for 'https://h/'", Cause::Access),
            ("git@h: Permission denied (publickey).", Cause::Access),
            ("Host key verification failed.", Cause::Access),
            ("fatal: couldn't find remote ref nope", Cause::Revision),
            ("error: Server does not allow request for unadvertised object 01", Cause::Revision),
            ("fatal: write error: File too large", Cause::Size),
            ("fatal: unable to access 'https://h/': Could not resolve host: h", Cause::Other),
        ] {
            assert_eq!(cause(words), wanted, "{words}");
        }
    }
}
