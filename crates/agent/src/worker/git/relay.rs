//! Fetches as a user whom no job can be, into a repository that no job reaches, and hands what the job asked for to the
//! job's own git, as a pack in a pipe. Whoever asks for what is kept already asks the server all the same: it is the server
//! that says whether this job may have this commit (docs/adr/0019).

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use airunner_exec::{Completion, Exit, Input, Job as Process, Stdin, Stream};
use data_encoding::HEXLOWER;
use tokio::task::spawn_blocking;

use crate::worker::{task::Failed, workspace::Workspace};

use super::{
    Apart, CHECKOUT,
    cache::{Draft, Entry, Generation, Kind},
    credentials::plain_ssh,
    is_commit,
    run::{CHECK_OUT, Cause, Place, Refusal, Runner, keep_last, listen},
};

/// How long one waits for another job that fetches the same; then both do.
const TURN: Duration = Duration::from_mins(1);
/// How often it is looked whether the other one is done: it may be another process.
const LOOK: Duration = Duration::from_millis(50);
/// How long what gives the pack may take to end after what took it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Packs that a kept repository has before they are made one: each fetch that brings something adds one.
const PACKS: usize = 24;

/// What git is to know while it fetches, in the home that its user has for this once.
///
/// Objects are checked, but for old sins of form that do no harm. Nothing goes on behind our back. Who is asking is said by
/// the file `.git-credentials` alone, and only to the very path that was asked for.
const CONFIGURATION: &str = "\
[core]
\thooksPath = /dev/null
\tlogAllRefUpdates = false
\tfsmonitor = false
[init]
\tdefaultBranch = main
[gc]
\tauto = 0
[maintenance]
\tauto = false
[fetch]
\tunpackLimit = 1
\tfsckObjects = true
\twriteCommitGraph = false
[fetch \"fsck\"]
\tbadDate = ignore
\tbadTimezone = ignore
\tmissingEmail = ignore
\tmissingNameBeforeEmail = ignore
\tmissingSpaceBeforeDate = ignore
\tmissingSpaceBeforeEmail = ignore
\tzeroPaddedDate = ignore
\tzeroPaddedFilemode = ignore
[credential]
\thelper = store
\tuseHttpPath = true
[ssh]
\tvariant = ssh
";

/// What the job's git does before it has the files: a new repository, the pack out of standard input.
const TAKE: &str = "\
set -e
rm -rf -- \"$1\"
git init --quiet --template= -- \"$1\"
cd \"$1\"
printf '%s\\n' \"$2\" >.git/shallow
git index-pack --stdin >/dev/null
shift
";

/// Fetches, and returns where the checkout is.
pub(super) async fn fetch(
    runner: Runner<'_>,
    workspace: &Workspace,
    apart: &Apart,
    revision: &str,
) -> Result<PathBuf, Failed> {
    let name = format!("{}-{}", runner.attendant.held.job_id, runner.attendant.held.attempt);
    let private = Workspace::make(&apart.homes, name.clone(), apart.user).await?;
    let relay = Relay { runner, workspace, apart, revision, private: &private, name };
    let fetched = relay.run().await;
    private.remove().await;
    Ok(fetched?)
}

struct Relay<'a> {
    runner: Runner<'a>,
    workspace: &'a Workspace,
    apart: &'a Apart,
    revision: &'a str,
    /// The home of git while it fetches.
    private: &'a Workspace,
    /// Of this attempt and no other.
    name: String,
}

/// What a fetch came to.
struct Fetched {
    repository: Repository,
    commit: String,
}

/// Where it is: kept, or to go with the job.
enum Repository {
    Kept(Generation),
    Passing(Draft),
}

impl Repository {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(generation) => generation.path(),
            Self::Passing(draft) => draft.path(),
        }
    }
}

