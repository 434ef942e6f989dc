//! The intents of airunner's stores, the memory and SQLite backends, and output segment files.
//!
//! An intent (`principal.rs`, `certificate.rs`, `job.rs`, …) is written once, over the rows of `rows.rs`; a backend
//! gives the rows (`memory/`, `sqlite/`, and others outside of here by [`backend`]) and runs each intent in one
//! transaction. Output is kept apart (`output/`). No policy is decided here, and no time is read: `now` comes with each
//! intent.

mod audit;
mod certificate;
mod change;
mod engine;
mod enrollment;
mod event;
mod input;
mod issuance;
mod issuer;
mod job;
mod keyring;
mod likeness;
mod line;
mod memory;
pub mod output;
mod paging;
mod principal;
mod reference;
mod request;
mod rows;
mod server;
mod sqlite;
mod transition;

pub use memory::MemoryStore;
pub use sqlite::{SqliteOptions, SqliteStore};

/// What a backend gives and gets: the rows that intents run over, an engine that runs them, and what they share.
pub mod backend {
    pub use crate::{
        certificate::serial_taken,
        engine::{Engine, stores},
        job::control,
        likeness::alike,
        line::{LAST_IN_LINE, MAX_LANES, delayed, due_at, in_line, place, rank_of},
        reference::{read as read_reference, write as write_reference},
        rows::*,
    };
}
