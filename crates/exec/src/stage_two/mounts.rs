//! Gives a sandbox its files: a root of its own, made beside the host's and then put in its place. Runs in a
//! mount namespace of its own; must not write to any file system of the host.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind,
    mount_change, move_mount, open_tree, unmount,
};

use self::access::Rules;
use crate::report::{Failure, Step};
use crate::sandbox::{Access, Root, Sandbox};

mod access;

/// Where the new root is made. What the host has there is still reached by the trees opened before.
const BASE: &str = "/tmp";

/// Directories of [`Root::System`] whose files programs need.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What programs need of `/etc`: names, resolvers, certificates, the loader's, locales. No keys and no settings of
/// services.
const ETC: [&str; 28] = [
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "gai.conf",
    "group",
    "host.conf",
    "hosts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "magic",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki",
    "protocols",
    "resolv.conf",
    "services",
    "ssl",
    "terminfo",
];

const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

/// Parts of `/proc` that act on the whole machine for whoever is root outside: to be read only.
const READ_ONLY_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// Parts of `/proc` that tell of the whole machine's memory and keys.
const EMPTY_PROC: [&str; 6] = ["kcore", "keys", "latency_stats", "sched_debug", "timer_list", "kallsyms"];

type Outcome = Result<(), Failure>;

/// Makes the root and moves into it. The working directory is `/` then.
pub(super) fn furnish(sandbox: &Sandbox, terminal: bool) -> Outcome {
    // Directories made here are for everybody to pass.
    let usual = rustix::process::umask(Mode::from_raw_mode(0o022));
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(at("/"))?;
    let plan = Trees::open(sandbox, terminal)?;
    plan.put()?;
    make_proc()?;
    make_devices(sandbox.tmp_size, plan.devices, plan.console)?;
    make_tmpfs("/tmp", &bounded(sandbox.tmp_size))?;
    for (path, tree, is_directory) in plan.binds {
        put_at(&path, &tree, is_directory)?;
    }
    enter()?;
    rules(sandbox).apply()?;
    rustix::process::umask(usual);
    Ok(())
}

/// All that is taken from the host, opened while everything is still where the host has it.
struct Trees {
    root: Option<OwnedFd>,
    parts: Vec<(PathBuf, OwnedFd, bool)>,
    links: Vec<(PathBuf, PathBuf)>,
    devices: Vec<(PathBuf, OwnedFd, bool)>,
    console: Option<OwnedFd>,
    binds: Vec<(PathBuf, OwnedFd, bool)>,
}

impl Trees {
    fn open(sandbox: &Sandbox, terminal: bool) -> Result<Self, Failure> {
        let mut trees = Self {
            root: None,
            parts: Vec::new(),
            links: Vec::new(),
            devices: Vec::new(),
            console: None,
            binds: Vec::new(),
        };
        match &sandbox.root {
            Root::System => trees.open_system()?,
            Root::Host => trees.root = Some(tree(Path::new("/"))?),
            Root::Directory(path) => trees.root = Some(tree(path)?),
        }
        for name in DEVICES {
            let path = Path::new("/dev").join(name);
            let tree = tree(&path)?;
            trees.devices.push((path, tree, false));
        }
        if terminal {
            // By its name: the descriptor came from another mount namespace.
            let name =
                rustix::termios::ttyname(rustix::stdio::stdin(), Vec::new()).map_err(at("/dev/pts"))?;
            trees.console = Some(tree(Path::new(OsStr::from_bytes(name.as_bytes())))?);
        }
        // An outer path comes before the one inside of it.
        let mut binds: Vec<&PathBuf> = sandbox.binds.iter().map(|(path, _)| path).collect();
        binds.sort();
        for path in binds {
            trees.binds.push(open(path)?);
        }
        Ok(trees)
    }

    fn open_system(&mut self) -> Outcome {
        for path in SYSTEM.map(Path::new) {
            match fs::symlink_metadata(path) {
                Ok(meta) if meta.is_symlink() => {
                    self.links.push((path.to_owned(), fs::read_link(path).map_err(at(path))?));
                }
                Ok(_) => self.parts.push(open(path)?),
                Err(_) => {}
            }
        }
        for path in ETC.map(|name| Path::new("/etc").join(name)) {
            if path.exists() {
                self.parts.push(open(&path)?);
            }
        }
        Ok(())
    }

    /// Puts the files of the root at [`BASE`].
    fn put(&self) -> Outcome {
        if let Some(root) = &self.root {
            return attach(root, Path::new(BASE));
        }
        mount_tmpfs(Path::new(BASE), "mode=755,size=1m")?;
        for name in ["dev", "etc", "home", "proc", "run", "tmp", "var"] {
            let path = Path::new(BASE).join(name);
            fs::create_dir(&path).map_err(at(&path))?;
        }
        let links = self.links.iter().map(|(path, target)| (path.as_path(), target.as_path()));
        for (path, target) in links.chain([(Path::new("/var/tmp"), Path::new("/tmp"))]) {
            let path = inside(path);
            symlink(target, &path).map_err(at(&path))?;
        }
        for (path, tree, is_directory) in &self.parts {
            put_at(path, tree, *is_directory)?;
        }
        Ok(())
    }
}

