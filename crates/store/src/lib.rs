//! The memory and SQLite backends of airunner's stores, and output segment files.
//!
//! An intent (`principal.rs`, `certificate.rs`, `job.rs`, …) is written once, over the rows of `rows.rs`; a backend
//! gives the rows (`memory/`, `sqlite/`) and runs each intent in one transaction. Output is kept apart (`output/`).
//! No policy is decided here, and no time is read: `now` comes with each intent.

mod audit;
mod certificate;
mod change;
mod engine;
mod enrollment;
mod event;
mod issuance;
mod issuer;
mod job;
mod keyring;
mod memory;
mod output;
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
