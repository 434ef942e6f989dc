//! What a whole server does, from outside.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::wildcard_imports, reason = "the paths of the calls are the language of these tests")]

mod calls;
mod denial;
mod lifecycle;
mod matrix;
mod servers;
mod worker;
