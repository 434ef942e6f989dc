//! The client against whole servers.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bed;
mod calls;
mod enrolment;
mod follow;
mod renewal;
