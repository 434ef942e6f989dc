//! Files that must not be half there, and secrets that others must not read. What is in them is not known here.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use airunner_core::{Error, Label, Result, Secret};

/// Bytes of a file that is read whole, at most.
const MAX_LEN: u64 = 1 << 20;

/// Who may read a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner only: mode 0600.
    Secret,
    /// Anybody: mode 0644.
    Public,
}

/// Writes a file so that a reader, or a machine that loses power, sees the old content or the new, whole and with its
/// final mode: written beside it, fsynced, renamed over it, and the folder fsynced.
///
/// # Errors
/// `file`, naming the path.
pub fn write(path: &Path, bytes: &[u8], access: Access) -> Result<()> {
    let failed = |error: io::Error| failure("can't be written", path, &error);
    let beside = beside(path).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let result = write_beside(&beside, bytes, access)
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| sync_folder(path));
    if result.is_err() {
        // It is of no use to anyone; that it can't be removed adds nothing to the error.
        let _ = fs::remove_file(&beside);
    }
    result.map_err(failed)
}

/// Writes a file that is not there yet, as [`write`] does.
///
/// # Errors
/// `already-exists`; `file`.
pub fn write_new(path: &Path, bytes: &[u8], access: Access) -> Result<()> {
    let failed = |error: io::Error| failure("can't be written", path, &error);
    let beside = beside(path).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let result = write_beside(&beside, bytes, access)
        .and_then(|()| fs::hard_link(&beside, path))
        .and_then(|()| sync_folder(path));
    let _ = fs::remove_file(&beside);
    result.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::new(
            Label::AlreadyExists,
            format!("{} exists already: move it away, or choose another place", path.display()),
        ),
        _ => failed(error),
    })
}

/// Renames a file over another and makes it last.
///
/// # Errors
/// `file`.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    let result = fs::rename(from, to).and_then(|()| sync_folder(to));
    result.map_err(|error| failure("can't be renamed", from, &error))
}

/// Removes a file if it is there.
///
/// # Errors
/// `file`.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failure("can't be removed", path, &error))
        }
        _ => Ok(()),
    }
}

/// Makes a folder, with those above it, that its owner alone may enter: mode 0700.
///
/// # Errors
/// `file`.
pub fn create_private_folder(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| failure("can't be made", path, &error))
}

/// Reads a file, none where it is not there.
///
/// # Errors
/// `file` where it can't be read or has more than 1 MiB.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let Some(file) = open(path)? else { return Ok(None) };
    read_all(path, file).map(Some)
}

/// Reads a file that only its owner may be able to read, none where it is not there.
///
/// # Errors
/// `file` where others may read or write it, with the command that changes that; where it can't be read; or where it
/// has more than 1 MiB.
pub fn read_secret(path: &Path) -> Result<Option<Secret>> {
    let Some(file) = open(path)? else { return Ok(None) };
    // Of the open file, so that nobody can exchange it between the question and the reading.
    let mode = file.metadata().map_err(|error| failure("can't be read", path, &error))?.permissions().mode();
    if mode & 0o077 != 0 {
        let path = path.display();
        let mode = mode & 0o777;
        return Err(Error::new(
            Label::File,
            format!("{path} holds a secret and is open to others (mode {mode:04o}): run `chmod 600 {path}`"),
        ));
    }
    read_all(path, file).map(|bytes| Some(Secret::new(bytes)))
}

/// Reads a passphrase or a password: the file's first line.
///
/// # Errors
/// `file` where it is missing, empty or open to others.
pub fn read_passphrase(path: &Path) -> Result<Secret> {
    let refuse = |why: &str| Error::new(Label::File, format!("{} {why}", path.display()));
    let text = read_secret(path)?.ok_or_else(|| refuse("is not there: write the passphrase into it"))?;
    let line = text.expose().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err(refuse("has no passphrase in its first line"));
    }
    Ok(Secret::new(line.to_vec()))
}

/// Removes what interrupted writes left in a folder. Only whoever alone writes there may call it.
pub(crate) fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(LEFTOVER)) {
            // What can't be removed does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// An error about a file.
pub(crate) fn failure(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(Label::File, format!("{} {what}: {error}", path.display()))
}

const LEFTOVER: &str = ".airunner-new";

fn beside(path: &Path) -> Option<std::path::PathBuf> {
    let name = path.file_name()?.to_str()?;
    Some(path.with_file_name(format!(".{name}.{}{LEFTOVER}", std::process::id())))
}

fn write_beside(beside: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let mode = match access {
        Access::Secret => 0o600,
        Access::Public => 0o644,
    };
    // One of an earlier process with this number may be in the way, with another mode.
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(beside)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failure("can't be read", path, &error)),
    }
}

fn read_all(path: &Path, file: File) -> Result<Vec<u8>> {
    let failed = |error: io::Error| failure("can't be read", path, &error);
    let length = file.metadata().map_err(failed)?.len();
    // Enough at once, so that a secret leaves no copies behind in memory that was given back.
    let mut bytes = Vec::with_capacity(usize::try_from(length.min(MAX_LEN)).unwrap_or(0) + 1);
    file.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_LEN {
        return Err(Error::new(Label::File, format!("{} has more than 1 MiB", path.display())));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_written_has_its_mode_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, public) = (folder.path().join("secret"), folder.path().join("public"));
        write(&secret, b"s", Access::Secret).unwrap();
        write(&public, b"p", Access::Public).unwrap();
        write(&secret, b"s2", Access::Secret).unwrap();
        assert_eq!((mode(&secret), mode(&public)), (0o600, 0o644));
        assert_eq!(read_secret(&secret).unwrap().unwrap().expose(), b"s2");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_new_file_never_takes_another_s_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write_new(&path, b"1", Access::Secret).unwrap();
        assert_eq!(write_new(&path, b"2", Access::Secret).unwrap_err().label(), Label::AlreadyExists);
        assert_eq!(read(&path).unwrap().unwrap(), b"1");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_with_the_command_that_helps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write(&path, b"s", Access::Secret).unwrap();
        for open in [0o640, 0o604, 0o644, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let error = read_secret(&path).unwrap_err();
            assert_eq!(error.label(), Label::File);
            assert!(error.message().contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read_secret(&path).is_ok());
    }

    #[test]
    fn what_is_not_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(&folder.path().join("x")).unwrap().is_none());
        assert!(read_secret(&folder.path().join("x")).unwrap().is_none());
        assert!(read_passphrase(&folder.path().join("x")).is_err());
    }

    #[test]
    fn a_passphrase_is_the_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        for (text, passphrase) in [("a b\nrest", "a b"), ("a\r\n", "a"), ("a", "a")] {
            write(&path, text.as_bytes(), Access::Secret).unwrap();
            assert_eq!(read_passphrase(&path).unwrap().expose(), passphrase.as_bytes());
        }
        write(&path, b"\nx", Access::Secret).unwrap();
        assert!(read_passphrase(&path).unwrap_err().message().contains("no passphrase"));
    }

    #[test]
    fn leftovers_of_interrupted_writes_are_swept() {
        let folder = tempfile::tempdir().unwrap();
        let left = beside(&folder.path().join("x")).unwrap();
        fs::write(left, b"half").unwrap();
        fs::write(folder.path().join("kept"), b"whole").unwrap();
        sweep(folder.path());
        let names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["kept"]);
    }
}
