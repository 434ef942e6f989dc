//! What strangers may try at each door, with the very bytes, against a server in a process of its own. Each is answered
//! as docs/security/hostile-inputs.md says; afterwards the same process serves the next caller, and has not grown.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod csr;
mod grpc;
mod header;
mod http1;
mod http2;
mod json;
mod page;
mod path;
mod target;
mod text;
mod tls;
mod wire;
