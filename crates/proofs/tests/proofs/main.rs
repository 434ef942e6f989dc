//! What can't be written at all, which crate may know which, and the rules of the house that no compiler holds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compile;
mod floors;
mod proto;
mod tidy;
