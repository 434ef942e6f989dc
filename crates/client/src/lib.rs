//! The Rust client library of airunner: connect, enrol, renew, follow jobs, typed calls.
//!
//! A [`Client`] is made from the server's [`Endpoint`], the roots that it trusts and an identity (certificate and key).
//! Its typed services are those of `airunner_proto`; their `tonic::Status` becomes this crate's [`Error`] with `?`.
//! No rule of the server's is repeated here, and no command line is known.

mod backoff;
mod channel;
mod client;
mod deadline;
mod endpoint;
mod enroll;
mod error;
mod follow;
mod identity;
mod renew;

pub use backoff::Backoff;
pub use channel::Channel;
pub use client::{Client, ClientOptions};
pub use endpoint::Endpoint;
pub use enroll::{EnrollOptions, Enrolled, enroll};
pub use error::{Error, Result};
pub use follow::{FollowFrom, FollowOptions, Followed, follow_job};
pub use identity::{IdentityFiles, IdentitySource, IdentityVersion, LoadedIdentity};
pub use renew::{Renewed, renew};
