//! Repositories of jobs: on this machine, behind a server, kept between jobs, and for those who may alone.

mod access;
mod cache;
mod local;
mod origin;
#[expect(dead_code, reason = "the suite of isolation shares it, and needs the rest")]
mod server;
mod ssh;
