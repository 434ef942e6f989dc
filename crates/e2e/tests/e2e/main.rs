//! What a whole server does, from outside.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod clock;
mod connect;
mod cross_site;
mod denial;
mod escalation;
mod hostile;
mod job_certificates;
mod job_rest;
mod jobs;
mod json;
mod lifecycle;
mod limits;
mod lines;
mod listeners;
mod matrix;
mod metrics;
mod openapi;
mod order;
mod output;
mod packing;
mod permissions;
mod queue;
mod servers;
mod sizes;
mod slow;
mod tls;
mod worker;
