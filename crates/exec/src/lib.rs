//! Runs a process in a group of its own, and leaves nothing of it behind.
