//! Ids, domain types, errors and ports of airunner.
