//! Hears of changes: at once of those that this process commits, and within 50 ms of those that another process or a
//! hand with `sqlite3` commits.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use airunner_core::{ChangeNumber, Error, Result};
use rusqlite::{Connection, OptionalExtension};
use tokio::{sync::watch, time::timeout};

use super::error::{Failure, store_error, unavailable};

/// How often the file is asked whether another connection has committed.
const POLL: Duration = Duration::from_millis(50);
/// How long a wait lasts without a change.
const WAIT: Duration = Duration::from_millis(250);

#[derive(Default)]
pub(super) struct Feed {
    heard: watch::Sender<Heard>,
    is_closed: Mutex<bool>,
    closing: Condvar,
}

#[derive(Clone, Default)]
struct Heard {
    last: ChangeNumber,
    /// How often the store answered.
    polls: u64,
    failure: Option<Failure>,
}

impl Feed {
    /// Reads the newest change's number after a commit of this process.
    pub(super) fn hear(&self, connection: &Connection) {
        self.publish(last_change(connection));
    }

    /// Polls until the feed is closed.
    pub(super) fn serve(&self, connection: &Connection) {
        let mut version = None;
        let mut is_closed = self.lock();
        while !*is_closed {
            drop(is_closed);
            match data_version(connection) {
                Ok(found) if version == Some(found) => self.publish(Ok(0)),
                Ok(found) => {
                    version = Some(found);
                    self.publish(last_change(connection));
                }
                Err(error) => self.publish(Err(error)),
            }
            is_closed = self.lock();
            if !*is_closed {
                let waited = self.closing.wait_timeout(is_closed, POLL);
                is_closed = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    pub(super) fn close(&self) {
        *self.lock() = true;
        self.closing.notify_all();
    }

    /// Returns when there is a change past `known`, or after 250 ms. Fails if the store did not answer meanwhile.
    pub(super) async fn changed(&self, known: ChangeNumber) -> Result<()> {
        let mut heard = self.heard.subscribe();
        let polls = heard.borrow_and_update().polls;
        let news = heard.wait_for(|heard| heard.last > known || heard.failure.is_some());
        // Neither the time-out nor a sender that went away is news.
        let heard = timeout(WAIT, news).await.ok().and_then(|heard| heard.ok().map(|heard| heard.clone()));
        match heard {
            Some(heard) if heard.last > known => return Ok(()),
            // Whoever tries again at once must not keep a processor busy with it.
            Some(_) => tokio::time::sleep(POLL).await,
            None => {}
        }
        let heard = self.heard.borrow();
        match &heard.failure {
            Some(failure) => Err(failure.error()),
            None if heard.polls == polls => {
                Err(unavailable("the store does not say whether anything changed"))
            }
            None => Ok(()),
        }
    }

    /// Notes what a poll brought; who waits is woken by news only.
    fn publish(&self, last: Result<ChangeNumber>) {
        self.heard.send_if_modified(|heard| match last {
            Ok(last) => {
                heard.polls += 1;
                let is_news = last > heard.last || heard.failure.is_some();
                heard.last = heard.last.max(last);
                heard.failure = None;
                is_news
            }
            Err(error) => {
                let is_news = heard.failure.is_none();
                heard.failure = Some(Failure::from(&error));
                is_news
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn data_version(connection: &Connection) -> Result<i64, Error> {
    let mut statement = connection.prepare_cached("PRAGMA data_version").map_err(store_error)?;
    statement.query_row([], |row| row.get(0)).map_err(store_error)
}

/// The number of the newest change ever written, 0 before the first.
pub(super) fn last_change(connection: &Connection) -> Result<ChangeNumber, Error> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'changes'";
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let last: Option<i64> = statement.query_row([], |row| row.get(0)).optional().map_err(store_error)?;
    Ok(last.unwrap_or(0).unsigned_abs())
}
