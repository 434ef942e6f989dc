//! What fuzzers run: for each kind of bytes that strangers send, one function that reads them as the product does, and
//! panics where a property does not hold. Where the bytes come from is not decided here: libFuzzer brings them in
//! `fuzz/`, a seeded generator in this crate's tests.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a property that does not hold is a panic"
)]

pub mod certificate;
pub mod csr;
pub mod frame;
pub mod json;
mod material;
pub mod mutate;
pub mod page;
pub mod path;
mod refusal;
pub mod token;
mod transcoded;

/// A kind of input.
pub struct Target {
    /// Its name: of the binary in `fuzz/`, and of the folder of its corpus.
    pub name: &'static str,
    /// Reads one input.
    pub run: fn(&[u8]),
    /// Inputs to begin with, some of them good; made anew by each process, since keys are.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many inputs take a second or two without optimisation.
    pub rounds: u32,
}

/// Every kind.
pub const TARGETS: [Target; 7] = [
    Target { name: "csr", run: csr::run, seeds: csr::seeds, rounds: 60_000 },
    Target { name: "certificate", run: certificate::run, seeds: certificate::seeds, rounds: 60_000 },
    Target { name: "token", run: token::run, seeds: token::seeds, rounds: 200_000 },
    Target { name: "json", run: json::run, seeds: json::seeds, rounds: 150_000 },
    Target { name: "path", run: path::run, seeds: path::seeds, rounds: 200_000 },
    Target { name: "frame", run: frame::run, seeds: frame::seeds, rounds: 15_000 },
    Target { name: "page", run: page::run, seeds: page::seeds, rounds: 15_000 },
];
