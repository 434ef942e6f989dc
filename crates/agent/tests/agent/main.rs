//! Rotation and the worker against whole servers.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the suite of isolation shares it, and needs the rest")]
mod bed;
mod connection;
mod ending;
mod repository;
mod rotation;
mod running;
