//! The conformance suite against both backends, and what SQLite and segment files alone promise.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod full;
mod hand;
mod kill;
mod line;
mod model;
mod open;
mod segments;
mod two;
mod world;

use airunner_store::MemoryStore;
use airunner_testkit::{
    conformance::{Fixture, OUTPUT_LIMIT},
    store_conformance,
};

use crate::world::Place;

store_conformance!(memory, async || MemoryStore::new(OUTPUT_LIMIT).stores());
store_conformance!(sqlite, async || {
    let place = Place::new();
    let store = place.open();
    Fixture::with(store.stores(), (store, place))
});
