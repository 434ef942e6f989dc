//! Opening the file: who may read it, whether it is ours, of which version it is; and what a connection is told.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use airunner_core::{Error, Label, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};
use rusqlite_migration::{M, Migrations};

use super::error::store_error;

/// `application_id` of our files; it stands in `schema.sql` too.
const APPLICATION_ID: i64 = 0x6169_7231;
/// The migrations, oldest first. What was released is never changed: a new version is a new entry.
const MIGRATIONS: &[M<'static>] = &[
    M::up(include_str!("schema.sql")),
    M::up(include_str!("schema_2.sql")),
    M::up(include_str!("schema_3.sql")),
];
/// How long a connection waits for a lock that another process holds.
const BUSY: Duration = Duration::from_secs(5);
/// Pages of log after which they are taken into the file, 16 MiB: a page that many groups wrote is taken over once.
const CHECKPOINT_PAGES: i64 = 4_096;
/// The writer's page cache in KiB, as SQLite writes that: the inner pages of every index of some millions of certificates.
const WRITER_CACHE: i64 = -16_000;
/// Statements that a connection keeps prepared: more than there are.
const STATEMENTS: usize = 128;

/// Makes the file if there is none, readable to its owner alone, and checks it if there is one.
pub(super) fn prepare(path: &Path) -> Result<()> {
    match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => check_existing(path),
        Err(error) => Err(cannot_open(path, &error).with_cause(error)),
    }
}

fn check_existing(path: &Path) -> Result<()> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    let mut file = opened.map_err(|error| cannot_open(path, &error).with_cause(error))?;
    let metadata = file.metadata().map_err(Error::internal)?;
    let shown = path.display();
    if metadata.mode() & 0o022 != 0 {
        return Err(file_error(format!(
            "others may write the store {shown}, and so make themselves admins: `chmod 600 {shown}`"
        )));
    }
    if metadata.len() > 0 && !begins_like_sqlite(&mut file) {
        return Err(file_error(format!(
            "{shown} is not a store of ours: name another path, or restore a backup"
        )));
    }
    Ok(())
}

fn begins_like_sqlite(file: &mut File) -> bool {
    let mut header = [0; 16];
    file.read_exact(&mut header).is_ok() && header == *b"SQLite format 3\0"
}

/// The connection that writes, to a file that has been migrated.
pub(super) fn open_writer(path: &Path, max_bytes: Option<u64>) -> Result<Connection> {
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    check_ours(path, &connection)?;
    set_up(path, &mut connection).map_err(|error| explain(path, error))?;
    if let Some(max_bytes) = max_bytes {
        limit_size(&connection, max_bytes).map_err(|error| explain(path, error))?;
    }
    Ok(connection)
}

/// A connection that reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "cache_size", -4_000).map_err(|error| explain(path, error))?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let open = || {
        // Each connection is one thread's.
        let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.pragma_update(None, "temp_store", "memory")?;
        Ok(connection)
    };
    open().map_err(|error| explain(path, error))
}

fn check_ours(path: &Path, connection: &Connection) -> Result<()> {
    let shown = path.display();
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let read = || {
        let any = "SELECT 1 FROM sqlite_master LIMIT 1";
        let is_empty = connection.query_row(any, [], |_| Ok(())).optional()?.is_none();
        Ok((is_empty, pragma("application_id")?, pragma("user_version")?))
    };
    let (is_empty, application, version) = read().map_err(|error| explain(path, error))?;
    if !is_empty && application != APPLICATION_ID {
        return Err(file_error(format!("{shown} belongs to another program: name another path")));
    }
    if usize::try_from(version).is_ok_and(|version| version > MIGRATIONS.len()) {
        return Err(file_error(format!(
            "{shown} was written by a newer version of airunner (schema {version}, this one knows {}): \
             start that version",
            MIGRATIONS.len()
        )));
    }
    Ok(())
}

fn set_up(path: &Path, connection: &mut Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "cache_size", WRITER_CACHE)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let mut tries = 3;
    loop {
        match migrate(path, connection) {
            // Another process that starts at the same time may have been faster, and has done the work.
            Err(error) if tries > 0 => {
                tries -= 1;
                tracing::debug!(%error, "preparing the store failed, trying again");
            }
            done => break done,
        }
    }
}

fn migrate(path: &Path, connection: &mut Connection) -> rusqlite::Result<()> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        tracing::error!(path = %path.display(), mode, "this file system has no write-ahead log");
        return Err(rusqlite::Error::InvalidQuery);
    }
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    connection.set_transaction_behavior(TransactionBehavior::Immediate);
    Migrations::from_slice(MIGRATIONS).to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => err,
        other => rusqlite::Error::ToSqlConversionFailure(Box::new(other)),
    })
}

fn limit_size(connection: &Connection, max_bytes: u64) -> rusqlite::Result<()> {
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages = i64::try_from(max_bytes).unwrap_or(i64::MAX) / page.max(1);
    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
}

fn cannot_open(path: &Path, error: &std::io::Error) -> Error {
    let shown = path.display();
    file_error(match error.kind() {
        ErrorKind::NotFound => format!("there is no directory for the store {shown}: create it"),
        ErrorKind::PermissionDenied => {
            format!("the store {shown} can't be written by this user: start as its owner")
        }
        ErrorKind::IsADirectory => format!("{shown} is a directory: name a file for the store"),
        ErrorKind::StorageFull => format!("there is no room for the store {shown}: free some"),
        ErrorKind::ReadOnlyFilesystem => format!("the file system of the store {shown} is read-only"),
        _ => format!("the store {shown} can't be opened: {error}"),
    })
}

fn explain(path: &Path, error: rusqlite::Error) -> Error {
    let shown = path.display();
    let message = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            format!(
                "the store {shown} is damaged: restore a backup, or let `airunner-server db check` look at it"
            )
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            format!("the store {shown} or its directory can't be written by this user: start as its owner")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull) => {
            return store_error(error);
        }
        _ => format!("the store {shown} can't be used: {error}"),
    };
    file_error(message).with_cause(error)
}

pub(super) fn file_error(message: String) -> Error {
    Error::new(Label::File, message)
}
