//! Rotation and the worker against whole servers.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bed;
mod connection;
mod ending;
mod git;
mod process;
mod rotation;
mod running;
