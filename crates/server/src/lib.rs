//! The server of airunner: listeners, TLS, router, gRPC services and their wiring. Rules are in `airunner-app`.

pub mod connection;
pub mod db;
pub mod embedded;
pub mod error;
pub mod error_catalogue;
pub mod grpc;
pub mod job_rest;
pub mod json;
pub mod method;
pub mod metrics;
pub mod openapi;
pub mod pem;
pub mod plain;
pub mod router;
pub mod serve;
pub mod start;
pub mod tls;
