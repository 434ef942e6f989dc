//! X.509 for airunner: CSR checks, profiles, lint, prepare, sign and assemble.
