//! Listeners, TLS, router, gRPC services and their wiring.
