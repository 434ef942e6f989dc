//! The command line of airunner.
