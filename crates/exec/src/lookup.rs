//! Finds the program that a command names, the way the job itself would. Must not run anything.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::error::SpawnError;
use crate::plan::Program;
use crate::user::RunAs;

/// Why a command names no program.
#[derive(Debug)]
pub(crate) enum Missing {
    NotFound,
    /// This is a directory.
    Directory(PathBuf),
    /// This may not be executed.
    Closed(PathBuf),
}

/// The absolute path of the command's program. Blocks.
///
/// As execvp(3): a candidate that the job's user cannot execute is passed over for a later one. Without a user the
/// modes alone count.
pub(crate) fn program(spec: &Program, user: Option<RunAs>) -> Result<PathBuf, Missing> {
    let named = Path::new(&spec.command);
    let mut candidates = Vec::new();
    if spec.command.as_bytes().contains(&b'/') {
        candidates.push(spec.directory.join(named));
    } else {
        let places = spec.search_path().as_bytes().split(|byte| *byte == b':');
        // An empty place is the job's directory; a relative one counts from it: `join` does both.
        candidates.extend(
            places
                .map(|place| spec.directory.join(Path::new(std::ffi::OsStr::from_bytes(place))).join(named)),
        );
    }
    let (mut directory, mut closed, mut doubtful) = (None, None, None);
    for path in candidates {
        let Ok(meta) = fs::metadata(&path) else { continue };
        if meta.is_dir() {
            directory.get_or_insert(path);
        } else if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
            closed.get_or_insert(path);
        } else if user.is_none_or(|user| searchable(user, &meta) && reachable(&path, user)) {
            return Ok(path);
        } else {
            doubtful.get_or_insert(path);
        }
    }
    // An access list may grant what the mode does not show, so the kernel decides on a doubtful one.
    match (doubtful, closed, directory) {
        (Some(path), ..) => Ok(path),
        (_, Some(path), _) => Err(Missing::Closed(path)),
        (.., Some(path)) => Err(Missing::Directory(path)),
        _ => Err(Missing::NotFound),
    }
}

impl Missing {
    /// With what was looked for.
    pub(crate) fn explain(self, program: &Program) -> SpawnError {
        let by_path = program.command.as_bytes().contains(&b'/');
        match self {
            Self::Directory(path) => SpawnError::IsDirectory(path),
            Self::Closed(path) => SpawnError::NotExecutable(path),
            Self::NotFound => SpawnError::NotFound {
                command: program.command.to_string_lossy().into(),
                searched: if by_path {
                    program.directory.to_string_lossy().into()
                } else {
                    program.search_path().to_string_lossy().into()
                },
            },
        }
    }
}

/// The working directory, as far as the supervisor can tell; the kernel has the last word for the job's user.
pub(crate) fn check_directory(directory: &Path) -> Result<(), SpawnError> {
    let refuse = |source| SpawnError::BadDirectory { path: directory.to_owned(), source };
    if !fs::metadata(directory).map_err(refuse)?.is_dir() {
        return Err(refuse(io::ErrorKind::NotADirectory.into()));
    }
    Ok(())
}

/// Whether the modes let `user` through every directory above `path`.
fn reachable(path: &Path, user: RunAs) -> bool {
    let Ok(path) = fs::canonicalize(path) else { return false };
    path.ancestors().skip(1).all(|above| fs::metadata(above).is_ok_and(|meta| searchable(user, &meta)))
}

/// Whether the modes let `user` into the directory `path` itself.
pub(crate) fn enterable(path: &Path, user: RunAs) -> bool {
    fs::metadata(path).is_ok_and(|meta| searchable(user, &meta)) && reachable(path, user)
}

fn searchable(user: RunAs, meta: &Metadata) -> bool {
    let mode = meta.permissions().mode();
    let bit = match user {
        RunAs { uid: 0, .. } => 0o111,
        RunAs { uid, .. } if uid == meta.uid() => 0o100,
        RunAs { gid, .. } if gid == meta.gid() => 0o010,
        RunAs { .. } => 0o001,
    };
    mode & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(command: &str, directory: &Path, path: &str) -> Program {
        Program {
            command: command.into(),
            arguments: Vec::new(),
            environment: [("PATH".into(), path.into())].into(),
            directory: directory.to_owned(),
        }
    }

    fn place(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_first_executable_of_the_jobs_path_wins() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        place(&root.join("one/tool"), 0o644);
        fs::create_dir_all(root.join("two/tool")).unwrap();
        place(&root.join("three/tool"), 0o755);
        place(&root.join("tool"), 0o755);
        let found = |command, path: &str| program(&spec(command, root, path), None).unwrap();
        let all = format!("{0}/none:{0}/one:{0}/two:{0}/three", root.display());
        assert_eq!(found("tool", &all), root.join("three/tool"));
        assert_eq!(found("tool", "three:"), root.join("three/tool"), "a relative place is the job's");
        assert_eq!(found("tool", ""), root.join("tool"), "an empty place is the job's directory");
        assert_eq!(found("./three/tool", "/none"), root.join("./three/tool"));
    }

    #[test]
    fn each_failure_has_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        place(&root.join("one/plain"), 0o644);
        fs::create_dir_all(root.join("one/sub")).unwrap();
        let refused = |command| program(&spec(command, root, "one"), None).unwrap_err();
        assert!(matches!(refused("plain"), Missing::Closed(_)));
        assert!(matches!(refused("sub"), Missing::Directory(_)));
        assert!(matches!(refused("./one"), Missing::Directory(_)));
        assert!(matches!(refused("ghost"), Missing::NotFound));
    }

    #[test]
    fn another_users_private_program_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let own = fs::metadata(dir.path()).unwrap();
        place(&dir.path().join("closed/tool"), 0o700);
        let stranger = RunAs { uid: own.uid() + 4242, gid: own.gid() + 4242 };
        let meta = fs::metadata(dir.path().join("closed/tool")).unwrap();
        assert!(!searchable(stranger, &meta));
        assert!(searchable(RunAs { uid: own.uid(), gid: own.gid() }, &meta));
        assert!(!enterable(dir.path(), stranger) && enterable(Path::new("/"), stranger));
    }
}
