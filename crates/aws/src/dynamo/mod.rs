//! The DynamoDB backend: the rows that intents run over, read by primary key and consistently, and written in one
//! transaction that holds only if what was read still stands. An intent that met another's writes decides anew.

mod certificate;
mod change;
mod circuit;
mod error;
mod item;
mod job;
mod job_parts;
mod key;
mod lineage;
mod link;
mod listing;
mod principal;
mod queue;
mod registry;
mod retention;
mod server;
mod setup;
mod traffic;
mod transaction;

use std::{sync::Arc, time::Duration};

use airunner_core::{ChangeNumber, Error, Intent, OutputStore, Result, SecureRandom, ServerRow, Stores};
use airunner_store::backend::{Engine, Rows, stores};
use aws_sdk_dynamodb::Client;

use self::{
    error::{Fault, contended},
    link::Link,
    transaction::Transaction,
};
use crate::tables::TableNames;

pub use setup::{check_tables, create_tables};

/// How often an intent is run before it is told that the record is contended.
const ATTEMPTS: u32 = 40;

/// The longest wait between two of them.
const LONGEST: Duration = Duration::from_millis(100);

/// How long a server may go without asking whether something changed.
const POLL: Duration = Duration::from_millis(250);

/// A store in DynamoDB tables. Any number of servers may have the same tables open.
pub struct DynamoStore {
    stores: Stores,
}

impl DynamoStore {
    /// The store in the tables that `names` are, which must be there (see [`check_tables`]), with output in `output`.
    /// Rows of a job may go `job_retention` after its end. Must be called on a tokio runtime.
    pub fn open(
        client: Client,
        names: TableNames,
        random: Arc<dyn SecureRandom>,
        output: Arc<dyn OutputStore>,
        job_retention: Duration,
    ) -> Self {
        let measures = Arc::default();
        let client = traffic::counted(&client);
        let link = Arc::new(Link::new(client, names, random, Arc::clone(&measures), job_retention));
        tokio::spawn(circuit::probe(Arc::downgrade(&link)));
        Self { stores: stores(Arc::new(DynamoEngine { link }), output, measures) }
    }

    /// Its ports.
    pub fn stores(&self) -> Stores {
        self.stores.clone()
    }
}

struct DynamoEngine {
    link: Arc<Link>,
}

impl Engine for DynamoEngine {
    // A revocation writes three rows, the end of a job up to four, and a transaction holds a hundred.
    const BATCH: usize = 24;
    const TELLS_OF_EDITS: bool = false;

    async fn write<T: Send + 'static>(
        &self,
        intent: Intent,
        mut act: impl FnMut(&mut dyn Rows) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let link = self.link.clone();
        blocking(move || traffic::noted(&link.measures, intent, || run(&link, intent, &mut act))).await
    }

    async fn read<T: Send + 'static>(
        &self,
        intent: Intent,
        act: impl FnOnce(&dyn Rows) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let link = self.link.clone();
        let act = move || {
            let rows = DynamoRows::over(Transaction::reading(link.clone()));
            traffic::noted(&link.measures, intent, || act(&rows))
        };
        blocking(act).await
    }

    async fn changed(&self, known: ChangeNumber) -> Result<()> {
        let mut heard = self.link.heard.subscribe();
        // Neither the time-out nor a sender that went away is news.
        let _ = tokio::time::timeout(POLL, heard.wait_for(|last| *last > known)).await;
        Ok(())
    }
}

/// Runs an intent until its commit meets nobody.
fn run<T>(link: &Arc<Link>, intent: Intent, act: &mut impl FnMut(&mut dyn Rows) -> Result<T>) -> Result<T> {
    for attempt in 0..ATTEMPTS {
        let mut rows = DynamoRows::over(Transaction::writing(link.clone(), intent, attempt));
        let result = act(&mut rows)?;
        let last = rows.last_change_seen();
        match rows.tx.commit() {
            Ok(()) => {
                if let Some(last) = last {
                    link.hear(last);
                }
                return Ok(result);
            }
            Err(Fault::Throttled(error)) if attempt + 1 == ATTEMPTS => return Err(error),
            Err(Fault::Met | Fault::Throttled(_)) => {}
            Err(fault) => return Err(fault.error()),
        }
        link.wait(tokio::time::sleep(pause(&*link.random, attempt)));
    }
    Err(contended())
}

/// Intents wait for the store between their steps, on threads that may.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(act).await.unwrap_or_else(|_| Err(Error::internal("an intent panicked")))
}

/// Between nothing and twice as long as the time before, so that those that met part.
fn pause(random: &dyn SecureRandom, attempt: u32) -> Duration {
    let longest = (Duration::from_millis(4) * 2_u32.saturating_pow(attempt.min(10))).min(LONGEST);
    longest.mul_f64(f64::from(random.array::<1>()[0]) / 255.0)
}

/// The rows of one intent.
struct DynamoRows {
    tx: Transaction,
    /// The row of a server that this transaction writes.
    own_heartbeat: Option<ServerRow>,
}

impl DynamoRows {
    fn over(tx: Transaction) -> Self {
        Self { tx, own_heartbeat: None }
    }
}

impl Rows for DynamoRows {}
