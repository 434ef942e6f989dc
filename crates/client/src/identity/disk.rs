//! Files that must survive a crash and stay private. What is in them is not looked at.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use airunner_core::{Error, Label, Result, Secret};

/// Bytes of an identity's file at most: more than any trust bundle has.
const MAX_LEN: u64 = 1 << 20;

/// The error of doing something to a file.
pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| {
        Error::new(Label::File, format!("can't {what} {}: {error}", path.display())).with_cause(error)
    }
}

/// Names the file in an error about what is in it.
pub(super) fn at(error: Error, path: &Path) -> Error {
    Error::new(error.label(), format!("{}: {error}", path.display())).with_cause(error)
}

/// Reads a private key's file. One that group or others may read is refused: the key may be known to them.
pub(super) fn read_private(path: &Path) -> Result<Secret> {
    let file = File::open(path).map_err(failed("read", path))?;
    let metadata = file.metadata().map_err(failed("read", path))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(Error::new(
            Label::File,
            format!(
                "{0} holds a private key and is open to others (mode {1:03o}): run `chmod 600 {0}`, and if anyone may \
                 have read it, enrol anew",
                path.display(),
                metadata.mode() & 0o777,
            ),
        ));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(MAX_LEN)).unwrap_or_default());
    io::Read::read_to_end(&mut io::Read::take(file, MAX_LEN), &mut bytes).map_err(failed("read", path))?;
    Ok(Secret::new(bytes))
}

/// Writes a file of mode 0600 or 0644, whole or not at all, and on the disk when this returns.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let draft = draft_of(path);
    remove(&draft)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)
        .map_err(failed("write", &draft))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", &draft))?;
    fs::rename(&draft, path).map_err(failed("write", path))?;
    sync(parent(path))
}

/// Points a symbolic link at `target`, atomically.
pub(super) fn link(path: &Path, target: &Path) -> Result<()> {
    let draft = draft_of(path);
    remove(&draft)?;
    std::os::unix::fs::symlink(target, &draft).map_err(failed("link", &draft))?;
    fs::rename(&draft, path).map_err(failed("link", path))?;
    sync(parent(path))
}

/// Makes a directory for its owner alone, if there is none.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Ok(()) => sync(parent(path)),
        Err(error) => Err(failed("make", path)(error)),
    }
}

/// Removes a file, if there is one.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes sure that what was made, renamed or removed in a directory stays so.
pub(super) fn sync(directory: &Path) -> Result<()> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(failed("sync", directory))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn draft_of(path: &Path) -> std::path::PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.draft"))
}
