//! The DynamoDB backend against the conformance suite, and what it alone promises: over the wire, through the real SDK,
//! against an emulator.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod faults;
mod hot_keys;
mod setup;
mod traffic;
mod world;

use airunner_testkit::{conformance::Fixture, store_conformance};

use crate::world::Place;

store_conformance!(dynamodb, async || {
    let place = Place::new().await;
    let store = place.open();
    Fixture::with(store.stores(), (store, place))
});
