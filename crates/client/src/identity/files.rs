//! An identity's folder: `identity/SERIAL/{key,cert,ca,bundle}.pem`, the symbolic link `current`, and the key that waits
//! for its certificate. Readers see the old identity or the new one, never a mixture, and a crash at any point is mended
//! by doing the same again.
//!
//! A folder may also hold the four files directly, as bootstrap makes them; the first renewal turns them into links.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use airunner_core::{Clock, EnrollmentId, Error, KeyAlgorithm, Label, Result, Secret, Serial};
use airunner_pki::{IssuerCertificate, PrivateKey, certificate_to_pem};
use rustix::fs::{FlockOperation, flock};
use tokio::task::spawn_blocking;

use super::{LoadedIdentity, disk};

const CURRENT: &str = "current";
const GENERATIONS: &str = "identity";
const KEY: &str = "key.pem";
const CERTIFICATE: &str = "cert.pem";
const ROOTS: &str = "ca.pem";
const BUNDLE: &str = "bundle.pem";
const NAMES: [&str; 4] = [KEY, CERTIFICATE, ROOTS, BUNDLE];

/// How often the lock is tried, and how long.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
const LOCK_TRIES: u32 = 2_400;

/// The folder of an identity. Its methods read and write files where they are called.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    folder: PathBuf,
    passphrase: Option<Secret>,
    #[cfg(test)]
    crash_at: Option<Step>,
}

/// Which identity a folder holds, for noticing that it was exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityVersion {
    target: Option<PathBuf>,
    file: (u64, u64, i64, i64),
}

/// The points between which a crash may fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Adopted,
    Written,
    Switched,
    Cleared,
}

/// For what a key waits. A retry of the same asks with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PendingKey {
    /// The redemption of this token.
    Enrollment(EnrollmentId),
    /// The renewal of this certificate.
    Renewal(Serial),
}

/// A certificate that was just issued.
#[derive(Debug)]
pub(crate) struct Issued<'a> {
    pub(crate) key: &'a PrivateKey,
    pub(crate) certificate_pem: &'a str,
    pub(crate) chain_pem: &'a str,
    pub(crate) roots_pem: &'a str,
}

