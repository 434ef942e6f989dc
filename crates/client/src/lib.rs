//! The Rust client library of airunner: connect, enrol, rotate, typed calls.
