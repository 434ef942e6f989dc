//! Environments made, found, opened and repaired, on real files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bed;
#[cfg(feature = "aws")]
mod cloud;
mod local;
mod memory;
