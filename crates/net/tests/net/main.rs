//! The TLS and connection rules, on real sockets, with our own client and with openssl.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bed;
mod ca;
mod openssl;
mod places;

mod certificates;
mod connections;
mod http;
mod profiles;
mod proxy;
mod reload;
