//! The real binary, as a process of its own over a file: what befalls it from outside.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "aws")]
mod aws_fleet;
mod bed;
mod clock;
mod denial;
mod disk;
mod embedded;
mod silence;
