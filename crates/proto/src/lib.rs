//! Generated messages and services of the airunner API, and its descriptor set. Only the `Debug` of messages
//! that hold a secret is written by hand.

#![expect(missing_docs, clippy::all, clippy::pedantic, clippy::allow_attributes, reason = "generated")]

pub mod codec;
mod files;
mod redacted;

pub use files::FILES;

/// The descriptor set of the whole API, custom options included.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.binpb"));

/// Who may call what.
pub mod principal {
    pub mod v1 {
        tonic::include_proto!("airunner.principal.v1");
    }
}

/// Certificates and enrolment.
pub mod ca {
    pub mod v1 {
        tonic::include_proto!("airunner.ca.v1");
    }
}

/// Jobs and their events.
pub mod job {
    pub mod v1 {
        tonic::include_proto!("airunner.job.v1");
    }
}

/// The audit log.
pub mod audit {
    pub mod v1 {
        tonic::include_proto!("airunner.audit.v1");
    }
}
