//! The command line of airunner.
pub mod bench;