/// The folder's lock: one process at a time exchanges the identity. It is let go when this is dropped.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl IdentityFiles {
    /// The identity in `folder`: its `current`, or the four files themselves.
    ///
    /// # Errors
    /// `file` when there is none.
    pub fn open(folder: &Path, passphrase: Option<Secret>) -> Result<Self> {
        let files = Self::at(folder, passphrase);
        let certificate = files.directory()?.join(CERTIFICATE);
        if certificate.exists() {
            return Ok(files);
        }
        Err(Error::new(
            Label::File,
            format!("there is no identity in {}: enrol with a token from an admin", folder.display()),
        ))
    }

    /// The folder, whether there is an identity in it or not.
    pub(crate) fn at(folder: &Path, passphrase: Option<Secret>) -> Self {
        Self {
            folder: folder.to_owned(),
            passphrase,
            #[cfg(test)]
            crash_at: None,
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads the identity.
    ///
    /// # Errors
    /// `file`, naming the file: missing, unreadable, malformed, a key that others may read, a wrong passphrase.
    pub fn load(&self) -> Result<LoadedIdentity> {
        let directory = self.directory()?;
        let key = directory.join(KEY);
        let key_pem = disk::read_private(&key)?;
        let certificate = directory.join(CERTIFICATE);
        let chain = fs::read(&certificate).map_err(disk::failed("read", &certificate))?;
        let roots = match fs::read(directory.join(ROOTS)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(disk::failed("read", &directory.join(ROOTS)))?,
        };
        LoadedIdentity::from_pem(&chain, key_pem.expose(), self.passphrase.as_ref(), &roots)
            .map_err(|error| disk::at(error, &directory))
    }

    /// Which identity is there now; changes when it is exchanged. Costs two system calls.
    ///
    /// # Errors
    /// `file` when there is none.
    pub fn version(&self) -> Result<IdentityVersion> {
        let directory = self.directory()?;
        let certificate = directory.join(CERTIFICATE);
        let metadata = fs::metadata(&certificate).map_err(disk::failed("read", &certificate))?;
        let file = (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec());
        Ok(IdentityVersion { target: (directory != self.folder).then_some(directory), file })
    }

    /// Waits for the folder's lock, and makes the folder if it is missing.
    ///
    /// # Errors
    /// `file` when it can't be made; `unreachable` when another process holds the lock for two minutes.
    pub(crate) async fn lock(&self, clock: &dyn Clock) -> Result<FolderLock> {
        let path = self.folder.join(".lock");
        let (folder, place) = (self.folder.clone(), path.clone());
        let opened = spawn_blocking(move || {
            disk::make_directory(&folder)?;
            let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&place);
            opened.map_err(disk::failed("open", &place))
        });
        let file = opened.await.map_err(Error::internal)??;
        for _ in 0..LOCK_TRIES {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(FolderLock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) => clock.sleep(LOCK_PAUSE).await,
                Err(error) => return Err(disk::failed("lock", &path)(error.into())),
            }
        }
        Err(Error::new(
            Label::Unreachable,
            format!("another process holds {} since two minutes: look what it does", path.display()),
        ))
    }

    /// The key that waits for this, made and on the disk if it was not there.
    ///
    /// # Errors
    /// `file`; also where a key waits that this passphrase does not open.
    pub(crate) fn pending_key(
        &self,
        _lock: &FolderLock,
        pending: PendingKey,
        algorithm: KeyAlgorithm,
    ) -> Result<PrivateKey> {
        let path = self.folder.join(pending.file_name());
        if path.exists() {
            let pem = disk::read_private(&path)?;
            return PrivateKey::from_pem(pem.expose(), self.passphrase.as_ref()).map_err(|error| {
                let advice = "it waits for the certificate that was asked for before: use its passphrase, or remove it";
                Error::new(Label::File, format!("{}: {error}; {advice}", path.display())).with_cause(error)
            });
        }
        let key = PrivateKey::generate(algorithm)?;
        disk::write(&path, key.to_pem(self.passphrase.as_ref())?.expose(), 0o600)?;
        Ok(key)
    }

    /// Makes a new certificate the current identity, and forgets what came before its predecessor.
    ///
    /// # Errors
    /// `file`; then the old identity is still whole, or the new one already is, and the same call finishes it.
    pub(crate) fn install(&self, _lock: &FolderLock, issued: &Issued<'_>) -> Result<LoadedIdentity> {
        let key_pem = issued.key.to_pem(self.passphrase.as_ref())?;
        let chain_pem = joined(&[issued.certificate_pem, issued.chain_pem]);
        let identity = LoadedIdentity::from_pem(
            chain_pem.as_bytes(),
            key_pem.expose(),
            self.passphrase.as_ref(),
            issued.roots_pem.as_bytes(),
        )?;
        self.adopt()?;
        self.step(Step::Adopted)?;
        let previous = self.link_target();
        let generation = self.write_generation(&identity, &key_pem, &chain_pem)?;
        self.step(Step::Written)?;
        disk::link(&self.folder.join(CURRENT), &generation)?;
        self.step(Step::Switched)?;
        self.clear_pending()?;
        self.step(Step::Cleared)?;
        self.prune(&generation, previous.as_deref())?;
        Ok(identity)
    }

    /// Where the identity's files are: the directory that `current` names, or the folder itself. Files that stand in the
    /// folder directly were put there after `current`, which turns them into links.
    fn directory(&self) -> Result<PathBuf> {
        match self.link_target() {
            Some(target) if !self.holds_files() => {
                let directory = self.folder.join(&target);
                if directory.is_dir() {
                    return Ok(directory);
                }
                let (link, target) = (self.folder.join(CURRENT), target.display());
                Err(Error::new(Label::File, format!("{} points at {target}, which is gone", link.display())))
            }
            _ => Ok(self.folder.clone()),
        }
    }

    fn link_target(&self) -> Option<PathBuf> {
        fs::read_link(self.folder.join(CURRENT)).ok()
    }

    /// Whether certificate and key stand in the folder themselves.
    fn holds_files(&self) -> bool {
        let is_file = |name| fs::symlink_metadata(self.folder.join(name)).is_ok_and(|file| file.is_file());
        is_file(KEY) && is_file(CERTIFICATE)
    }

    /// Turns files that stand in the folder directly into a generation, and their names into links: from then on
    /// whoever reads them by their old names follows the exchange too.
    fn adopt(&self) -> Result<()> {
        if self.holds_files() {
            let identity = self.load()?;
            let read = |name| {
                let path = self.folder.join(name);
                fs::read_to_string(&path).map_err(disk::failed("read", &path))
            };
            let key_pem = disk::read_private(&self.folder.join(KEY))?;
            let generation = self.write_generation(&identity, &key_pem, &read(CERTIFICATE)?)?;
            disk::link(&self.folder.join(CURRENT), &generation)?;
        }
        for name in NAMES {
            let path = self.folder.join(name);
            if fs::symlink_metadata(&path).is_ok_and(|file| file.is_file()) {
                disk::link(&path, &Path::new(CURRENT).join(name))?;
            }
        }
        Ok(())
    }

    /// Writes a generation, and returns its path below the folder. One that is there is whole: it got its name last.
    fn write_generation(
        &self,
        identity: &LoadedIdentity,
        key_pem: &Secret,
        chain_pem: &str,
    ) -> Result<PathBuf> {
        let generation = Path::new(GENERATIONS).join(identity.serial().to_string());
        let place = self.folder.join(&generation);
        if place.is_dir() {
            return Ok(generation);
        }
        let generations = self.folder.join(GENERATIONS);
        disk::make_directory(&generations)?;
        let draft = generations.join(format!(".{}.draft", identity.serial()));
        match fs::remove_dir_all(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(disk::failed("remove", &draft)(error));
            }
            _ => disk::make_directory(&draft)?,
        }
        let roots_pem: String = identity.roots().iter().map(|root| certificate_to_pem(root)).collect();
        let chain = identity.chain().iter().filter(|der| !is_root(der)).map(|der| certificate_to_pem(der));
        let bundle_pem: String = chain.chain([roots_pem.clone()]).collect();
        disk::write(&draft.join(KEY), key_pem.expose(), 0o600)?;
        disk::write(&draft.join(CERTIFICATE), chain_pem.as_bytes(), 0o644)?;
        disk::write(&draft.join(ROOTS), roots_pem.as_bytes(), 0o644)?;
        disk::write(&draft.join(BUNDLE), bundle_pem.as_bytes(), 0o644)?;
        fs::rename(&draft, &place).map_err(disk::failed("write", &place))?;
        disk::sync(&generations)?;
        Ok(generation)
    }

    /// Removes every key that waits: those of earlier certificates can't be asked for any more.
    fn clear_pending(&self) -> Result<()> {
        let entries = fs::read_dir(&self.folder).map_err(disk::failed("read", &self.folder))?;
        for entry in entries {
            let entry = entry.map_err(disk::failed("read", &self.folder))?;
            if entry.file_name().to_string_lossy().starts_with(PENDING) {
                disk::remove(&entry.path())?;
            }
        }
        disk::sync(&self.folder)
    }

    /// Keeps the current generation and one more: its predecessor, or the newest where that is not known any more.
    fn prune(&self, current: &Path, previous: Option<&Path>) -> Result<()> {
        let generations = self.folder.join(GENERATIONS);
        let entries = fs::read_dir(&generations).map_err(disk::failed("read", &generations))?;
        let mut others: Vec<_> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
            .filter(|name| current.file_name() != Some(name))
            .collect();
        let previous = previous.and_then(Path::file_name);
        // Our serial numbers begin with the time, so the last is the newest.
        others.sort_by_key(|name| (Some(name.as_os_str()) == previous, name.clone()));
        others.pop();
        for name in others {
            let path = generations.join(name);
            fs::remove_dir_all(&path).map_err(disk::failed("remove", &path))?;
        }
        Ok(())
    }

    #[cfg(test)]
    fn step(&self, step: Step) -> Result<()> {
        if self.crash_at == Some(step) {
            return Err(Error::new(Label::File, "crashed"));
        }
        Ok(())
    }

    #[cfg(not(test))]
    #[expect(clippy::unnecessary_wraps, reason = "it fails in tests")]
    fn step(&self, _step: Step) -> Result<()> {
        Ok(())
    }
}