impl Relay<'_> {
    async fn run(mut self) -> Result<PathBuf, Refusal> {
        let configuration = self.private.write("gitconfig", CONFIGURATION).await?;
        let ssh = match self.runner.credential {
            Some(credential) => credential.equip(self.private, self.runner.url).await?,
            None => plain_ssh(),
        };
        let fetched = match self.bring(&configuration, &ssh, Kind::Tips).await {
            Err(refusal) if refusal.cause.is_worth_asking_for_everything() && is_commit(self.revision) => {
                self.bring(&configuration, &ssh, Kind::Whole).await
            }
            other => other,
        };
        let (cache, now) = (self.apart.cache.clone(), self.runner.attendant.shared.clock.now());
        // What it is about is told in the log.
        let _over = spawn_blocking(move || cache.tidy(now)).await;
        fetched
    }

    /// Fetches and hands over, beginning with what is kept. If that does not work all of it is fetched, and takes its place
    /// once it has come: a job that fails for a reason of its own costs the others nothing.
    async fn bring(&mut self, configuration: &Path, ssh: &str, kind: Kind) -> Result<PathBuf, Refusal> {
        let entry = self.apart.cache.entry(self.runner.url, kind);
        let was_kept = self.apart.cache.keeps() && current(&entry).await.is_some();
        match self.attempt(configuration, ssh, kind, &entry, true).await {
            Err(refusal) if was_kept && refusal.cause == Cause::Other => {
                let Failed(why) = &refusal.why;
                tracing::warn!(why, "what is kept of a repository does not work, and is fetched anew");
                self.attempt(configuration, ssh, kind, &entry, false).await
            }
            other => other,
        }
    }

    async fn attempt(
        &mut self,
        configuration: &Path,
        ssh: &str,
        kind: Kind,
        entry: &Entry,
        first: bool,
    ) -> Result<PathBuf, Refusal> {
        let turn = self.turn(entry).await?;
        let from = if first && self.apart.cache.keeps() { current(entry).await } else { None };
        let is_new = from.is_none();
        let name = format!("{}.{}{}", self.name, kind.letter(), if first { 1 } else { 2 });
        let place = entry.clone();
        let draft = blocking(move || place.draft(&name, from.as_ref())).await?;
        let directory = draft.path().to_owned();
        let place = Place {
            user: self.apart.user,
            directory: &directory,
            home: self.private.path(),
            configuration,
            ssh,
        };
        if is_new {
            self.runner.git(&place, &["init", "--quiet", "--bare", "--template=", "."]).await?;
        }
        let commit = self.fetch(&place, kind).await?;
        if draft.packs() > PACKS {
            self.runner.git(&place, &["repack", "-a", "-d", "-q"]).await?;
        }
        let repository = self.keep(entry, draft).await?;
        drop(turn);
        let fetched = Fetched { repository, commit };
        self.hand_over(&place, &fetched).await
    }

    /// Waits until nobody else fetches the same, but not for ever: a server that hangs for one hangs for all.
    async fn turn(&mut self, entry: &Entry) -> Result<Option<std::fs::File>, Refusal> {
        if !self.apart.cache.keeps() {
            return Ok(None);
        }
        let clock = Arc::clone(&self.runner.attendant.shared.clock);
        let since = clock.monotonic();
        let waiting = async {
            loop {
                let entry = entry.clone();
                let turn = blocking(move || entry.turn()).await?;
                if turn.is_some() || clock.monotonic().since(since) >= TURN {
                    return Ok(turn);
                }
                clock.sleep(LOOK).await;
            }
        };
        let stopped = || Refusal { cause: Cause::Stopped, why: Failed("the job was stopped".to_owned()) };
        self.runner.attendant.before(waiting).await.ok_or_else(stopped)?
    }

    /// Asks the server for the revision, and returns the commit that it is. What is there already is not sent again, but
    /// asked for: with a depth git always does, and the server says no where it would say so to somebody who has nothing.
    async fn fetch(&mut self, place: &Place<'_>, kind: Kind) -> Result<String, Refusal> {
        let fetch = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"];
        let url = self.runner.url;
        match kind {
            Kind::Tips => {
                let revision = if self.revision.is_empty() { "HEAD" } else { self.revision };
                let name = HEXLOWER.encode(&airunner_pki::sha256(revision.as_bytes())[..16]);
                let kept = format!("refs/airunner/{name}");
                let what = format!("+{revision}:{kept}");
                self.runner.git(place, &[&fetch[..], &["--depth=1", "--", url, &what]].concat()).await?;
                self.commit(place, &kept).await
            }
            Kind::Whole => {
                let all = ["--prune", "--", url, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
                self.runner.git(place, &[&fetch[..], &all].concat()).await?;
                let commit = self.commit(place, self.revision).await?;
                // What the server had once and no longer shows is not this job's to have.
                let holding = ["for-each-ref", "--count=1", "--contains", &commit, "refs/heads", "refs/tags"];
                if self.runner.git(place, &holding).await?.is_empty() {
                    let why = format!("no branch and no tag of the repository holds {}", self.revision);
                    return Err(Refusal { cause: Cause::Revision, why: Failed(why) });
                }
                Ok(commit)
            }
        }
    }

    async fn commit(&mut self, place: &Place<'_>, name: &str) -> Result<String, Refusal> {
        let name = format!("{name}^{{commit}}");
        let answer =
            self.runner.git(place, &["rev-parse", "--verify", "--quiet", "--end-of-options", &name]).await;
        match answer {
            Ok(answer) if is_commit(answer.trim()) => Ok(answer.trim().to_owned()),
            Err(refusal) if refusal.cause == Cause::Stopped => Err(refusal),
            _ => {
                let why = format!("the repository could not be fetched: it has no commit {}", self.revision);
                Err(Refusal { cause: Cause::Revision, why: Failed(why) })
            }
        }
    }

    /// Keeps it for the next job, where anything is kept.
    async fn keep(&self, entry: &Entry, draft: Draft) -> Result<Repository, Refusal> {
        if !self.apart.cache.keeps() {
            return Ok(Repository::Passing(draft));
        }
        let (entry, now) = (entry.clone(), self.runner.attendant.shared.clock.now());
        let kept = blocking(move || {
            let generation = draft.publish()?;
            entry.touch(now)?;
            Ok(generation)
        })
        .await?;
        Ok(Repository::Kept(kept))
    }

    /// Has the job's git take what it asked for, and nothing else. Each object is named by its content once more there.
    async fn hand_over(&mut self, place: &Place<'_>, fetched: &Fetched) -> Result<PathBuf, Refusal> {
        let Fetched { repository, commit } = fetched;
        let directory = repository.path();
        let place = Place { directory, ..place.clone() };
        let give = ["git", "pack-objects", "--revs", "--shallow", "--stdout", "--quiet", "--window=0"];
        let giver = self.runner.spec(Some("pack"), &place, &give)?.stdin(Stdin::Piped);
        let taker = Place {
            user: self.runner.attendant.shared.site.user,
            directory: self.workspace.path(),
            home: self.workspace.path(),
            configuration: Path::new("/dev/null"),
            ssh: "false",
        };
        let (take, room) = ([TAKE, CHECK_OUT].concat(), self.runner.room());
        let take = ["sh", "-c", &take, "sh", CHECKOUT, commit, &room];
        let taker = self.runner.spec(None, &taker, &take)?.stdin(Stdin::Piped);
        let giver = self.runner.start(giver).await?;
        let mut taker = self.runner.start(taker).await?;
        let Some(input) = taker.input() else { return Err(Failed("git has no input".to_owned()).into()) };
        let said = taker.output().map(|output| tokio::spawn(listen(output)));
        let order = format!("--shallow {commit}\n{commit}\n");
        let mut giving = tokio::spawn(pass(giver, input, order));
        let exit = self.runner.attend(&taker).await;
        // What still gives has nobody to give to, and is killed as it is dropped.
        let given = tokio::select! {
            biased;
            given = &mut giving => given.ok().flatten(),
            () = self.runner.attendant.shared.clock.sleep(FAREWELL) => {
                giving.abort();
                None
            }
        };
        let (_, mut words) = match said {
            Some(said) => said.await.unwrap_or_default(),
            None => Default::default(),
        };
        if let Some((giver, completion, more)) = given {
            self.runner.attendant.used.add(&giver, &completion);
            if completion.exit != Exit::Code(0) {
                words = format!("{more}\n{words}");
            }
        }
        self.runner.judge(exit, &words)?;
        Ok(self.workspace.path().join(CHECKOUT))
    }
}

