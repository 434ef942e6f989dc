//! Compile-time proofs that unauthorized code does not compile; in a crate of its own so that no test feature is on.
