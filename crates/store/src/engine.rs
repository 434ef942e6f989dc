//! Between the ports and the rows: an engine runs an intent in one transaction. No intent is decided here.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use airunner_core::{ChangeNumber, Intent, OutputStore, Result, StoreMeasures, Stores};

use crate::{output::Measured, rows::Rows};

/// Runs intents.
pub trait Engine: Send + Sync + 'static {
    /// Jobs, events or revocations that one transaction holds at most. An intent on more of them, where each stands for
    /// itself, is run in as many transactions as that takes.
    const BATCH: usize;

    /// Whether an edit of a row by hand appends to the change feed by itself.
    const TELLS_OF_EDITS: bool;

    /// Runs an intent alone, and returns once what it wrote is durable. An intent that met another's writes may be run
    /// again from its start, with what it decided the first time forgotten.
    fn write<T: Send + 'static>(
        &self,
        intent: Intent,
        act: impl FnMut(&mut dyn Rows) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Reads what includes every write that has returned.
    fn read<T: Send + 'static>(
        &self,
        intent: Intent,
        act: impl FnOnce(&dyn Rows) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Returns when a change past `known` may exist, or after 250 ms at the latest.
    fn changed(&self, known: ChangeNumber) -> impl Future<Output = Result<()>> + Send;
}

/// The ports of a store: those on rows over `engine`, and `output`, with what they do counted in `measures`.
pub fn stores<E: Engine>(
    engine: Arc<E>,
    output: Arc<dyn OutputStore>,
    measures: Arc<StoreMeasures>,
) -> Stores {
    let ports = Arc::new(Ports { engine, measures: measures.clone(), handed_out: AtomicU64::new(0) });
    Stores {
        principals: ports.clone(),
        certificates: ports.clone(),
        enrollments: ports.clone(),
        issuers: ports.clone(),
        keyring: ports.clone(),
        jobs: ports.clone(),
        events: ports.clone(),
        output: Arc::new(Measured::new(output, measures.clone())),
        audit: ports.clone(),
        changes: ports.clone(),
        servers: ports,
        measures,
    }
}

/// Every port but the one for output, over an engine.
pub(crate) struct Ports<E> {
    engine: Arc<E>,
    measures: Arc<StoreMeasures>,
    /// The newest change that was handed out: `wait` is over at once if there is a newer one.
    handed_out: AtomicU64,
}

impl<E: Engine> Ports<E> {
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        intent: Intent,
        act: impl FnMut(&mut dyn Rows) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.measures.observe(intent, self.engine.write(intent, act)).await
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        intent: Intent,
        act: impl FnOnce(&dyn Rows) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.measures.observe(intent, self.engine.read(intent, act)).await
    }

    pub(crate) async fn changed(&self) -> Result<()> {
        self.engine.changed(self.handed_out.load(Ordering::Acquire)).await
    }

    pub(crate) fn handed_out(&self, number: ChangeNumber) {
        self.handed_out.fetch_max(number, Ordering::AcqRel);
    }
}
