//! Repositories of jobs: on this machine, behind a server, kept between jobs, and for those who may alone.

mod access;
mod cache;
mod local;
mod origin;
mod server;
mod ssh;