const PENDING: &str = "pending-";

impl PendingKey {
    fn file_name(self) -> String {
        match self {
            Self::Enrollment(id) => format!("{PENDING}enroll-{id}.pem"),
            Self::Renewal(serial) => format!("{PENDING}renew-{serial}.pem"),
        }
    }
}

fn is_root(der: &[u8]) -> bool {
    IssuerCertificate::parse(der).is_ok_and(|ca| ca.is_self_signed())
}

fn joined(pems: &[&str]) -> String {
    let texts = pems.iter().map(|pem| pem.trim_end()).filter(|pem| !pem.is_empty());
    texts.flat_map(|pem| [pem, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use airunner_core::PrincipalType;
    use airunner_net::system::SystemClock;
    use airunner_testkit::{TestCa, TestLeaf};
    use tempfile::TempDir;

    use super::*;

    /// A folder, and a CA whose leaves come into it.
    struct Bed {
        folder: TempDir,
        ca: TestCa,
    }

    impl Bed {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), ca: TestCa::new() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn files(&self) -> IdentityFiles {
            IdentityFiles::at(self.folder.path(), None)
        }

        fn leaf(&self) -> TestLeaf {
            self.ca.client(PrincipalType::Worker, "w")
        }

        async fn install(&self, files: &IdentityFiles, leaf: &TestLeaf) -> Result<LoadedIdentity> {
            let (chain, roots) = (leaf.chain_pem(), self.ca.root_pem());
            let issued =
                Issued { key: leaf.key(), certificate_pem: &chain, chain_pem: "", roots_pem: &roots };
            files.install(&files.lock(&SystemClock).await?, &issued)
        }

        /// The four files in the folder itself, as bootstrap makes them.
        fn bootstrap(&self, leaf: &TestLeaf) {
            let roots = self.ca.root_pem();
            let contents = [leaf.key_pem(), leaf.chain_pem(), roots.clone(), leaf.chain_pem() + &roots];
            for (name, content) in NAMES.iter().zip(contents) {
                disk::write(&self.path(name), content.as_bytes(), 0o600).unwrap();
            }
        }

        fn generations(&self) -> Vec<String> {
            let entries = fs::read_dir(self.path(GENERATIONS)).unwrap();
            let mut names: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }

        fn pending(&self) -> Vec<String> {
            let entries = fs::read_dir(self.folder.path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.starts_with(PENDING)).collect()
        }
    }

    #[tokio::test]
    async fn an_identity_that_was_installed_is_read_back_whole() {
        let bed = Bed::new();
        let leaf = bed.leaf();
        let installed = bed.install(&bed.files(), &leaf).await.unwrap();
        let read = IdentityFiles::open(bed.folder.path(), None).unwrap().load().unwrap();
        assert_eq!(read.serial(), leaf.certificate().serial());
        assert_eq!((read.chain(), read.roots()), (installed.chain(), installed.roots()));
        assert_eq!(read.roots(), [bed.ca.root().der()]);
        let mode = fs::metadata(bed.path("current/key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let bundle = fs::read(bed.path("current/bundle.pem")).unwrap();
        let of_bundle = LoadedIdentity::from_bundle(&bundle, leaf.key_pem().as_bytes(), None).unwrap();
        assert_eq!((of_bundle.chain(), of_bundle.roots()), (read.chain(), read.roots()));
    }

    #[tokio::test]
    async fn the_last_two_generations_stay() {
        let bed = Bed::new();
        let mut serials = Vec::new();
        for _ in 0..4 {
            let leaf = bed.leaf();
            bed.install(&bed.files(), &leaf).await.unwrap();
            serials.push(leaf.certificate().serial().to_string());
        }
        assert_eq!(bed.generations(), serials[2..]);
    }

    #[tokio::test]
    async fn a_crash_at_any_point_leaves_the_old_identity_or_the_new_and_doing_it_again_finishes() {
        for step in [Step::Adopted, Step::Written, Step::Switched, Step::Cleared] {
            for direct in [false, true] {
                let bed = Bed::new();
                let (old, new) = (bed.leaf(), bed.leaf());
                if direct {
                    bed.bootstrap(&old);
                } else {
                    bed.install(&bed.files(), &old).await.unwrap();
                }
                let lock = bed.files().lock(&SystemClock).await.unwrap();
                let pending = PendingKey::Renewal(old.certificate().serial());
                bed.files().pending_key(&lock, pending, KeyAlgorithm::EcdsaP256).unwrap();
                drop(lock);

                let crashing = IdentityFiles { crash_at: Some(step), ..bed.files() };
                bed.install(&crashing, &new).await.unwrap_err();
                let found = bed.files().load().unwrap().serial();
                let switched = matches!(step, Step::Switched | Step::Cleared);
                let expected = if switched { &new } else { &old };
                assert_eq!(found, expected.certificate().serial(), "{step:?}");
                assert_eq!(bed.pending().is_empty(), step == Step::Cleared, "{step:?}");

                bed.install(&bed.files(), &new).await.unwrap();
                assert_eq!(bed.files().load().unwrap().serial(), new.certificate().serial());
                let both = [old.certificate().serial().to_string(), new.certificate().serial().to_string()];
                assert_eq!(bed.generations(), both, "{step:?}");
                assert!(bed.pending().is_empty());
            }
        }
    }

    #[tokio::test]
    async fn what_a_crash_left_half_written_is_written_anew() {
        let bed = Bed::new();
        let leaf = bed.leaf();
        let draft = bed.path(&format!("{GENERATIONS}/.{}.draft", leaf.certificate().serial()));
        fs::create_dir_all(&draft).unwrap();
        fs::write(draft.join(KEY), "half a k").unwrap();
        fs::write(bed.path(".current.draft"), "").unwrap();
        bed.install(&bed.files(), &leaf).await.unwrap();
        assert_eq!(bed.files().load().unwrap().serial(), leaf.certificate().serial());
        assert!(!draft.exists());
    }

    #[tokio::test]
    async fn a_waiting_key_is_the_same_until_its_certificate_has_come() {
        let bed = Bed::new();
        let files = IdentityFiles::at(bed.folder.path(), Some(Secret::new(b"open".to_vec())));
        let lock = files.lock(&SystemClock).await.unwrap();
        let one = PendingKey::Enrollment(EnrollmentId::from_bytes([1; 16]));
        let first = files.pending_key(&lock, one, KeyAlgorithm::EcdsaP256).unwrap();
        let again = files.pending_key(&lock, one, KeyAlgorithm::EcdsaP384).unwrap();
        assert_eq!(first.public_key(), again.public_key());
        let other = PendingKey::Enrollment(EnrollmentId::from_bytes([2; 16]));
        let another = files.pending_key(&lock, other, KeyAlgorithm::EcdsaP256).unwrap();
        assert_ne!(first.public_key(), another.public_key());
        let text = fs::read_to_string(bed.path(&one.file_name())).unwrap();
        assert!(text.contains("ENCRYPTED PRIVATE KEY"), "{text}");
        let error = bed.files().pending_key(&lock, one, KeyAlgorithm::EcdsaP256).unwrap_err();
        assert!(error.message().contains("use its passphrase"), "{error}");
    }

    #[tokio::test]
    async fn a_key_that_others_may_read_is_refused_with_the_remedy() {
        let bed = Bed::new();
        bed.install(&bed.files(), &bed.leaf()).await.unwrap();
        let key = fs::canonicalize(bed.path("current/key.pem")).unwrap();
        fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).unwrap();
        let error = bed.files().load().unwrap_err();
        assert!(error.message().contains("chmod 600"), "{error}");
        assert!(error.message().contains("(mode 640)"), "{error}");
    }

    #[tokio::test]
    async fn files_that_stand_directly_are_adopted_and_then_follow() {
        let bed = Bed::new();
        let (old, new) = (bed.leaf(), bed.leaf());
        bed.bootstrap(&old);
        let before = bed.files().version().unwrap();
        bed.install(&bed.files(), &new).await.unwrap();
        assert_ne!(bed.files().version().unwrap(), before);
        assert_eq!(fs::read_to_string(bed.path(KEY)).unwrap(), new.key_pem());
        assert_eq!(
            fs::read_to_string(bed.path("identity").join(old.certificate().serial().to_string()).join(KEY))
                .unwrap(),
            old.key_pem()
        );
        // Bootstrap puts new files in the place of the links: they count.
        let forced = bed.leaf();
        bed.bootstrap(&forced);
        assert_eq!(bed.files().load().unwrap().serial(), forced.certificate().serial());
    }

    #[test]
    fn an_empty_folder_says_what_to_do() {
        let bed = Bed::new();
        let error = IdentityFiles::open(bed.folder.path(), None).unwrap_err();
        assert!(error.message().contains("enrol"), "{error}");
    }

    #[tokio::test]
    async fn of_two_that_lock_one_waits_for_the_other() {
        let bed = Bed::new();
        let held = bed.files().lock(&SystemClock).await.unwrap();
        let (files, clock) = (bed.files(), std::sync::Arc::new(airunner_testkit::clock::FakeClock::new()));
        let waiting = clock.clone();
        let second = tokio::spawn(async move { files.lock(&*waiting).await.map(drop) });
        clock.wait_for_sleepers(1).await;
        assert!(!second.is_finished());
        drop(held);
        clock.advance(LOCK_PAUSE);
        second.await.unwrap().unwrap();
    }
}
