//! The use cases of airunner, its authentication and its authorization policy.
