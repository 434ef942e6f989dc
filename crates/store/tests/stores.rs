//! The conformance suite against both backends, and what SQLite alone promises.

use airunner_store::MemoryStore;
use airunner_testkit::{conformance::OUTPUT_LIMIT, store_conformance};

store_conformance!(memory, async || MemoryStore::new(OUTPUT_LIMIT).stores());