impl Kind {
    fn letter(self) -> char {
        match self {
            Self::Tips => 't',
            Self::Whole => 'w',
        }
    }
}

/// Takes what one process prints to another's input, and returns the first with how it ended and what it said.
async fn pass(mut giver: Process, mut input: Input, order: String) -> Option<(Process, Completion, String)> {
    let mut output = giver.output()?;
    let mut orders = giver.input()?;
    orders.write(order.as_bytes()).await.ok()?;
    drop(orders);
    let mut words = Vec::new();
    while let Some(chunk) = output.next().await {
        match chunk.stream {
            Stream::Stdout => input.write(&chunk.bytes).await.ok()?,
            Stream::Stderr => keep_last(&mut words, &chunk.bytes),
        }
    }
    let completion = giver.wait().await;
    Some((giver, completion, String::from_utf8_lossy(&words).into_owned()))
}

async fn current(entry: &Entry) -> Option<Generation> {
    let entry = entry.clone();
    let found = blocking(move || entry.current()).await;
    found.unwrap_or_else(|Refusal { why: Failed(why), .. }| {
        tracing::warn!(why, "what is kept of a repository can't be read, and is fetched anew");
        None
    })
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let done = spawn_blocking(act).await.map_err(io::Error::other).and_then(|done| done);
    done.map_err(|error| {
        Failed(format!("the worker's directory of repositories can't be used: {error}")).into()
    })
}
