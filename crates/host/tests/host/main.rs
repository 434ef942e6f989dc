//! Environments made, found, opened and repaired, on real files.

mod bed;
mod local;
mod memory;
