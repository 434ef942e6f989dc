/// The proto files, in the order of the descriptor set.
pub const FILES: &[&str] = &[
    "airunner/audit/v1/audit.proto",
    "airunner/authz/v1/options.proto",
    "airunner/ca/v1/certificate.proto",
    "airunner/ca/v1/enrollment.proto",
    "airunner/ca/v1/issuer.proto",
    "airunner/http/v1/options.proto",
    "airunner/job/v1/events.proto",
    "airunner/job/v1/job.proto",
    "airunner/principal/v1/principal.proto",
];
