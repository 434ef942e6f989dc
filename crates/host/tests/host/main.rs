//! Environments made, found, opened and repaired, on real files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bed;
mod local;
mod memory;
