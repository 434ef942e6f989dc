//! The conformance suite against both backends, and what SQLite alone promises.

use airunner_store::{MemoryStore, SqliteOptions, SqliteStore};
use airunner_testkit::{
    conformance::{Fixture, OUTPUT_LIMIT},
    store_conformance,
};

store_conformance!(memory, async || MemoryStore::new(OUTPUT_LIMIT).stores());
store_conformance!(sqlite, async || {
    let dir = tempfile::tempdir().unwrap();
    let options = SqliteOptions {
        output_limit: OUTPUT_LIMIT,
        ..SqliteOptions::new(dir.path().join("store.db"), dir.path().join("output"))
    };
    let store = SqliteStore::open(options).unwrap();
    Fixture::with(store.stores(), (store, dir))
});
