//! TLS profiles, hot-reloading certificates and the listener, shared by server, client and bench.
