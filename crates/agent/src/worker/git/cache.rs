//! Bare repositories that are kept between jobs, one directory a URL. Knows directories, links and locks; must not run git.
//!
//! What is kept is a *generation*: a directory that nothing changes any more, named by the link `current`. Whoever fetches
//! makes a *draft*, which shares the packs of the generation that it begins with, and puts it in that one's place in one
//! step. So a fetch that is killed anywhere, and what of it still runs, leaves a draft that nobody looks into. Locks keep
//! what is in use from being removed, and end with the process that holds them; nothing else rests on them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use airunner_core::{Error, Label, Result, Timestamp};
use airunner_exec::RunAs;
use data_encoding::HEXLOWER;
use rustix::fs::{FlockOperation, OFlags, flock};

use crate::worker::options::{check_way, failed, make_directory};

/// How often one looks again for what was replaced while one looked.
const LOOKS: u32 = 16;
const CURRENT: &str = "current";
const GENERATION: &str = "g-";

/// Where repositories are kept.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    root: PathBuf,
    /// Who fetches; none is this process's own user.
    owner: Option<RunAs>,
    /// Bytes of all of them.
    bound: u64,
    /// How long one is kept that nobody uses.
    age: Duration,
}

/// What of a repository is kept, in directories of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The commits that were asked for, without their history.
    Tips,
    /// All branches and tags, for servers that give away no commit by its id.
    Whole,
}

impl Cache {
    /// Makes the directory, or looks at the one that is there. Blocks.
    ///
    /// # Errors
    /// One of another user, or that others write to; one that whoever fetches can't reach.
    pub(super) fn open(root: &Path, owner: Option<RunAs>, bound: u64, age: Duration) -> Result<Self> {
        let root = std::path::absolute(root).map_err(failed("find", root))?;
        match fs::symlink_metadata(&root) {
            Ok(meta) => {
                let is_own = meta.uid() == rustix::process::geteuid().as_raw();
                if !meta.is_dir() || !is_own || meta.mode() & 0o022 != 0 {
                    let message = format!(
                        "worker.git_cache: {} is no directory of this worker's user that nobody else writes to: name \
                         another, which need not be there",
                        root.display()
                    );
                    return Err(Error::new(Label::Config, message).with_field("worker.git_cache"));
                }
            }
            Err(_) => make_directory(&root, if owner.is_some() { 0o711 } else { 0o700 })?,
        }
        if let Some(owner) = owner {
            check_way(&root, owner, "worker.git_cache", "repositories are fetched")?;
        }
        Ok(Self { root, owner, bound, age })
    }

    /// Whether anything is kept.
    pub(super) fn keeps(&self) -> bool {
        self.bound > 0
    }

    /// Where this repository is kept.
    pub(super) fn entry(&self, url: &str, kind: Kind) -> Entry {
        let name = format!("{kind:?} {url}");
        let name = HEXLOWER.encode(&airunner_pki::sha256(name.as_bytes()));
        Entry { directory: self.root.join(name), owner: self.owner }
    }

    /// Removes what is too old, and then what was used longest ago until the rest fits; nothing that is in use. Blocks.
    pub(super) fn tidy(&self, now: Timestamp) {
        let now = system_time(now);
        let mut kept = Vec::new();
        for found in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = found.file_name();
            let is_entry = name.len() == 64 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
            if !is_entry {
                continue;
            }
            let entry = Entry { directory: found.path(), owner: self.owner };
            entry.clear_away();
            let used = fs::metadata(entry.directory.join("used")).and_then(|meta| meta.modified());
            kept.push((used.unwrap_or(SystemTime::UNIX_EPOCH), size(&entry.directory), entry));
        }
        kept.sort_by_key(|(used, ..)| *used);
        let mut total: u64 = kept.iter().map(|(_, size, _)| size).sum();
        for (used, size, entry) in kept {
            let is_old = now.duration_since(used).is_ok_and(|since| since > self.age);
            if (is_old || total > self.bound || !self.keeps()) && entry.remove() {
                total -= size;
            }
        }
    }
}

/// The directory of one repository.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    directory: PathBuf,
    owner: Option<RunAs>,
}

