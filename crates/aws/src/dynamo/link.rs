//! What every transaction shares: the client, the tables' names, and what this process knows of the store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use airunner_core::{ChangeNumber, SecureRandom, StoreMeasures, Timestamp};
use aws_sdk_dynamodb::Client;
use tokio::{runtime::Handle, sync::watch};

use super::{circuit::Circuits, queue::Queues};
use crate::tables::{Table, TableNames};

/// Bits of a row's number that are not its time.
const BITS: u32 = 20;

/// The least number of a row that comes at `at`.
pub(super) fn number_at(at: Timestamp) -> i64 {
    at.as_millis() << BITS
}

pub(super) struct Link {
    pub(super) client: Client,
    pub(super) names: TableNames,
    pub(super) random: Arc<dyn SecureRandom>,
    pub(super) circuits: Circuits,
    pub(super) measures: Arc<StoreMeasures>,
    pub(super) queues: Queues,
    /// How long after its end the rows of a job are kept.
    pub(super) job_retention: Duration,
    /// The newest change that this process has written or read.
    pub(super) heard: watch::Sender<ChangeNumber>,
    runtime: Handle,
    arrivals: AtomicU32,
}

impl Link {
    /// Must be called on a runtime.
    pub(super) fn new(
        client: Client,
        names: TableNames,
        random: Arc<dyn SecureRandom>,
        measures: Arc<StoreMeasures>,
        job_retention: Duration,
    ) -> Self {
        // Servers that start with different counts seldom draw the same number.
        let arrivals = AtomicU32::new(u32::from_be_bytes(random.array()));
        Self {
            client,
            names,
            random,
            circuits: Circuits::new(measures.clone()),
            measures,
            queues: Queues::default(),
            job_retention,
            heard: watch::Sender::new(0),
            runtime: Handle::current(),
            arrivals,
        }
    }

    pub(super) fn name(&self, table: &Table) -> String {
        self.names.of(table)
    }

    /// Wakes whoever waits for a change before this one.
    pub(super) fn hear(&self, last: ChangeNumber) {
        self.heard.send_if_modified(|known| {
            let is_newer = last > *known;
            *known = last.max(*known);
            is_newer
        });
    }

    /// A number for a row that comes at `at`: it grows with time, and within a millisecond with what this process writes.
    pub(super) fn number(&self, at: Timestamp) -> i64 {
        let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed) & ((1 << BITS) - 1);
        number_at(at) | i64::from(arrival)
    }

    /// Waits for the store, on a thread that may block.
    pub(super) fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }
}
