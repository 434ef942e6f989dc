//! What the tests beside it arrange with: tables of their own in the emulator.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use airunner_aws::{DynamoStore, create_tables, tables::TableNames};
use airunner_core::{SecureRandom, Timestamp};
use airunner_store::MemoryStore;
use airunner_testkit::{
    clock::FakeClock,
    conformance::OUTPUT_LIMIT,
    emulator::{Emulator, REGION},
    random::SeededRandom,
};
use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};

pub(crate) const NOW: Timestamp = FakeClock::START;

/// How long the rows of a job are kept.
pub(crate) const JOB_RETENTION: Duration = Duration::from_hours(60 * 24);

/// Tables of one test.
pub(crate) struct Place {
    pub(crate) client: Client,
    pub(crate) names: TableNames,
}

impl Place {
    /// With the tables made.
    pub(crate) async fn new() -> Self {
        let place = Self::empty();
        create_tables(&place.client, &place.names).await.unwrap();
        place
    }

    /// With names alone.
    pub(crate) fn empty() -> Self {
        static PLACES: AtomicU32 = AtomicU32::new(0);
        let names = TableNames::new(&format!("t{}", PLACES.fetch_add(1, Ordering::Relaxed)), "test");
        Self { client: client(Emulator::shared().endpoint()), names }
    }

    pub(crate) fn open(&self) -> DynamoStore {
        self.open_with(self.client.clone())
    }

    pub(crate) fn open_with(&self, client: Client) -> DynamoStore {
        let output = MemoryStore::new(OUTPUT_LIMIT).stores().output;
        let random = Arc::new(SeededRandom::new(3));
        DynamoStore::open(client, self.names.clone(), random, output, JOB_RETENTION)
    }

    /// The full name of a table.
    pub(crate) fn name(&self, table: &str) -> String {
        format!("{}_{table}", self.names.stem())
    }
}

/// Randomness for tests that don't care which.
pub(crate) fn random() -> &'static dyn SecureRandom {
    static RANDOM: SeededRandom = SeededRandom::new(11);
    &RANDOM
}

/// A client of the emulator at `endpoint`.
pub(crate) fn client(endpoint: &str) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .build();
    Client::from_conf(config)
}
