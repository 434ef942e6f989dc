//! Between the ports and the rows: an engine runs an intent in one transaction. No intent is decided here.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use airunner_core::{ChangeNumber, Intent, Result, StoreMeasures};

use crate::rows::Rows;

/// Runs intents.
pub(crate) trait Engine: Send + Sync + 'static {
    /// Runs an intent alone, and returns once what it wrote is durable.
    fn write<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut dyn Rows) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Reads from one consistent state, which includes every write that has returned.
    fn read<T: Send + 'static>(
        &self,
        act: impl FnOnce(&dyn Rows) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Returns when a change past `known` may exist, or after 250 ms at the latest.
    fn changed(&self, known: ChangeNumber) -> impl Future<Output = Result<()>> + Send;
}

/// Every port but the one for output, over an engine.
pub(crate) struct Ports<E> {
    engine: Arc<E>,
    measures: Arc<StoreMeasures>,
    /// The newest change that was handed out: `wait` is over at once if there is a newer one.
    handed_out: AtomicU64,
}

impl<E: Engine> Ports<E> {
    pub(crate) fn new(engine: Arc<E>, measures: Arc<StoreMeasures>) -> Self {
        Self { engine, measures, handed_out: AtomicU64::new(0) }
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        intent: Intent,
        act: impl FnOnce(&mut dyn Rows) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.measures.observe(intent, self.engine.write(act)).await
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        intent: Intent,
        act: impl FnOnce(&dyn Rows) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.measures.observe(intent, self.engine.read(act)).await
    }

    pub(crate) async fn changed(&self) -> Result<()> {
        self.engine.changed(self.handed_out.load(Ordering::Acquire)).await
    }

    pub(crate) fn handed_out(&self, number: ChangeNumber) {
        self.handed_out.fetch_max(number, Ordering::AcqRel);
    }
}
