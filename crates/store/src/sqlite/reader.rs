//! The threads that read: each with a connection of its own, each read in a transaction of its own.

use rusqlite::Connection;

use airunner_core::{Error, Result};
use tokio::sync::oneshot;

use super::{error::store_error, queue::Queue, rows::SqliteRows};
use crate::rows::Rows;

/// Reads that wait at most; who comes later is told to try again.
pub(super) const QUEUE_LIMIT: usize = 4_096;

/// A read in the queue.
pub(super) type Read = Box<dyn FnOnce(&Connection) + Send>;

/// `act` as a read that answers `reply`.
pub(super) fn read<T: Send + 'static>(
    act: impl FnOnce(&dyn Rows) -> Result<T> + Send + 'static,
    reply: oneshot::Sender<Result<T>>,
) -> Read {
    Box::new(move |connection| {
        // Who no longer waits needs no answer.
        if !reply.is_closed() {
            let _ = reply.send(in_transaction(connection, act));
        }
    })
}

/// Serves the queue until it is closed and empty.
pub(super) fn serve(connection: &Connection, queue: &Queue<Read>) {
    while let Some(read) = queue.pop() {
        // A bug in one read must not take the thread away; its caller sees that no answer comes.
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(connection)));
        if ran.is_err() {
            tracing::error!("a read panicked");
        }
        if !connection.is_autocommit() {
            let _ = run(connection, "ROLLBACK");
        }
    }
}

fn in_transaction<T>(connection: &Connection, act: impl FnOnce(&dyn Rows) -> Result<T>) -> Result<T> {
    run(connection, "BEGIN")?;
    let result = act(&SqliteRows::new(connection));
    run(connection, "COMMIT")?;
    result
}

fn run(connection: &Connection, sql: &str) -> Result<(), Error> {
    let ran = connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    ran.map(drop).map_err(store_error)
}
