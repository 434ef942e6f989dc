//! Circuits: a table that does not answer is not asked for a while, so that callers are told at once instead of each
//! waiting for its time-out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use airunner_core::{Error, Label, Result, StoreMeasures};

use crate::tables::Table;

/// Failures in a row that open a circuit.
const FAILURES: u32 = 5;

/// How long an open circuit refuses before it lets one request through to see.
const REST: Duration = Duration::from_secs(1);

/// The circuit of each table.
pub(super) struct Circuits {
    by_table: Mutex<HashMap<&'static str, Circuit>>,
    measures: Arc<StoreMeasures>,
}

#[derive(Default)]
struct Circuit {
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
        let circuit = circuits.entry(table.name).or_default();
        circuit.failures += 1;
        if circuit.failures >= FAILURES && circuit.open_until.is_none() {
            self.measures.note_answering(table.name, false);
            tracing::error!(table = table.name, "the table does not answer");
            circuit.open_until = Some(now() + REST);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<&'static str, Circuit>> {
        self.by_table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "it decides when a dead table is asked again, and nothing that is kept"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}
