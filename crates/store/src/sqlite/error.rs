//! What SQLite's errors are called in our words.

use std::time::Duration;

use airunner_core::{Error, Label};
use rusqlite::{ErrorCode, ffi};

/// When a busy store may have time again.
pub(super) const RETRY_BUSY: Duration = Duration::from_secs(1);
/// When a full disk may have been seen to.
const RETRY_FULL: Duration = Duration::from_secs(10);

/// The error for the caller; SQLite's own becomes its cause.
pub(super) fn store_error(error: rusqlite::Error) -> Error {
    let Some(found) = error.sqlite_error().copied() else { return Error::internal(error) };
    match found.code {
        ErrorCode::DiskFull => full().with_cause(error),
        ErrorCode::SystemIoFailure if is_write(found.extended_code) => full().with_cause(error),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => busy().with_cause(error),
        ErrorCode::SystemIoFailure
        | ErrorCode::CannotOpen
        | ErrorCode::ReadOnly
        | ErrorCode::PermissionDenied
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::OperationInterrupted => {
            unavailable("the store can't be read or written").with_cause(error)
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Error::new(
            Label::Internal,
            "the store is damaged: stop the server and run `airunner-server db check`",
        )
        .with_cause(error),
        _ => Error::internal(error),
    }
}

/// The store answers, but not now.
pub(super) fn unavailable(message: &str) -> Error {
    Error::new(Label::StoreUnavailable, message).with_retry_after(RETRY_BUSY)
}

/// More is asked of the store than it can take.
pub(super) fn busy() -> Error {
    unavailable("the store is busy: try again in a second")
}

fn full() -> Error {
    Error::new(Label::StoreFull, "the store's disk is full: nothing is written until there is room again")
        .with_retry_after(RETRY_FULL)
}

/// Whether an I/O error came of writing, which is what a full disk looks like from some calls.
fn is_write(extended_code: i32) -> bool {
    matches!(
        extended_code,
        ffi::SQLITE_IOERR_WRITE
            | ffi::SQLITE_IOERR_FSYNC
            | ffi::SQLITE_IOERR_DIR_FSYNC
            | ffi::SQLITE_IOERR_TRUNCATE
            | ffi::SQLITE_IOERR_SHMOPEN
            | ffi::SQLITE_IOERR_SHMSIZE
            | ffi::SQLITE_IOERR_SHMMAP
    )
}

/// An error that many callers get: one commit failed for all of them.
#[derive(Clone)]
pub(super) struct Failure {
    label: Label,
    message: String,
    retry_after: Option<Duration>,
    cause: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            label: error.label(),
            message: error.message().to_owned(),
            retry_after: error.retry_after(),
            cause: format!("{error:?}"),
        }
    }
}

impl Failure {
    pub(super) fn label(&self) -> Label {
        self.label
    }

    pub(super) fn cause(&self) -> &str {
        &self.cause
    }

    pub(super) fn error(&self) -> Error {
        let error = Error::new(self.label, self.message.clone()).with_cause(self.cause.clone());
        match self.retry_after {
            Some(after) => error.with_retry_after(after),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label_of(extended_code: i32) -> Label {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(extended_code), None);
        store_error(error).label()
    }

    #[test]
    fn a_full_disk_is_told_from_a_busy_store() {
        assert_eq!(label_of(ffi::SQLITE_FULL), Label::StoreFull);
        assert_eq!(label_of(ffi::SQLITE_IOERR_WRITE), Label::StoreFull);
        assert_eq!(label_of(ffi::SQLITE_IOERR_READ), Label::StoreUnavailable);
        assert_eq!(label_of(ffi::SQLITE_BUSY), Label::StoreUnavailable);
        // Another process keeps everyone from reading.
        assert_eq!(label_of(ffi::SQLITE_PROTOCOL), Label::StoreUnavailable);
        assert_eq!(label_of(ffi::SQLITE_CORRUPT), Label::Internal);
    }
}