impl Entry {
    /// The turn to fetch, if nobody has it: it ends with this file, or with its process. Whoever doesn't get it may fetch
    /// all the same, and only does again what is being done.
    pub(super) fn turn(&self) -> io::Result<Option<File>> {
        self.make()?;
        let file = open_mark(&self.directory.join("turn"))?;
        Ok(lock(&file, FlockOperation::NonBlockingLockExclusive)?.then_some(file))
    }

    /// What is kept, if anything. It stays as long as this is held.
    pub(super) fn current(&self) -> io::Result<Option<Generation>> {
        for _look in 0..LOOKS {
            let Some(name) = self.current_name()? else { return Ok(None) };
            let path = self.directory.join(&name);
            let Ok(held) = open_directory(&path) else { continue };
            // Whoever has it alone removes it, or has just made it.
            let is_held = lock(&held, FlockOperation::NonBlockingLockShared)?;
            if is_held && is_at(&held, &path) && self.current_name()?.as_ref() == Some(&name) {
                return Ok(Some(Generation { path, _held: held }));
            }
        }
        Ok(None)
    }

    /// A directory to fetch into, with what `from` has. `name` is given to no other.
    pub(super) fn draft(&self, name: &str, from: Option<&Generation>) -> io::Result<Draft> {
        let path = self.directory.join(format!("{GENERATION}{name}"));
        for _look in 0..LOOKS {
            self.make()?;
            DirBuilder::new().mode(0o700).create(&path)?;
            let held = open_directory(&path)?;
            // Between the two steps somebody may have taken it for one that is left over.
            if lock(&held, FlockOperation::NonBlockingLockExclusive)? && is_at(&held, &path) {
                let draft = Draft { path, held: Some(held), entry: self.clone() };
                if let Some(from) = from {
                    share(&from.path, &draft.path, self.owner)?;
                }
                give(&draft.path, self.owner)?;
                return Ok(draft);
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Notes that it is used.
    pub(super) fn touch(&self, now: Timestamp) -> io::Result<()> {
        open_mark(&self.directory.join("used"))?.set_modified(system_time(now))
    }

    fn make(&self) -> io::Result<()> {
        let made = DirBuilder::new().mode(0o700).create(&self.directory);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Whoever fetches passes through. It can't be done with the directory, for the umask.
        let mode = if self.owner.is_some() { 0o711 } else { 0o700 };
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(mode))
    }

    fn current_name(&self) -> io::Result<Option<PathBuf>> {
        match fs::read_link(self.directory.join(CURRENT)) {
            Ok(name) => Ok(Some(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes generations that are no longer current, and drafts of those who are gone.
    fn clear_away(&self) {
        let Ok(current) = self.current_name() else { return };
        for found in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = found.file_name();
            let is_generation = name.as_encoded_bytes().starts_with(GENERATION.as_bytes());
            if is_generation && current.as_deref() != Some(Path::new(&name)) {
                remove_unused(&found.path());
            }
        }
    }

    /// Removes all of it, if nobody uses it.
    fn remove(&self) -> bool {
        // Whoever fetches into it has the turn, or a draft.
        let Ok(Some(_turn)) = self.turn() else { return false };
        let current = self.current_name().ok().flatten().map(|name| self.directory.join(name));
        let held = match current.as_deref().map(open_directory) {
            Some(Ok(held)) => match lock(&held, FlockOperation::NonBlockingLockExclusive) {
                Ok(true) => Some(held),
                _ => return false,
            },
            _ => None,
        };
        match fs::remove_file(self.directory.join(CURRENT)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => complain(&self.directory, &error),
            _ => {}
        }
        drop(held);
        self.clear_away();
        for name in ["used", "turn"] {
            let _gone = fs::remove_file(self.directory.join(name));
        }
        // With a draft in it, it stays.
        fs::remove_dir(&self.directory).is_ok()
    }
}

/// A repository that nothing changes any more, and that is there as long as this is.
#[derive(Debug)]
pub(super) struct Generation {
    path: PathBuf,
    /// Locked for all who read.
    _held: File,
}

impl Generation {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A repository that is being fetched into. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
    /// Locked for this one alone.
    held: Option<File>,
    entry: Entry,
}

impl Draft {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many packs there are.
    pub(super) fn packs(&self) -> usize {
        let packs = fs::read_dir(self.path.join("objects/pack")).into_iter().flatten().flatten();
        packs.filter(|found| found.path().extension().is_some_and(|end| end == "pack")).count()
    }

    /// Makes it what is kept, in one step; what was kept goes as soon as nobody uses it.
    pub(super) fn publish(mut self) -> io::Result<Generation> {
        let held = self.held.take().ok_or(io::ErrorKind::NotFound)?;
        let name = self.path.file_name().ok_or(io::ErrorKind::NotFound)?;
        let mut next = name.to_owned();
        next.push(".next");
        let next = self.entry.directory.join(next);
        let published =
            symlink(name, &next).and_then(|()| fs::rename(&next, self.entry.directory.join(CURRENT)));
        if let Err(error) = published {
            let _gone = fs::remove_file(&next);
            self.held = Some(held);
            return Err(error);
        }
        lock(&held, FlockOperation::NonBlockingLockShared)?;
        self.entry.clear_away();
        Ok(Generation { path: std::mem::take(&mut self.path), _held: held })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.held.is_some()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            complain(&self.path, &error);
        }
    }
}

/// Gives `to` what `from` has: what git never changes once it is written is shared, the rest copied. Links and what is left
/// of fetches stay behind.
fn share(from: &Path, to: &Path, owner: Option<RunAs>) -> io::Result<()> {
    for found in fs::read_dir(from)? {
        let found = found?;
        let (kind, name) = (found.file_type()?, found.file_name());
        let (source, target) = (found.path(), to.join(&name));
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b"tmp_") || bytes.ends_with(b".lock") || name == "FETCH_HEAD" {
            continue;
        }
        if kind.is_dir() {
            DirBuilder::new().mode(0o700).create(&target)?;
            share(&source, &target, owner)?;
            give(&target, owner)?;
        } else if kind.is_file() {
            let is_pack = bytes.starts_with(b"pack-") && from.ends_with("objects/pack");
            if is_pack && fs::hard_link(&source, &target).is_ok() {
                continue;
            }
            let flags = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
            let mut source = OpenOptions::new().read(true).custom_flags(flags).open(&source)?;
            let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&target)?;
            io::copy(&mut source, &mut copy)?;
            give(&target, owner)?;
        }
    }
    Ok(())
}

/// Only this process looks into where it is, yet.
fn give(path: &Path, owner: Option<RunAs>) -> io::Result<()> {
    owner.map_or(Ok(()), |owner| chown(path, Some(owner.uid), Some(owner.gid)))
}

fn open_mark(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

fn open_directory(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::DIRECTORY | OFlags::NOFOLLOW).bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Whether what is open is still what is there.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let (open, there) = (file.metadata().map(place), fs::symlink_metadata(path).map(place));
    matches!((open, there), (Ok(open), Ok(there)) if open == there)
}

fn lock(file: &File, how: FlockOperation) -> io::Result<bool> {
    match flock(file, how) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whoever uses one has it locked.
fn remove_unused(generation: &Path) {
    let Ok(held) = open_directory(generation) else { return };
    if lock(&held, FlockOperation::NonBlockingLockExclusive).unwrap_or(false)
        && let Err(error) = fs::remove_dir_all(generation)
        && error.kind() != io::ErrorKind::NotFound
    {
        complain(generation, &error);
    }
}

fn complain(place: &Path, error: &io::Error) {
    tracing::warn!(%error, place = %place.display(), "a kept repository can't be removed; the next job tries again");
}

/// Bytes of all files.
fn size(directory: &Path) -> u64 {
    let mut total = 0;
    for found in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(meta) = fs::symlink_metadata(found.path()) else { continue };
        total += if meta.is_dir() { size(&found.path()) } else { meta.len() };
    }
    total
}

fn system_time(time: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn cache(place: &Path, bound: u64) -> Cache {
        Cache::open(place, None, bound, Duration::from_hours(24)).unwrap()
    }

    /// Publishes a repository of one pack of so many bytes.
    fn keep(entry: &Entry, name: &str, bytes: usize, at: Timestamp) -> Generation {
        let draft = entry.draft(name, None).unwrap();
        fs::create_dir_all(draft.path().join("objects/pack")).unwrap();
        fs::write(draft.path().join("objects/pack/pack-1.pack"), vec![0; bytes]).unwrap();
        fs::write(draft.path().join("HEAD"), name).unwrap();
        let generation = draft.publish().unwrap();
        entry.touch(at).unwrap();
        generation
    }

    fn head(entry: &Entry) -> Option<String> {
        let current = entry.current().unwrap()?;
        Some(fs::read_to_string(current.path().join("HEAD")).unwrap())
    }

    fn generations(entry: &Entry) -> usize {
        let found = fs::read_dir(&entry.directory).into_iter().flatten().flatten();
        found.filter(|found| found.file_name().as_encoded_bytes().starts_with(b"g-")).count()
    }

    #[test]
    fn a_draft_changes_nothing_until_it_is_published_and_what_it_replaces_stays_while_it_is_read() {
        let place = tempfile::tempdir().unwrap();
        let entry = cache(place.path(), 1 << 20).entry("https://a/b", Kind::Tips);
        assert!(entry.current().unwrap().is_none());
        let first = keep(&entry, "1", 10, NOW);
        let draft = entry.draft("2", Some(&first)).unwrap();
        assert_eq!(draft.packs(), 1);
        let inode = |path: &Path| fs::metadata(path.join("objects/pack/pack-1.pack")).unwrap().ino();
        assert_eq!(inode(draft.path()), inode(first.path()), "a pack is shared");
        fs::write(draft.path().join("HEAD"), "2").unwrap();
        assert_eq!(head(&entry).unwrap(), "1");
        let second = draft.publish().unwrap();
        assert_eq!(head(&entry).unwrap(), "2");
        assert_eq!(fs::read_to_string(first.path().join("HEAD")).unwrap(), "1");
        drop(first);
        entry.clear_away();
        assert_eq!(generations(&entry), 1);
        drop(second);
    }

    #[test]
    fn a_draft_that_fails_or_whose_worker_dies_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let entry = cache(place.path(), 1 << 20).entry("https://a/b", Kind::Tips);
        drop(entry.draft("1", None).unwrap());
        assert_eq!(generations(&entry), 0);
        let mut killed = entry.draft("2", None).unwrap();
        entry.clear_away();
        assert_eq!(generations(&entry), 1, "it is in use");
        // As the end of a process does.
        drop(killed.held.take());
        entry.clear_away();
        assert_eq!(generations(&entry), 0);
    }

    #[test]
    fn one_fetches_at_a_time_and_each_kind_and_url_has_a_place_of_its_own() {
        let place = tempfile::tempdir().unwrap();
        let cache = cache(place.path(), 1 << 20);
        let entry = cache.entry("https://a/b", Kind::Tips);
        let turn = entry.turn().unwrap().unwrap();
        assert!(entry.turn().unwrap().is_none());
        assert!(cache.entry("https://a/b", Kind::Whole).turn().unwrap().is_some());
        assert!(cache.entry("https://a/c", Kind::Tips).turn().unwrap().is_some());
        drop(turn);
        assert!(entry.turn().unwrap().is_some());
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_nothing_that_is_in_use() {
        let place = tempfile::tempdir().unwrap();
        let cache = cache(place.path(), 2_500);
        let entries: Vec<Entry> =
            (0..4).map(|n| cache.entry(&format!("https://a/{n}"), Kind::Tips)).collect();
        let mut held = None;
        for (number, entry) in entries.iter().enumerate() {
            let seconds = Duration::from_secs(u64::try_from(number).unwrap());
            let generation = keep(entry, "1", 1_000, NOW.plus(seconds));
            if number == 1 {
                held = Some(generation);
            }
        }
        // One is made younger by its use.
        entries[0].touch(NOW.plus(Duration::from_secs(10))).unwrap();
        cache.tidy(NOW.plus(Duration::from_secs(11)));
        let there: Vec<bool> = entries.iter().map(|entry| head(entry).is_some()).collect();
        assert_eq!(there, [true, true, false, false]);
        assert!(!entries[2].directory.exists());
        drop(held);
        cache.tidy(NOW.plus(Duration::from_hours(25)));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "all of them are too old");
    }

    #[test]
    fn a_directory_that_others_write_is_refused() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let error = Cache::open(place.path(), None, 1, Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.field(), Some("worker.git_cache"));
        assert_eq!(fs::metadata(place.path()).unwrap().mode() & 0o777, 0o777, "and left as it is");
    }
}