fn make_proc() -> Outcome {
    let proc = inside(Path::new("/proc"));
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", &proc, "proc", flags, None).map_err(at(&proc))?;
    for path in READ_ONLY_PROC.map(|name| proc.join(name)).iter().filter(|path| path.exists()) {
        mount_bind(path, path).map_err(at(path))?;
    }
    for path in EMPTY_PROC.map(|name| proc.join(name)).iter().filter(|path| path.exists()) {
        mount_bind("/dev/null", path).map_err(at(path))?;
    }
    Ok(())
}

fn make_devices(shm_size: u64, devices: Vec<(PathBuf, OwnedFd, bool)>, console: Option<OwnedFd>) -> Outcome {
    make_tmpfs("/dev", "mode=755,size=64k")?;
    for (path, tree, _) in devices {
        put_at(&path, &tree, false)?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        let path = inside(Path::new("/dev")).join(name);
        symlink(target, &path).map_err(at(&path))?;
    }
    if let Some(console) = console {
        put_at(Path::new("/dev/console"), &console, false)?;
    }
    let pts = inside(Path::new("/dev/pts"));
    fs::create_dir(&pts).map_err(at(&pts))?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", &pts, "devpts", flags, Some(c"newinstance,ptmxmode=0666,mode=0620")).map_err(at(&pts))?;
    let shm = inside(Path::new("/dev/shm"));
    fs::create_dir(&shm).map_err(at(&shm))?;
    make_tmpfs("/dev/shm", &bounded(shm_size))
}

/// Open to everybody. The number of files has a bound as well: empty ones would fill the machine's memory, too.
fn bounded(size: u64) -> String {
    const PAGE: u64 = 4096;
    const LEAST_FILES: u64 = 128;
    format!("mode=1777,size={size},nr_inodes={}", (size / PAGE).max(LEAST_FILES))
}

fn make_tmpfs(path: &str, options: &str) -> Outcome {
    mount_tmpfs(&inside(Path::new(path)), options)
}

fn mount_tmpfs(path: &Path, options: &str) -> Outcome {
    let options = CString::new(options).map_err(io::Error::other).map_err(at(path))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", path, "tmpfs", flags, Some(options.as_c_str())).map_err(at(path))
}

/// Puts the new root in the place of the old one, which is gone then.
fn enter() -> Outcome {
    let pivot = || {
        rustix::process::chdir(BASE)?;
        // Both are the same directory: the old root ends up on top of the new one, and is taken off.
        rustix::process::pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")
    };
    pivot().map_err(at("/"))
}

fn rules(sandbox: &Sandbox) -> Rules {
    let mut rules = Rules::new();
    for path in ["/tmp", "/dev/shm", "/dev/pts", "/proc"] {
        rules.set(Path::new(path), Access::Write);
    }
    for name in READ_ONLY_PROC {
        rules.set(&Path::new("/proc").join(name), Access::Read);
    }
    for (path, access) in &sandbox.binds {
        rules.set(path, *access);
    }
    rules
}

fn open(path: &Path) -> Result<(PathBuf, OwnedFd, bool), Failure> {
    let is_directory = fs::metadata(path).map_err(at(path))?.is_dir();
    Ok((path.to_owned(), tree(path)?, is_directory))
}

/// A copy of the mounts at and below a path, attached to nothing yet.
fn tree(path: &Path) -> Result<OwnedFd, Failure> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).map_err(at(path))
}

/// Attaches a tree at its path in the new root. Where that root is made here, the place is made, too.
fn put_at(path: &Path, tree: &OwnedFd, is_directory: bool) -> Outcome {
    let place = inside(path);
    if !place.exists() {
        let make = || {
            if is_directory {
                return fs::create_dir_all(&place);
            }
            place.parent().map_or(Ok(()), fs::create_dir_all)?;
            File::create_new(&place).map(drop)
        };
        make().map_err(at(path))?;
    }
    attach(tree, &place)
}

fn attach(tree: &OwnedFd, place: &Path) -> Outcome {
    move_mount(tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(at(place))
}

fn inside(path: &Path) -> PathBuf {
    Path::new(BASE).join(path.strip_prefix("/").unwrap_or(path))
}

fn at<E: Into<io::Error>>(path: impl AsRef<Path>) -> impl FnOnce(E) -> Failure {
    let path = path.as_ref().to_owned();
    move |error| Failure::at(Step::Mounts, error, path)
}
