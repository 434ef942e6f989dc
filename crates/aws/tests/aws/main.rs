//! AWS over the wire, through the real SDK, against an emulator: the DynamoDB backend against the conformance suite and
//! what it alone promises, KMS, SSM, Secrets Manager, S3.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bed;
mod faults;
mod hot_keys;
mod key_wrap;
mod kms;
mod large;
mod model;
mod output;
mod parameters;
mod retention;
mod setup;
mod terraform;
mod traffic;
mod world;

use airunner_testkit::{conformance::Fixture, store_conformance};

use crate::world::Place;

store_conformance!(dynamodb, async || {
    let place = Place::new().await;
    let store = place.open();
    Fixture::with(store.stores(), (store, place))
});
