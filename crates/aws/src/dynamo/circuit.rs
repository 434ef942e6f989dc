//! Circuits: a table that does not answer is not asked for a while, so that callers are told at once instead of each
//! waiting for its time-out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use airunner_core::{Error, Label, Result, StoreMeasures};

use super::{
    error::fault,
    key::{Range, RowKey},
    link::Link,
    transaction::noted,
};
use crate::tables::{Kind, Table};

/// Failures in a row that open a circuit.
const FAILURES: u32 = 5;

/// How long an open circuit refuses before it lets one request through to see.
const REST: Duration = Duration::from_secs(1);

/// The circuit of each table.
pub(super) struct Circuits {
    by_table: Mutex<HashMap<&'static str, Circuit>>,
    measures: Arc<StoreMeasures>,
}

struct Circuit {
    table: &'static Table,
    failures: u32,
    /// When the next request may see whether the table answers again, while the circuit is open.
    open_until: Option<Instant>,
}

impl Circuits {
    /// Those that are open stand in `measures` too.
    pub(super) fn new(measures: Arc<StoreMeasures>) -> Self {
        Self { by_table: Mutex::default(), measures }
    }

    /// Refuses (`store-unavailable`) what asks a table that has just failed to answer several times.
    pub(super) fn check(&self, table: &Table) -> Result<()> {
        let now = now();
        let mut circuits = self.lock();
        let Some(circuit) = circuits.get_mut(table.name) else { return Ok(()) };
        match circuit.open_until {
            Some(until) if until > now => Err(Error::new(
                Label::StoreUnavailable,
                format!("the table {table} does not answer: try again in a moment"),
            )
            .with_retry_after(REST)),
            Some(_) => {
                // This one goes through; others wait for what becomes of it.
                circuit.open_until = Some(now + REST);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Notes what became of a request.
    pub(super) fn note(&self, table: &'static Table, answered: bool) {
        let mut circuits = self.lock();
        if answered {
            if let Some(circuit) = circuits.remove(table.name)
                && circuit.open_until.is_some()
            {
                self.measures.note_answering(table.name, true);
                tracing::info!(table = table.name, "the table answers again");
            }
            return;
        }
        let new = || Circuit { table, failures: 0, open_until: None };
        let circuit = circuits.entry(table.name).or_insert_with(new);
        circuit.failures += 1;
        if circuit.failures >= FAILURES && circuit.open_until.is_none() {
            self.measures.note_answering(table.name, false);
            tracing::error!(table = table.name, "the table does not answer");
            circuit.open_until = Some(now() + REST);
        }
    }

    /// The tables that did not answer.
    fn open(&self) -> Vec<&'static Table> {
        let circuits = self.lock();
        circuits
            .values()
            .filter(|circuit| circuit.open_until.is_some())
            .map(|circuit| circuit.table)
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<&'static str, Circuit>> {
        self.by_table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks tables that did not answer whether they do again, for as long as the link is there: a server that is not ready for the
/// sake of one of them is sent nobody who would ask it.
pub(super) async fn probe(link: Weak<Link>) {
    loop {
        tokio::time::sleep(REST).await;
        let Some(link) = link.upgrade() else { return };
        for table in link.circuits.open() {
            if link.circuits.check(table).is_ok() {
                ask(&link, table).await;
            }
        }
    }
}

/// Asks for a row that nobody has.
async fn ask(link: &Link, table: &'static Table) {
    let range = table.key.range.map(|range| match range.kind {
        Kind::Text => Range::Text("-"),
        Kind::Number => Range::Number(0),
    });
    let key = RowKey { table, hash: "-", range }.attributes();
    let name = link.name(table);
    let answer = link.client.get_item().table_name(&name).set_key(Some(key)).send().await;
    // What it says is the circuit's business alone.
    let _ = noted(link, table, answer.map_err(|error| fault(error, &name)));
}

#[expect(
    clippy::disallowed_methods,
    reason = "it decides when a dead table is asked again, and nothing that is kept"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}
