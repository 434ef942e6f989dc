//! The command line through its real binary, each test in a home of its own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod authz;
#[cfg(feature = "aws")]
mod aws;
mod bed;
mod bootstrap;
mod completion;
mod doctor;
mod files;
mod frame;
mod isolation;
mod job;
mod job_certificate;
mod job_secret;
mod lists;
mod live;
mod preview;
mod profile;
mod prompt;
mod repository;
#[cfg(feature = "aws")]
mod runbook;
#[path = "../../../agent/tests/agent/repository/server.rs"]
#[expect(dead_code, reason = "the worker's own suite needs the rest")]
mod server;
mod terminal;
