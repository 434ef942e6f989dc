//! The one thread that writes: it takes all intents that wait and commits them as one group, without lingering.
//! Whoever waits is answered after the commit.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use airunner_core::{Error, Label, Result};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    error::{Failure, store_error},
    feed::Feed,
    queue::Queue,
    rows::SqliteRows,
};
use crate::rows::Rows;

/// Intents that wait at most; who comes later is told to try again.
pub(super) const QUEUE_LIMIT: usize = 4_096;

/// An intent in the queue, with who waits for it.
pub(super) trait Intent: Send {
    /// Runs it. Its result is kept until it is answered.
    fn run(&mut self, rows: &mut SqliteRows<'_>);
    /// Why it failed, if it did.
    fn failure(&self) -> Option<Failure>;
    /// Answers with the result, or with why the group was not committed.
    fn answer(self: Box<Self>, failure: Option<&Failure>);
}

pub(super) struct Waiting<T, F> {
    act: Option<F>,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Waiting<T, F>
where
    T: Send + 'static,
    F: FnMut(&mut dyn Rows) -> Result<T> + Send + 'static,
{
    pub(super) fn boxed(act: F, reply: oneshot::Sender<Result<T>>) -> Box<dyn Intent> {
        Box::new(Self { act: Some(act), result: None, reply })
    }
}

impl<T, F> Intent for Waiting<T, F>
where
    T: Send,
    F: FnMut(&mut dyn Rows) -> Result<T> + Send,
{
    fn run(&mut self, rows: &mut SqliteRows<'_>) {
        let Some(mut act) = self.act.take() else { return };
        // A bug in one intent must not take the writer, and with it every other, away.
        let result = catch_unwind(AssertUnwindSafe(|| act(rows)));
        self.result = Some(result.unwrap_or_else(|_| Err(Error::internal("an intent panicked"))));
    }

    fn failure(&self) -> Option<Failure> {
        self.result.as_ref().and_then(|result| result.as_ref().err()).map(Failure::from)
    }

    fn answer(self: Box<Self>, failure: Option<&Failure>) {
        let result = match (failure, self.result) {
            (Some(failure), _) => Err(failure.error()),
            (None, Some(result)) => result,
            (None, None) => Err(Error::internal("an intent was not run")),
        };
        // Whoever went away meanwhile needs no answer; what was written stays written.
        let _ = self.reply.send(result);
    }
}

/// Serves the queue until it is closed and empty.
pub(super) fn serve(connection: &Connection, queue: &Queue<Box<dyn Intent>>, feed: &Arc<Feed>) {
    loop {
        let mut group: Vec<_> = queue.pop_all().into();
        if group.is_empty() {
            break;
        }
        let committed = commit(connection, &mut group, feed);
        if let Err(failure) = &committed {
            roll_back(connection);
            tracing::warn!(intents = group.len(), cause = failure.cause(), "a group of writes failed");
        }
        for intent in group {
            intent.answer(committed.as_ref().err());
        }
    }
    // Readers may have the file open still; then their going takes nothing into it.
    let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
    if let Err(error) = connection.query_row(sql, [], |_| Ok(())) {
        tracing::debug!(%error, "the log was left to the next start");
    }
}

fn commit(connection: &Connection, group: &mut [Box<dyn Intent>], feed: &Feed) -> Result<(), Failure> {
    run(connection, "BEGIN IMMEDIATE")?;
    let mut rows = SqliteRows::new(connection);
    for intent in group {
        let before = connection.total_changes();
        intent.run(&mut rows);
        if let Some(failure) = intent.failure() {
            check_unspoilt(connection, before, failure)?;
        }
    }
    run(connection, "COMMIT")?;
    if rows.changed_authority() {
        feed.hear(connection);
    }
    Ok(())
}

/// A refused intent has written nothing, by the rule that intents check before they write. If one has all the same,
/// or SQLite gave the transaction up, nothing of the group may be kept.
fn check_unspoilt(connection: &Connection, before: u64, failure: Failure) -> Result<(), Failure> {
    if connection.total_changes() == before && !connection.is_autocommit() {
        return Ok(());
    }
    if matches!(failure.label(), Label::StoreFull | Label::StoreUnavailable) {
        return Err(failure);
    }
    let cause = format!("an intent failed after it had written: {}", failure.cause());
    Err(Failure::from(&Error::internal(cause)))
}

fn roll_back(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(failure) = run(connection, "ROLLBACK")
    {
        tracing::error!(cause = failure.cause(), "a group of writes could not be rolled back");
    }
}

fn run(connection: &Connection, sql: &str) -> Result<(), Failure> {
    let ran = connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    ran.map(drop).map_err(|error| Failure::from(&store_error(error)))
}
