//! The memory and SQLite backends of airunner's stores, and output segment files.
